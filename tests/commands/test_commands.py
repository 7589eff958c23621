"""Every command explains itself, stands in a page, and answers `--help` without loading what it does not need."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from edgekd.cli import VERBS, cli
from edgekd.data import Recording
from edgekd.evaluation.score_model import score_model

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "onnx", "onnxruntime", "sklearn", "scipy", "matplotlib", "pyarrow", "rich"}


def command(verb: str) -> click.Command:
    group, *rest = verb.split()
    found = cli.get_command(click.Context(cli), group)
    for name in rest:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    return found


FLEET = ("fleet distill", "fleet report", "fleet drift")


@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "fleet"), *FLEET])
def test_help_ends_with_an_example_that_the_command_takes(verb: str) -> None:
    result = CliRunner().invoke(cli, [*verb.split(), "--help"])
    assert result.exit_code == 0
    text, found = result.stdout, command(verb)
    examples = [line.strip() for line in (found.help or "").splitlines() if line.strip().startswith("edgekd ")]
    assert "Example:" in text
    assert examples
    known = {flag for parameter in found.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for example in examples:
        words = example.split()
        assert words[: 1 + len(verb.split())] == ["edgekd", *verb.split()]
        assert {word for word in words if word.startswith("-") and not word[1:].isdigit()} <= known, example
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{verb} {parameter.opts}: says nothing of what it is for"


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_shows_the_command(verb: str) -> None:
    """`tests/docs/` holds what is shown against what there is."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [line.strip() for page in pages for line in page.read_text().splitlines()]
    assert any(line.startswith(f"edgekd {verb} ") for line in lines), f"no page shows `edgekd {verb}`"


def test_what_users_type_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "edgekd export student.pt --int8" in readme
    assert "edgekd-run --model student.onnx --serial /dev/ttyUSB0" in readme
    assert "pip install 'edgekd[onnx,serial]'" in readme


def test_one_line_for_each_verb_in_the_groups_own_help() -> None:
    text = CliRunner().invoke(cli, ["--help"], terminal_width=110).stdout
    for verb, words in VERBS.items():
        assert any(line.split()[:1] == [verb] and words[:20] in line for line in text.splitlines())


def test_help_loads_nothing_heavy() -> None:
    program = f"""
import sys
from edgekd.cli import VERBS, cli
for words in (["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)):
    cli.main(words, standalone_mode=False)
loaded = {HEAVY!r} & set(sys.modules)
sys.exit(f"loaded for --help: {{loaded}}" if loaded else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_state_runs_across_entities_where_it_is_asked_for(
    tiny_recording: Recording, tiny_exported: dict[str, Path], tiny_student: Path
) -> None:
    two = replace(tiny_recording, starts=(0, 500), entities=("a", "b"))
    for file in (tiny_student, tiny_exported["float32"]):
        reset, through = score_model(file, two), score_model(file, two, one_stream=True)
        whole = score_model(file, tiny_recording)
        assert through.recording.starts == two.starts  # alarms are still counted in each entity
        assert np.array_equal(through.scores, whole.scores)
        assert len(reset.scores) < len(whole.scores)

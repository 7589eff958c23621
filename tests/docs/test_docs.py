"""Pages cannot rot: what README.md and docs/ show is run, or is at least there to be run."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import pytest
from click.testing import CliRunner
from device import COMMAND, PATIENCE_S, ROOT, events_of, write_csv
from step_models import step_file, step_samples

import edgekd
from bench.pages import filled
from edgekd.cli import cli as edgekd_cli
from edgekd.runtime import Detector, EdgeKDError

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "bench" / "results"
FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OLD = ("edgekd-run --config", "edgekd-run --config FILE")
"""What a page says that 0.1.0 had."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Shown:
    """One command line of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def lines_of(text: str) -> Iterator[str]:
    """What looks like a command line: in fenced or indented code, and between backticks."""
    prose = FENCED.sub("", text)
    for _, code in FENCED.findall(text):
        yield from code.splitlines()
    yield from (line for line in prose.splitlines() if line.startswith("    "))
    yield from (code for code in re.findall(r"`([^`]+)`", prose.replace("\n", " ")) if " " in code)


def commands_of(page: Path) -> Iterator[Shown]:
    """The commands of a page that are EdgeKD's, make's, Python's or pip's."""
    for line in lines_of(page.read_text()):
        line = line.strip().removeprefix("$ ")
        if line in OLD or not re.search(r"\b(edgekd|edgekd-run|edgekd-gateway|make|python -m|pip install) ", line):
            continue
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "[]{}=#:,…"
        lexer.commenters = ""
        try:
            tokens = list(lexer)
        except ValueError:  # prose with an apostrophe
            continue
        for token in [*tokens, ";"]:
            if token in ("|", "&&", ";", ">", "#"):
                if words and words[0] in CHECKS:
                    yield Shown(named(page), tuple(words))
                words = []
            else:
                words.append(token)


def parsed(command: click.Command, words: tuple[str, ...]) -> dict[str, Any]:
    """What a command makes of its words, whether its files are there or not; raises where it does not take them."""
    context = click.Context(command)
    with mock.patch.object(click.Path, "convert", lambda self, value, *_: value):
        command.parse_args(context, list(words))
    return context.params


def check_edgekd(words: tuple[str, ...]) -> None:
    command = edgekd_cli.get_command(click.Context(edgekd_cli), words[1])
    assert command is not None, f"edgekd has no {words[1]}"
    words = words[1:]
    while isinstance(command, click.Group) and len(words) > 1:
        command = command.commands[words[1]]
        words = words[1:]
    if len(words) == 1:  # it is only named
        return
    given = parsed(command, words[1:])
    if words[0] == "distill":
        from edgekd.distillation import configure

        *_, config = configure(given["method"], given["preset"], {})
        assert {text.partition("=")[0] for text in given["settings"]} <= set(vars(config))


def check_edgekd_run(words: tuple[str, ...]) -> None:
    from edgekd.runtime.cli import cli

    parsed(cli, words[1:])


def check_edgekd_gateway(words: tuple[str, ...]) -> None:
    from edgekd.runtime.gateway.cli import cli

    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, f"edgekd-gateway has no {words[1]}"
    if len(words) > 2 or words[1] == "init":
        parsed(command, words[2:])


def check_make(words: tuple[str, ...]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        pattern = rf"^{name} \?=" if equals else rf"^{name}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile has no {name}"


def check_python(words: tuple[str, ...]) -> None:
    if words[1:2] != ("-m",) or words[2].split(".")[0] not in ("bench", "examples", "edgekd"):
        return
    spec = importlib.util.find_spec(words[2])
    assert spec is not None and spec.origin is not None, f"there is no {words[2]}"
    origin = Path(spec.origin)
    source = (origin.with_name("__main__.py") if origin.name == "__init__.py" else origin).read_text()
    for option in (word for word in words[3:] if word.startswith("--")):
        assert f'"{option}"' in source, f"{words[2]} has no {option}"


def check_pip(words: tuple[str, ...]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for word in words[2:]:
        found = re.fullmatch(r"(?:\./)?(edgekd[^\[]*)\[([\w,-]+)\]", word)
        if found:
            assert found[1] in ("edgekd", f"edgekd-{edgekd.__version__}-py3-none-any.whl")
            assert set(found[2].split(",")) <= set(setup["options.extras_require"])


CHECKS: dict[str, Callable[[tuple[str, ...]], None]] = {
    "edgekd": check_edgekd,
    "edgekd-run": check_edgekd_run,
    "edgekd-gateway": check_edgekd_gateway,
    "make": check_make,
    "python": check_python,
    "pip": check_pip,
}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_a_page_tells_to_type_is_there(page: Path) -> None:
    for shown in commands_of(page):
        try:
            CHECKS[shown.words[0]](shown.words)
        except (AssertionError, click.ClickException, EdgeKDError) as error:
            pytest.fail(f"{shown}: {getattr(error, 'message', '') or error}")


def test_commands_are_found_wherever_they_stand() -> None:
    shown = [shown for page in PAGES for shown in commands_of(page)]
    programs = [shown.words[0] for shown in shown]
    assert all(programs.count(name) > 3 for name in CHECKS)
    assert Shown("README.md", ("edgekd", "export", "student.pt", "--int8")) in shown
    assert Shown("README.md", ("edgekd-gateway", "init")) in shown
    assert Shown("README.md", ("edgekd-run", "--model", "student.onnx", "--csv", "faulty.csv")) in shown


@pytest.mark.parametrize(
    "line",
    [
        "edgekd export student.pt --int9",
        "edgekd export student.pt --format onyx",
        "edgekd deploy student.pt",
        "edgekd distill normal.csv --set epoch=1",
        "edgekd distill normal.csv --preset tiny",
        "edgekd-run --modell student.onnx",
        "edgekd-gateway start gateway.toml",
        "make coffee",
        "python -m bench.nothing",
        "python -m bench.regression.grid --seed 1",
        "pip install edgekd[onxx]",
    ],
)
def test_what_is_not_there_is_noticed(line: str) -> None:
    words = tuple(line.split())
    with pytest.raises((AssertionError, click.ClickException, EdgeKDError)):
        CHECKS[words[0]](words)


def test_the_readme_leads_from_a_recording_to_alerts(
    tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands as they stand there; the recordings are short, and so is the training."""
    monkeypatch.chdir(tmp_path)
    sensors = ("--sensors", "4")
    shorter = {"20000": "1200", "8000": "2400"}
    done = []
    for shown in commands_of(README):
        words = [shorter.get(word, word) for word in shown.words]
        if words[:2] == ["edgekd", "distill"]:  # `tiny_student` is what such a command makes
            for part in (tiny_student, tiny_student.with_name("student-teacher.pt")):
                shutil.copy(part, tmp_path)
        elif words[0] == "edgekd" and len(words) > 2:
            more = sensors if words[1] == "simulate" else ()
            result = CliRunner().invoke(edgekd_cli, [*words[1:], *more])
            assert result.exit_code == 0, f"{shown}: {result.output} {result.exception}"
        elif words[0] == "edgekd-run" and "--serial" not in words:
            run = subprocess.run(
                [*COMMAND, *words[1:]],
                env={"PYTHONPATH": str(ROOT), "PATH": "", "XDG_STATE_HOME": str(tmp_path)},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
            assert run.returncode == 0, f"{shown}: {run.stderr}"
            if "--csv" in words:
                assert events_of(run.stdout, "anomaly")
        else:
            continue
        done.append(words[1])
    assert done == ["simulate", "simulate", "look", "distill", "evaluate", "export", "--model", "--model"]


def python_blocks() -> dict[str, list[str]]:
    found = {
        named(page): [code for kind, code in FENCED.findall(page.read_text()) if kind == "python"] for page in PAGES
    }
    return {page: blocks for page, blocks in found.items() if blocks}


def test_python_embeds_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = python_blocks()
    assert set(blocks) == {"README.md", "docs/embedding.md", "docs/methods/regression.md"}
    assert blocks["README.md"] == blocks["docs/embedding.md"]
    step_file(tmp_path / "student.onnx", 3, 4, warmup=8, threshold=0.15)
    samples = step_samples(3, 200)
    told: list[float] = []
    monkeypatch.chdir(tmp_path)
    (code,) = blocks["README.md"]
    exec(code, {"gateway": samples, "notify": lambda score, sensors: told.append(score)})
    want = [verdict.score for verdict in Detector.load("student.onnx").update_block(samples) if verdict.is_anomaly]
    assert told == want and want


def test_python_teaches_the_score_of_a_forest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    write_csv(tmp_path / "normal.csv", np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    (code,) = python_blocks()["docs/methods/regression.md"]
    exec(code.replace('"train")', '"train", period_s=60)'), {})
    assert (tmp_path / "small.pt").exists()


def test_toml_is_a_gateway_s(tmp_path: Path) -> None:
    from edgekd.runtime.gateway.config import read_config

    blocks = [code for page in PAGES for kind, code in FENCED.findall(page.read_text()) if kind == "toml"]
    assert blocks
    for code in blocks:
        (tmp_path / "gateway.toml").write_text(code)
        read_config(str(tmp_path / "gateway.toml"))


def test_keys_of_the_gateway_s_page_are_there() -> None:
    """Those that it gives a value to, and those in the first column of its tables."""
    from edgekd.runtime.gateway.options import GatewayOptions, StreamOptions, keys_of

    text, _, old = FENCED.sub("", (ROOT / "docs" / "gateway.md").read_text()).partition("## Moving over")
    shown = set(re.findall(r"`([a-z-]+) = ", text))
    for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
        shown |= set(re.findall(r"`([a-z-]+)`", row))
    known = {*keys_of(GatewayOptions), *keys_of(StreamOptions)}
    assert len(shown) > 12 and shown <= known and old


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", FENCED.sub("", page.read_text())):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{named(page)}: {target}"
        assert not anchor or anchor in anchors(file), f"{named(page)}: {target}#{anchor}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert not [page for page in PAGES[1:] if str(page.relative_to(ROOT / "docs")) not in navigation]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_tables_are_those_of_the_result_files(page: Path) -> None:
    text = page.read_text()
    assert filled(text) == text, "write them anew with python -m bench.pages"


def figures(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())["figures"]


def test_the_readme_s_five_figures_are_those_of_the_result_files() -> None:
    cost = {row["what"]: row for row in figures("formats") if row["student"] == "smd-1-2"}
    teacher, int8, float32 = cost["teacher (torch)"], cost["student (ONNX int8)"], cost["student (ONNX float32)"]
    of_five = [row for row in figures("lta_on_innovations")["means"] if row["set"] == "mean of five"]
    lta = {row["detector"]: row["VUS-PR"] for row in of_five}
    linear = next(row for row in figures("innovations")["means"] if row["set"] == "mean of five")
    budget = next(row for row in figures("budget_joint")["groups"] if row["machines of"] == "all apart")
    found = {row["detector"]: round(100 * row["strict"]) for row in figures("anomalyllm_tables")["inits"]}
    kills = figures("delivery")["kills"]
    arm = figures("arm64")
    said = [
        f"the teacher of preset `edge` takes {teacher['us a sample']:,.0f} µs a sample",
        f"µs a sample and {teacher['bytes'] / 1e6:.1f} MB",
        f"takes {int8['us a sample']:.0f} µs and {int8['bytes'] / 1e6:.2f} MB",
        f"Over {float32['steps compared']:,} steps the float file's worst score error is 2e-7",
        f"all {len(arm)} runs raise the same alarms",
        f"Over {linear['entities']} recordings of five public sets",
        f"a mean VUS-PR of {lta['joint']:.3f}, its committee of forecast errors alone",
        f"{linear['A + H + S + V']:.3f}, the older linear detectors {linear['linear ensemble']:.3f}",
        f"on {budget['within_3'] * budget['machines']:.0f} of {budget['machines']} machines",
        f"finds {found['pretrained']} % of 60 UCR anomalies with pretrained blocks, "
        f"{found['random-frozen']} % with random",
        f"the matrix profile {found['matrix-profile']} %",
        f"Killed {kills['kills']} times in {kills['samples']:,} samples, the runtime lost none of {kills['events']:,}",
    ]
    readme = " ".join(README.read_text().split())
    assert not [text for text in said if text not in readme]
    assert float32["worst score error"] < 2e-7 and kills["lost"] == 0 and all(row["events equal"] for row in arm)


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split()) <= 900

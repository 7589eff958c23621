"""A .pt that runs code when it is unpickled: every command refuses it in one line, and nothing of it is run."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from device import ROOT

from edgekd.cli import cli
from edgekd.data import Recording, save

COMMANDS = {
    "export": "export evil.pt",
    "inspect": "inspect evil.pt",
    "inspect-json": "inspect evil.pt --json",
    "evaluate": "evaluate evil.pt plant.csv",
    "evaluate-teacher": "evaluate good.pt plant.csv --teacher evil.pt",
    "bench": "bench evil.pt --json",
    "bench-teacher": "bench good.pt --teacher evil.pt --json --rounds 1 --starts 0 --steps 50",
    "distill": "distill plant.csv -o new.pt --preset quick --teacher evil.pt",
    "distill-regression": "distill plant.csv -o new.pt --method regression --teacher good.pt --teacher evil.pt",
    "distill-resume": "distill plant.csv -o left.pt --preset quick --resume",
    "report": "report evil.pt plant.csv",
    "sign": "sign evil.pt --key key.pem",
}


class Payload:
    """Unpickled, it makes a folder `owned` in the working directory."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("owned",)


def as_checkpoint(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def as_old_checkpoint(content: object) -> bytes:
    out = io.BytesIO()
    torch.save(content, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


def steering(content: object) -> bytes:
    """A pickle whose refusal would have to name an escape sequence."""
    plain = as_old_checkpoint(content)
    return plain.replace(b"cposix\nmkdir\n", b"cposix\n\x1b]0;owned\x07\n")


FORMS: dict[str, Callable[[object], bytes]] = {
    "zip": as_checkpoint,
    "old": as_old_checkpoint,
    "pickle": lambda content: pickle.dumps(content),
    "steering": steering,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_student: Path, tiny_recording: Recording) -> Path:
    folder = tmp_path_factory.mktemp("malicious")
    save(tiny_recording, folder / "plant.csv")
    (folder / "good.pt").write_bytes(tiny_student.read_bytes())
    (folder / "left.pt.work").mkdir()
    return folder


def spoil(folder: Path, form: str) -> None:
    """evil.pt, and a training that seems to have been interrupted: whole but for the payload among its weights."""
    whole = torch.load(folder / "good.pt", weights_only=True)
    whole["weights"] = {**whole["weights"], "payload": Payload()}
    (folder / "evil.pt").write_bytes(FORMS[form](whole))
    left = {"name": "teacher", "digest": "0" * 64, "history": [], "best": Payload()}
    (folder / "left.pt.work" / "teacher.training").write_bytes(FORMS[form](left))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_what_is_in_a_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str, form: str
) -> None:
    from edgekd.cli import main

    spoil(folder, form)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["edgekd", *COMMANDS[command].split()])
    if command == "sign":
        pytest.importorskip("cryptography")
        if not (folder / "key.pem").exists():
            cli.main(["sign", "--new-key", "key.pem"], standalone_mode=False)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    assert ended.value.code == 3, said
    assert said.out == ""
    *before, last = said.err.splitlines()
    assert last.startswith("edgekd: ") and last.isprintable()
    assert all(line.startswith("note: ") for line in before)
    assert not (folder / "owned").exists()


def stretched(tensor: torch.Tensor) -> torch.Tensor:
    """One row of it, ten billion times."""
    return tensor[:1].expand(10**10, *tensor.shape[1:])


def nested(depth: int) -> list[object]:
    """Two to the power of so many values, in as many lists."""
    inner: list[object] = [0]
    for _ in range(depth):
        inner = [inner, inner]
    return inner


class Allocates:
    """Unpickled, a terabyte."""

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return bytearray, (10**12,)


BOMBS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "replay": (lambda c: c.update(replay_samples=stretched(c["replay_samples"])), "larger than its data"),
    "scores": (lambda c: c.update(normal_scores=stretched(c["normal_scores"])), "larger than its data"),
    "weights": (lambda c: c["weights"].update({k: stretched(w) for k, w in c["weights"].items() if w.dim()}), "larger"),
    "overlap": (lambda c: c.update(normal_scores=torch.zeros(9).as_strided((9, 10**10), (1, 0))), "larger than its"),
    "elsewhere": (lambda c: c.update(histories={"a": [torch.zeros(1).expand(10**10)]}), "larger than its data"),
    "shared": (lambda c: c.update(histories=dict.fromkeys(map(str, range(99)), torch.zeros(10**4))), "larger than its"),
    "sparse": (
        lambda c: c["weights"].update(a=torch.zeros(9).to_sparse()), "it holds torch._utils _rebuild_sparse_tensor",
    ),
    "a number": (lambda c: c.update(metrics={"a": Allocates()}), "it holds __builtin__ bytearray"),
    "nested": (lambda c: c.update(metrics={"a": nested(60)}), "more than 1000000 values"),
    "itself": (lambda c: (found := c["metrics"]).update(a=found), "more than 1000000 values"),
    "surrogates": (lambda c: c["sensors"][0].update(name="\ud800"), "surrogates not allowed"),
    "channels": (lambda c: c["config"].update(channels=1024), "do not belong together"),
    "hop": (lambda c: c["config"].update(lengths=[10, 30, 60], hop=100_000), "a hop is longer than all samples"),
    "bfloat16": (lambda c: c.update(normal_scores=torch.zeros(9, dtype=torch.bfloat16)), "it holds torch BFloat16Stor"),
    "complex": (lambda c: c["weights"].update(a=torch.zeros(9).cfloat()), "it holds torch ComplexFloatStorage"),
    "settings": (lambda c: c["config"].update(judged=["a"] * 10**5), "'config' is missing or wrong"),
    "sensors": (lambda c: c.update(sensors=c["sensors"] * 5000), "'sensors' is missing or wrong"),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_take_more_memory_than_the_file_is_refused(folder: Path, tmp_path: Path, bomb: str) -> None:
    """Without its checks this would take 40 GB and more, or no end."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.runtime.errors import ModelRefused

    spoil, says = BOMBS[bomb]
    whole = torch.load(folder / "good.pt", weights_only=True)
    spoil(whole)
    torch.save(whole, tmp_path / "bomb.pt")
    with pytest.raises(ModelRefused) as refused:
        Checkpoint.load(tmp_path / "bomb.pt").step()
    assert says in str(refused.value) and str(refused.value).isprintable()


def test_an_archive_that_unpacks_to_more_than_it_is(folder: Path, tmp_path: Path) -> None:
    from edgekd.torch_file import load_safely

    with ZipFile(folder / "good.pt") as old, ZipFile(tmp_path / "x.pt", "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ValueError, match="compressed"):
        load_safely(tmp_path / "x.pt")


def test_mutated_checkpoints_are_refused_or_whole(folder: Path, tmp_path: Path) -> None:
    """Few of those that `python -m bench.promises.hostile_models` tries."""
    from bench.promises.hostile import other_mutants
    from edgekd.checkpoint import Checkpoint
    from edgekd.runtime.errors import ModelRefused

    outcomes = []
    for mutant in other_mutants({"checkpoint.pt": (folder / "good.pt").read_bytes()}, 80, seed=1):
        (tmp_path / "x.pt").write_bytes(mutant.data)
        try:
            Checkpoint.load(tmp_path / "x.pt").step()
            outcomes.append("whole")
        except ModelRefused as refused:
            assert str(refused).isprintable()
            outcomes.append("refused")
    assert {"whole", "refused"} == {*outcomes}


def test_the_payload_is_a_real_one(folder: Path, tmp_path: Path) -> None:
    """What the test above would miss if nothing could go off."""
    for form in ("zip", "old"):
        spoil(folder, form)
        program = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
        subprocess.run([sys.executable, "-c", program, folder / "evil.pt"], cwd=tmp_path, check=True, timeout=60)
        (tmp_path / "owned").rmdir()


def test_every_command_that_takes_a_checkpoint_is_tried() -> None:
    """A new command, or a new option for a checkpoint, belongs into COMMANDS."""
    import click

    from edgekd.cli import VERBS

    tried = {words.split()[0] for words in COMMANDS.values()}
    options = {word for words in COMMANDS.values() for word in words.split() if word.startswith("--")}
    for verb in VERBS:
        command = cli.get_command(click.Context(cli), verb)
        assert command is not None
        for parameter in command.params:
            if parameter.name in ("student", "model", "files", "file"):
                assert verb in tried
            if isinstance(parameter, click.Option) and parameter.name in ("teacher", "teachers", "resume"):
                assert set(parameter.opts) & options


def test_words_of_a_checkpoint_cannot_steer_the_terminal(folder: Path, tmp_path: Path) -> None:
    whole = torch.load(folder / "good.pt", weights_only=True)
    evil = "\x1b]0;owned\x07\x1b[2J\u202e[link=file:///etc]x[/link]"
    whole["sensors"][0]["name"] = whole["sensors"][0]["unit"] = evil
    whole.update(preset=evil, edgekd=evil, data={**whole["data"], "source": evil}, metrics={evil: evil})
    whole["threshold"] = {**whole["threshold"], "rule": evil, "data": evil}
    torch.save(whole, tmp_path / "loud.pt")
    done = subprocess.run(
        [sys.executable, "-c", "from edgekd.cli import main; main()", "inspect", tmp_path / "loud.pt"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "\\x1b]0;owned" in done.stdout


def test_kept_scores_that_are_code_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What regression keeps of a large teacher between two runs."""
    from edgekd.checkpoint import Checkpoint
    from edgekd.methods.regression.scorers import StepScorer
    from edgekd.runtime.errors import ModelRefused

    step = Checkpoint.load(folder / "good.pt").step()
    values = np.zeros((300, step.n_sensors), np.float32)
    recording = Recording(values, tuple(f"s{i}" for i in range(step.n_sensors)), 60.0, source="zeros")
    scorer = StepScorer(step, tmp_path)
    scorer(recording)
    (kept,) = tmp_path.glob("scores-*")
    kept.write_bytes(as_checkpoint(Payload()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelRefused, match="remove it"):
        scorer(recording)
    assert not (tmp_path / "owned").exists()

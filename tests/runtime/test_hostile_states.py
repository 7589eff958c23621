"""State files that somebody has changed, their checksums right again: unused and said so, or taken up and harmless.

`python -m bench.promises.hostile_models` is the long form, through the real commands and with outboxes too.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from device import DAY_S, events_of, run, write_csv
from step_models import step_file, step_samples

from bench.promises.hostile import other_mutants
from bench.promises.hostile.state_file import state_change
from edgekd.runtime.episodes import Episodes
from edgekd.runtime.state import StateFile, StateUnusable

N, HOP = 3, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a recording, and the state of a run over it."""
    folder = tmp_path_factory.mktemp("states")
    step_file(folder / "m.onnx", N, HOP, threshold=0.15)
    write_csv(folder / "x.csv", step_samples(N, 120))
    done = run("--model", folder / "m.onnx", "--csv", folder / "x.csv", "--state", folder / "state")
    assert done.returncode == 0
    write_csv(folder / "y.csv", step_samples(N, 160))
    return folder


def test_mutated_states_stop_nothing(folder: Path, tmp_path: Path) -> None:
    from edgekd.runtime import Detector, UsageError

    detector = Detector.load(folder / "m.onnx", probe=False)
    digest, outcomes = detector.manifest.digests.file, set()
    for mutant in other_mutants({"state": (folder / "state").read_bytes()}, 300, seed=1):
        (tmp_path / "state").write_bytes(mutant.data)
        try:
            saved = StateFile(tmp_path / "state", digest).load()
            assert saved is not None
            detector.stream().restore(saved.arrays)
            outcomes.add("taken")
        except (StateUnusable, UsageError) as error:
            assert str(error).isprintable()
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("boot_clock_s", "soon"), ("boot_clock_s", None), ("stream_id", 7), ("episodes", []), ("episodes", None),
        ("episodes", {"start": 1e400, "since": None, "ended": None, "peak": 1.0}),
        ("episodes", {"start": 3, "since": None, "ended": None, "peak": float("nan")}),
        ("threshold", "x"), ("position", [[]]),
    ],
)  # fmt: skip
def test_a_state_whose_words_are_wrong_stops_nothing(folder: Path, tmp_path: Path, part: str, value: object) -> None:
    """Under a checksum that is right."""
    change = state_change(lambda rng, arrays, meta: meta.update({part: value}))
    (tmp_path / "state").write_bytes(change(None, (folder / "state").read_bytes(), ""))  # type: ignore[arg-type]
    done = run("--model", folder / "m.onnx", "--stdin", "--state", tmp_path / "state", input="1,2,3\n" * 40)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert events_of(done.stdout) is not None


def test_an_episode_that_began_after_all_samples_has_a_length() -> None:
    episodes = Episodes()
    episodes.restore({"start": 1e308, "since": None, "ended": None, "peak": 1.0})
    assert episodes.start is not None and math.isfinite(episodes.start * DAY_S)


def test_an_array_that_says_it_is_huge_takes_no_memory(folder: Path, tmp_path: Path) -> None:
    """Compressed, or by its header alone."""
    import io
    import zipfile

    from bench.promises.hostile.state_file import file_of, newest

    digest, _, _ = newest((folder / "state").read_bytes())
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        out, array = io.BytesIO(), io.BytesIO()
        np.lib.format.write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (10**14,)})
        content = array.getvalue() + bytes(10**8 if kind == zipfile.ZIP_DEFLATED else 0)
        with zipfile.ZipFile(out, "w", kind) as archive:
            archive.writestr("samples.npy", content)
        (tmp_path / "state").write_bytes(file_of(digest, out.getvalue()))
        with pytest.raises(StateUnusable, match="cannot be read"):
            StateFile(tmp_path / "state", digest.hex()).load()

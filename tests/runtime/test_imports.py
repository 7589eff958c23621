"""The device half needs numpy, click and an engine, and nothing of the workstation."""

from __future__ import annotations

from pathlib import Path

import pytest
from device import write_csv
from device_only import ENGINES, python
from step_models import step_file, step_samples, with_manifest
from step_tflite import step_tflite

OF_THE_OTHER = {"onnx": ("tflite", "flatbuffer"), "tflite": ("onnx", "protobuf")}  # code of a format


def test_help_needs_nothing_at_all() -> None:
    out = python(
        "sys.argv = ['edgekd-run', '--help']\n"
        "from edgekd.runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'numpy' not in sys.modules\n"
    )
    assert "edgekd-run --model student.onnx --serial /dev/ttyUSB0" in out


@pytest.mark.parametrize("kind", ENGINES)
def test_library_and_command_run_without_the_workstation(tmp_path: Path, kind: str) -> None:
    model, engine = tmp_path / "model", ENGINES[kind]
    if kind == "onnx":
        step_file(model, 3, 4)
    else:
        model.write_bytes(with_manifest(step_tflite(3, 4), 3, 4))
    recording = write_csv(tmp_path / "x.csv", step_samples(3, 40))
    python(
        "import numpy as np, edgekd.runtime\n"
        f"assert '{engine}' not in sys.modules\n"
        "from edgekd.runtime import Detector\n"
        "detector = Detector.load(sys.argv[1])\n"
        "verdicts = [detector.update(np.ones(3)) for _ in range(8)]\n"
        "assert [v is not None for v in verdicts] == [False, False, False, True] * 2\n"
        "own = ' '.join(name for name in sys.modules if name.startswith('edgekd.runtime.'))\n"
        f"assert not any(word in own for word in {OF_THE_OTHER[kind]}), own\n",
        model,
        engine=engine,
    )
    out = python(
        "sys.argv[0] = 'edgekd-run'\nfrom edgekd.runtime.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n",
        "--model",
        model,
        "--csv",
        recording,
        "--scores",
        engine=engine,
    )
    assert out.count('"score"') == 2 * 10  # the kind and the field

"""Innovations as input: what a sensor's own last values do not tell, and nothing of what was never measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekd.blocks.forecast import Stretch
from edgekd.blocks.innovation_input import CLIP, LAGS, InnovationInput
from edgekd.distillation import distill
from edgekd.export import export
from edgekd.simulation.simulate import simulate

WEIGHTS = (0.3, -0.5, 1.1)  # of the samples 3, 2 and 1 before


def driven(samples: int, noise: float, seed: int) -> np.ndarray:
    """(T, 1): an AR(3) about 2."""
    rng = np.random.default_rng(seed)
    x = np.zeros(samples)
    for t in range(LAGS, samples):
        x[t] = x[t - LAGS : t] @ WEIGHTS + noise * rng.normal()
    return (x + 2.0)[:, None].astype(np.float32)


def fitted() -> InnovationInput:
    filter_ = InnovationInput(2)
    pieces = [
        np.hstack([driven(length, 0.01, seed), driven(length, 0.1, seed + 9)])
        for length, seed in ((4000, 0), (6000, 1))
    ]
    filter_.fit(
        [Stretch(torch.from_numpy(piece).double(), torch.ones(len(piece), dtype=torch.bool)) for piece in pieces]
    )
    return filter_


def test_what_drives_a_sensor_is_found() -> None:
    filter_ = fitted()
    assert filter_.weights[:, 0].numpy() == pytest.approx(WEIGHTS, abs=0.05)
    assert filter_.deviation.numpy() == pytest.approx([0.01, 0.1], rel=0.05)


def test_a_sensor_that_comes_back_is_no_anomaly() -> None:
    """While it is missing its values are a constant that was never measured: nothing may be forecast from them."""
    filter_, hop = fitted(), 2
    series = torch.from_numpy(np.hstack([driven(60, 0.01, 5), driven(60, 0.1, 6)]))
    missing = slice(20, 40)
    given = series.clone()
    given[missing, 0] = -5.0
    state = [torch.zeros(shape) for shape in filter_.state_shapes().values()]
    shown = []
    for start in range(0, 60, hop):
        live = torch.tensor([0.0 if missing.start <= start < missing.stop else 1.0, 1.0])
        found, *state = filter_(given[start : start + hop], live, *state)
        shown.append(found)
    found = torch.cat(shown)
    undisturbed = filter_.whole(series, hop)
    assert torch.allclose(found[:, 1], undisturbed[:, 1], atol=1e-5)
    quiet = slice(missing.start, missing.stop + 4)  # two hops, three of whose samples are to forecast from
    assert not found[quiet, 0].any()
    assert torch.allclose(found[quiet.stop :, 0], undisturbed[quiet.stop :, 0], atol=1e-5)
    assert found[quiet.stop :, 0].abs().max() < CLIP


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_an_exported_file_makes_its_own_innovations(kind: str, tmp_path: Path) -> None:
    if kind == "tflite":
        pytest.importorskip("litert_torch")
    normal = simulate(6000, 5, 3, faults=()).recording
    student = distill(normal, tmp_path / "student.pt", preset="ensemble", settings={"input": "innovations"})
    made = export(student, tmp_path / f"student.{kind}", format=kind)
    assert {"lags", "heard"} <= {state.name for state in made.manifest.state}

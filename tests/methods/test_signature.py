"""Signature matrices are the windowed inner products that their definition says, whatever the geometry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.blocks.signature import Geometry, MatrixScaler, SignatureMatrices


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    lengths = sorted(draw(st.sets(st.integers(1, 24), min_size=3, max_size=3)))
    gap, steps, hop = draw(st.integers(1, 8)), draw(st.integers(1, 6)), draw(st.integers(1, 12))
    return Geometry((lengths[0], lengths[1], lengths[2]), gap, steps, hop)


@settings(max_examples=60, deadline=None)
@given(geometry=geometries(), n=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_matrices_are_the_plain_definition(geometry: Geometry, n: int, seed: int) -> None:
    samples = torch.randn(2, geometry.span, n, generator=torch.Generator().manual_seed(seed))
    found = SignatureMatrices(geometry)(samples)
    assert found.shape == (2, geometry.steps, 3, n, n)
    for step in range(geometry.steps):
        end = geometry.span - (geometry.steps - 1 - step) * geometry.gap
        for scale, length in enumerate(geometry.lengths):
            window = samples[:, end - length : end].double()
            plain = window.transpose(1, 2) @ window / length
            assert torch.allclose(found[:, step, scale].double(), plain, rtol=1e-5, atol=1e-5)
    assert torch.allclose(found, found.transpose(-1, -2), atol=1e-6)
    assert torch.linalg.eigvalsh(found.double()).min() > -1e-5


@pytest.mark.parametrize(
    ("window", "lengths", "gap", "block"),
    [
        (800, (80, 240, 480), 80, 10),
        (400, (40, 120, 240), 40, 10),
        (200, (20, 60, 120), 20, 10),
        (100, (10, 30, 60), 10, 10),
        (50, (5, 15, 30), 5, 5),
        (25, (2, 8, 17), 2, 1),
    ],
)
def test_published_input_lengths(window: int, lengths: tuple[int, int, int], gap: int, block: int) -> None:
    geometry = Geometry.from_window(window, hop=50)
    assert (geometry.lengths, geometry.gap, geometry.steps, geometry.block) == (lengths, gap, 5, block)
    assert geometry.span == window


@given(window=st.integers(10, 5000), hop=st.integers(1, 100))
def test_every_input_length_has_three_scales_and_its_own_span(window: int, hop: int) -> None:
    geometry = Geometry.from_window(window, hop)
    assert 0 < geometry.lengths[0] < geometry.lengths[1] < geometry.lengths[2]
    assert geometry.span == window


@pytest.mark.parametrize(
    ("period_s", "lengths"),
    [(0.001, (10, 30, 60)), (1.0, (10, 30, 60)), (60.0, (10, 30, 60)), (300.0, (5, 10, 20)), (86400.0, (5, 10, 20))],
)
def test_lengths_in_physical_time(period_s: float, lengths: tuple[int, int, int]) -> None:
    geometry = Geometry.from_period(period_s)
    assert (geometry.lengths, geometry.gap, geometry.hop) == (lengths, lengths[0], lengths[0])


@given(period_s=st.floats(1e-6, 1e6))
def test_every_period_has_rising_scales_of_whole_blocks(period_s: float) -> None:
    geometry = Geometry.from_period(period_s)
    assert 0 < geometry.lengths[0] < geometry.lengths[1] < geometry.lengths[2] <= 60
    assert all(length % geometry.block == 0 for length in (*geometry.lengths, geometry.gap, geometry.hop))


@pytest.mark.parametrize("mode", ["none", "global", "element"])
def test_standardized_training_windows_have_unit_spread(mode: str) -> None:
    matrices = torch.randn(500, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 7 + 3
    scaler = MatrixScaler(4, mode)
    scaler.fit(matrices.mean(0), matrices.std(0, correction=0))
    scaled = scaler(matrices)
    if mode == "none":
        assert torch.equal(scaled, matrices)
        return
    assert scaled.mean(0).abs().max() < 1e-5
    spread = scaled.square().mean(0) if mode == "element" else scaled.square().mean((0, 2, 3))
    assert torch.allclose(spread, torch.ones_like(spread), atol=1e-4)

"""Every score term: its contributions sum to the score, and sensors that are not live have none and leave no trace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekd.blocks.score_terms import (
    GeometricMean,
    Mahalanobis,
    Residual,
    SamplePCA,
    SignatureEnergy,
    SignaturePCA,
    TopResidual,
)
from edgekd.blocks.signature import MatrixScaler

M = 12  # one percent of the pairs is one and a half elements: the top of the residual is a fraction
RANDOM = torch.Generator().manual_seed(0)
MATRICES = torch.randn(64, 3, M, M, generator=RANDOM)
SAMPLES = torch.randn(400, M, generator=RANDOM)


def fitted(name: str) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    if name == "mahalanobis":
        term: torch.nn.Module = Mahalanobis(M)
        term.fit(SAMPLES.numpy())
    elif name == "sample_pca":
        term = SamplePCA(M, 3)
        term.fit(SAMPLES.numpy())
    elif name == "signature_pca":
        pca = SignaturePCA(M, 5)
        pca.fit(MATRICES.numpy(), seed=0)
        return lambda matrices, live: pca(matrices, MatrixScaler(M, "none"), live)
    elif name == "energy":
        return lambda matrices, live: SignatureEnergy()(matrices, MatrixScaler(M, "none"), live)
    else:
        term = Residual(M) if name == "residual" else TopResidual(M)
        term.fit(MATRICES.square().mean(0))
    return term


TERMS = {name: fitted(name) for name in ("mahalanobis", "sample_pca", "signature_pca", "energy", "residual", "top")}


def shown(name: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 10, M) if name in ("mahalanobis", "sample_pca") else (2, 3, M, M)
    return torch.randn(shape, generator=generator) * 3


@pytest.mark.parametrize("name", TERMS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), alive=st.lists(st.booleans(), min_size=M, max_size=M))
def test_contributions_sum_to_the_score_and_missing_sensors_leave_no_trace(
    name: str, seed: int, alive: list[bool]
) -> None:
    live, values = torch.tensor(alive).float(), shown(name, seed)
    score, shares = TERMS[name](values, live)
    assert score.shape == (2,)
    assert shares.shape == (2, M)
    assert torch.isfinite(score).all()
    assert (shares >= 0).all()
    assert torch.allclose(shares.sum(-1), score, rtol=1e-5, atol=1e-7)
    assert (shares[:, live == 0] == 0).all()
    wild = values.clone()  # what a dead sensor says changes nothing
    wild[..., live == 0] = 99.0
    if values.dim() == 4:
        wild[..., live == 0, :] = -99.0
    assert torch.allclose(TERMS[name](wild, live)[0], score, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", TERMS)
def test_a_window_alone_scores_as_in_a_batch(name: str) -> None:
    live, values = torch.ones(M), shown(name, 5)
    score, shares = TERMS[name](values, live)
    alone = TERMS[name](values[0], live)
    assert torch.allclose(alone[0], score[0], rtol=1e-6)
    assert torch.allclose(alone[1], shares[0], rtol=1e-5, atol=1e-7)


def test_top_residual_is_the_mean_of_the_top_percent() -> None:
    n = 20  # one percent of 400 elements is 4
    residual = torch.arange(400.0).reshape(n, n).sqrt().expand(1, 3, n, n)
    score, _ = TopResidual(n)(residual, torch.ones(n))
    assert score.item() == pytest.approx((399 + 398 + 397 + 396) / 4, rel=1e-6)


def test_mahalanobis_is_the_distance_by_its_definition() -> None:
    centered = SAMPLES.double() - SAMPLES.double().mean(0)
    std = SAMPLES.double().std(0, correction=0)
    correlation = (centered / std).T @ (centered / std) / len(SAMPLES)
    precision = torch.linalg.inv(correlation + 0.01 * torch.eye(M, dtype=torch.float64))
    each = centered[:10] / std
    expected = (each @ precision * each).sum(-1).mean() / M
    score, _ = TERMS["mahalanobis"](SAMPLES[:10], torch.ones(M))
    assert score.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("zero", [(), (0,), (1,), (0, 1)])
def test_geometric_mean_of_terms_that_may_be_zero(zero: tuple[int, ...]) -> None:
    combine = GeometricMean(2)
    combine.fit(np.exp(np.random.default_rng(0).normal([1.0, 5.0], [0.5, 2.0], (200, 2))))
    terms = []
    for i in range(2):
        shares = torch.rand(3, M) * (i + 1) * (0 if i in zero else 1)
        terms.append(shares)
    score, shares = combine(torch.stack(terms, 1))
    assert torch.isfinite(score).all()
    assert torch.isfinite(shares).all() and (shares.sum(-1) <= score * 1.0001).all()
    if not zero:  # what is nothing has no share to give
        assert torch.allclose(shares.sum(-1), score, rtol=1e-4, atol=1e-5)


def test_geometric_mean_of_one_at_the_center_of_training() -> None:
    combine = GeometricMean(2)
    combine.fit(np.array([[2.0, 50.0], [2.5, 60.0], [3.0, 40.0]]))
    assert combine(combine.center[:, None])[0].item() == pytest.approx(1.0, rel=1e-5)

"""The figures of a cell under every protocol, from what it said of each window, and the same of random scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bench.paper_lta.cells import CELLS, Cell, recording
from bench.results import rounded, write_json
from edgekd.blocks.score_terms import TINY
from edgekd.blocks.threshold import MARGIN
from edgekd.checkpoint import Checkpoint
from edgekd.data import Recording
from edgekd.evaluation.chance import random_scores, relaid_labels, same_share
from edgekd.evaluation.events import point_scores
from edgekd.evaluation.metrics import BestPointAdjusted, point_adjusted
from edgekd.evaluation.mscred_count import best_rule, fixed_rule
from edgekd.evaluation.protocols import by_chance, protocols

PROTOCOL = 4
"""Counted up when the figures of the same scores change."""
DRAWS = 20
RELAID = 5  # draws of labels laid out anew, each with the whole search
HOPS = (50, 25, 10, 5, 1)
Spread = tuple[float, float]


def kept(cell: Cell) -> dict[str, Any] | None:
    """The figures of a cell that has been run with these settings, under these protocols."""
    path = cell.file("json")
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if found.get("protocol") == PROTOCOL else None


def measured(cell: Cell, data: Path, checkpoint: Checkpoint, scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every figure of a cell, kept with the results.

    "counts" holds the published decision by its three rules: "best_f1" is chosen by the test labels, "calibrated" takes
    both thresholds from normal windows that did not train, "reference" takes theta from MSCRED's code. "relaid f1" is
    the same search against the labeled segments laid out anew: what scores as slow as these get by chance. "windows"
    is "best_f1" in the second reading, `window_labels`. "scores" holds `protocols` of the mean of the top 1 % squared
    residuals.
    """
    step = checkpoint.step()
    test = recording(data, cell.dataset, "test")
    found = {
        "cell": {key: getattr(cell, key) for key in ("dataset", "row", "window", "seed", "variant")},
        "protocol": PROTOCOL,
        "settings": checkpoint.config,
        "parameters": step.parameters_learned,
        "histories": checkpoint.histories,
        "counts": _counted(test, scores, step.hop) | {"windows": by_windows(test, scores, cell.window)},
        "diagnosis": _diagnosis(test, scores["samples"], scores["scores"], step.hop),
        "scores": protocols(test, scores["samples"], scores["scores"], step.hop, checkpoint.threshold["value"]),
    }
    write_json(cell.file("json"), rounded(found))
    return found


def _counted(test: Recording, scores: dict[str, np.ndarray], hop: int) -> dict[str, Any]:
    samples, counts, thetas = scores["samples"], scores["counts"], scores["thetas"]
    labels = test.labels
    assert labels is not None
    searched = slice(0, len(thetas) - 2)  # the last two are the published and the calibrated one
    search = partial(best_rule, samples=samples, counts=counts[:, searched], thetas=thetas[searched], hop=hop)
    relaid = [search(relaid_labels(labels, draw)).f1 for draw in range(RELAID)]
    rules: dict[str, Any] = {"best_f1": {**asdict(search(labels)), "relaid f1": _spread(relaid)}}
    for name, column in (("reference", -2), ("calibrated", -1)):
        k = MARGIN * float(scores["held_counts"][:, column].max())
        rule = fixed_rule(labels, samples, counts[:, column], float(thetas[column]), k, hop)
        alarms = int((counts[:, column] > k).sum())
        rules[name] = {**asdict(rule), "random f1": _same_share(labels, samples, alarms, hop)}
    return rules


def first_verdict(window: int, hop: int) -> int:
    """The newest sample of the first window that is whole."""
    return -(-window // hop) * hop - 1


def window_labels(labels: np.ndarray, samples: np.ndarray, window: int) -> np.ndarray:
    """Whether any of the `window` newest samples of each verdict is anomalous: bool (V,), of bool (T,), int (V,).

    In the second reading of the published protocol these are the labels, and the windows what is adjusted and counted.
    """
    before = np.concatenate([[0], np.cumsum(labels)])
    return before[samples + 1] > before[np.maximum(samples + 1 - window, 0)]


def by_windows(test: Recording, scores: dict[str, np.ndarray], window: int) -> dict[str, float]:
    """The search for both thresholds in the second reading."""
    assert test.labels is not None
    labels = window_labels(test.labels, scores["samples"], window)
    counts, thetas = scores["counts"][:, :-2], scores["thetas"][:-2]
    return asdict(best_rule(labels, np.arange(len(labels)), counts, thetas, 1))


def _diagnosis(test: Recording, samples: np.ndarray, scores: np.ndarray, hop: int) -> dict[str, float]:
    """What pooling unrelated entities does to the scores.

    Share of the variance of the log scores that lies between entities; the lag-1 correlation of the scores that follow
    each other; point-adjusted F1, best on the test labels, of the scores and of their ranks within each entity.
    """
    labels = test.labels
    assert labels is not None
    entity = np.searchsorted(test.starts, samples, side="right") - 1
    logs = np.log(scores.astype(np.float64) + TINY)
    means, ranks = np.zeros(len(logs)), np.zeros(len(logs))
    for each in np.unique(entity):
        own = entity == each
        means[own], ranks[own] = logs[own].mean(), rankdata(logs[own]) / own.sum()
    found = {
        "between_entities": float(means.var() / logs.var()),
        "lag_1": float(np.corrcoef(logs[1:], logs[:-1])[0, 1]),
    }
    for name, values in (("pa_f1_best", scores), ("pa_f1_best_of_ranks", ranks)):
        found[name] = BestPointAdjusted(labels, point_scores(samples, values, hop, len(labels))[0]).f1()
    return found


def _same_share(labels: np.ndarray, samples: np.ndarray, alarms: int, hop: int) -> Spread:
    """Point-adjusted F1 of as many random alarms."""
    f1 = []
    for draw in range(DRAWS):
        chosen = same_share(random_scores(len(samples), draw), alarms).astype(float)
        f1.append(point_adjusted(labels, point_scores(samples, chosen, hop, len(labels))[0] > 0.5).f1)
    return _spread(f1)


def _spread(values: list[float]) -> Spread:
    return float(np.mean(values)), float(np.std(values, ddof=1))


@lru_cache
def random_figures(data: Path, dataset: str, first: int, hop: int, rankings: int = 30) -> dict[str, Spread]:
    """`by_chance` for the verdicts from sample `first` on, and the best of so many independent rankings as "counts".

    The search over thetas gives a network several rankings of the windows to choose the best of; those are nearly the
    same, so as many independent ones flatter chance more than the search flatters a network. Kept with the results.
    """
    path = CELLS / f"random-{dataset}-from{first}-hop{hop}.json"
    if path.exists():
        return {key: tuple(value) for key, value in json.loads(path.read_text()).items()}
    test = recording(data, dataset, "test")
    labels = test.labels
    assert labels is not None
    samples = np.arange(first, len(test), hop)

    def best(scores: np.ndarray) -> float:
        return BestPointAdjusted(labels, point_scores(samples, scores, hop, len(test))[0]).f1()

    figures = by_chance(test, samples, hop, DRAWS)
    figures["counts"] = _spread(_searched(best, len(samples), rankings))
    write_json(path, rounded(figures))
    return figures


def _searched(best: Callable[[np.ndarray], float], n_verdicts: int, rankings: int) -> list[float]:
    """The best figure of so many rankings of random scores, for each draw."""
    tries = (
        (random_scores(n_verdicts, 1000 + draw * rankings + attempt) for attempt in range(rankings))
        for draw in range(DRAWS)
    )
    return [max(map(best, each)) for each in tries]


@lru_cache
def random_windows(data: Path, dataset: str, window: int, hop: int, rankings: int = 30) -> dict[str, Spread]:
    """F1 of random scores in the second reading: of one ranking, and as "search" the best of so many. Kept."""
    path = CELLS / f"random-{dataset}-windows{window}-hop{hop}.json"
    if path.exists():
        return {key: tuple(value) for key, value in json.loads(path.read_text()).items()}
    test = recording(data, dataset, "test")
    assert test.labels is not None
    labels = window_labels(test.labels, np.arange(first_verdict(window, hop), len(test), hop), window)

    def best(scores: np.ndarray) -> float:
        return BestPointAdjusted(labels, scores).f1()

    figures = {
        "one": _spread([best(random_scores(len(labels), draw)) for draw in range(DRAWS)]),
        "search": _spread(_searched(best, len(labels), rankings)),
    }
    write_json(path, rounded(figures))
    return figures


def random_by_hop(data: Path, dataset: str, window: int) -> list[dict[str, Any]]:
    """Point-adjusted F1 of random scores, their threshold best on the test labels, by the hop between windows."""
    test = recording(data, dataset, "test")
    labels = test.labels
    assert labels is not None
    rows = []
    for hop in HOPS:
        samples = np.arange(first_verdict(window, hop), len(test), hop)
        points = (point_scores(samples, random_scores(len(samples), draw), hop, len(test))[0] for draw in range(5))
        mean, sd = _spread([BestPointAdjusted(labels, each).f1() for each in points])
        rows.append({"set": dataset, "w": window, "hop": hop, "PA F1 of random scores": f"{mean:.3f} ± {sd:.3f}"})
    return rows

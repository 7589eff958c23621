"""The cells of the published tables: run once, and kept by what they are made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.paper_lta import cells as lta_cells
from bench.paper_lta import figures as lta_figures
from bench.paper_lta import tables as lta_tables
from edgekd.data import Recording


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A set of four sensors and two entities in place of the public one; nothing is written with the real results."""
    rng = np.random.default_rng(0)
    values = {part: rng.normal(size=(1600, 4)).astype(np.float32) for part in ("train", "test")}
    labels = np.zeros(1600, bool)
    labels[500:560] = labels[1200:1300] = True
    values["test"][labels] += 3
    recordings = {
        part: Recording(
            values[part], tuple("abcd"), 60.0, labels if part == "test" else None, (0, 800), ("one", "two"), source=part
        )
        for part in values
    }
    for module in (lta_cells, lta_figures):
        monkeypatch.setattr(module, "recording", lambda data, dataset, part: recordings[part])
        monkeypatch.setattr(module, "CELLS", tmp_path)
    monkeypatch.setattr(lta_cells, "TRAINED", tmp_path)
    return lta_cells.Cell("SMAP", "full, GRU", 50, 0, lta_cells.Budget(epochs=1, teacher_epochs=1))


def test_a_cell_is_run_once_and_a_changed_setting_is_another(short, monkeypatch):
    lta_tables.run(short, Path(), "cpu")
    figures = lta_figures.kept(short)
    assert figures["cell"]["row"] == "full, GRU" and figures["settings"]["epochs"] == 1
    assert lta_figures.kept(short.teacher) is None and short.teacher.file("pt").exists()  # taught, not yet measured
    assert figures["counts"]["best_f1"]["f1"] > 0.9 and figures["scores"]["vus_pr"] > 0.5  # nobody could miss those
    assert figures["counts"]["windows"]["f1"] > 0.9

    def trains(*_args, **_more):
        raise AssertionError("trained again")

    monkeypatch.setattr(lta_cells, "distill", trains)
    monkeypatch.setattr(lta_cells, "train_teacher", trains)
    short.file("json").unlink()
    lta_tables.run(short, Path(), "cpu")  # from the scores that are there
    assert lta_figures.kept(short) == figures

    others = [
        replace(short, seed=1),
        replace(short, row="full, RNN"),
        replace(short, window=100),
        replace(short, variant="nested windows"),
        replace(short, budget=replace(short.budget, teacher_epochs=2)),  # through its teacher alone
    ]
    assert all(lta_figures.kept(other) is None for other in others)
    assert len({other.digest for other in [short, *others]}) == 6


def test_in_the_second_reading_every_sample_of_a_window_labels_it():
    labels = np.zeros(40, bool)
    labels[[10, 38]] = True
    samples = np.array([4, 9, 14, 15, 16, 37, 39])
    found = lta_figures.window_labels(labels, samples, 6)
    assert found.tolist() == [False, False, True, True, False, False, True]
    assert lta_figures.window_labels(labels, samples, 100).tolist() == [False, False, True, True, True, True, True]

"""The training loop and the lanes: what counts in a loss, when a training stops, what it keeps, how it resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgekd.blocks.threshold import CALIBRATE, FIT
from edgekd.blocks.training_windows import Lanes, TrainingStream
from edgekd.data import Recording
from edgekd.methods.interface import Training
from edgekd.methods.lta import PRESETS, jobs, train
from edgekd.runtime.errors import GateFailed, ModelRefused, RecordingError, UsageError
from edgekd.torch_file import load_safely
from edgekd.training import fit


def sines(lengths: tuple[int, ...], n: int = 3) -> Recording:
    """Entities of n sensors with noise."""
    t, rng = np.arange(sum(lengths))[:, None], np.random.default_rng(0)
    values = np.sin(t / (5 + 3 * np.arange(n))) + rng.normal(0, 0.05, (len(t), n))
    starts = tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))
    return Recording(
        values.astype(np.float32), tuple(f"s{i}" for i in range(n)), 60.0, starts=starts,
        entities=tuple(f"e{i}" for i in range(len(lengths))), source="sines",
    )  # fmt: skip


# -- lanes -----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    hop=st.integers(1, 20),
    lanes=st.integers(1, 8),
    warm=st.integers(1, 150),
    part=st.sampled_from([FIT, CALIBRATE]),
    stateful=st.booleans(),
)
def test_lanes_train_each_window_once_and_warm(
    lengths: list[int], hop: int, lanes: int, warm: int, part: int, stateful: bool
) -> None:
    recording = sines(tuple(lengths), 1)
    stream = TrainingStream(lambda values: values, recording, recording.bounds, pad=warm, hop=hop)
    try:
        cut = Lanes.cut(stream, part, lanes, warm, stateful)
    except RecordingError:  # nothing would be trained, which it says
        return
    positions, fresh, trained = (rows.numpy() for rows in (cut.positions, cut.fresh, cut.trained))
    part_of, age_of = (dict(zip(stream.positions, values)) for values in (stream.parts, stream.ages))
    chosen = positions[trained]
    assert len(set(chosen)) == len(chosen) > 0
    assert all(part_of[p] == part and age_of[p] >= warm for p in chosen)
    for lane in range(positions.shape[1]):
        seen = 0
        for at in range(positions.shape[0]):
            runs_on = at > 0 and positions[at, lane] - positions[at - 1, lane] == hop
            assert fresh[at, lane] == (not runs_on)
            seen = hop if fresh[at, lane] else seen + hop
            assert not (stateful and trained[at, lane]) or seen >= warm
    if not stateful:  # then no window is lost where lanes are cut
        assert len(chosen) == ((stream.parts == part) & (stream.ages >= warm)).sum()


def test_a_window_never_reaches_into_another_entity() -> None:
    recording = replace(sines((40, 50), 1), values=np.repeat([[1.0], [2.0]], [40, 50], axis=0).astype(np.float32))
    stream = TrainingStream(lambda values: values, recording, recording.bounds, pad=30, hop=10)
    windows = stream.windows(torch.from_numpy(stream.positions), 30)[..., 0]
    for window, age, entity in zip(windows, stream.ages, np.repeat([1.0, 2.0], [4, 5])):
        expected = torch.full((30,), entity)
        expected[: max(0, 30 - age)] = 0.0  # before the start: the cold ring
        assert torch.equal(window, expected)


# -- one training ----------------------------------------------------------------------------------------------------

SMALL = replace(
    PRESETS["quick"], lengths=(4, 8, 16), channels=2, epochs=1, distill=False, lanes=2, recurrence="windowed"
)  # fmt: skip


def trained(config: Any, recording: Recording | None = None) -> dict[str, torch.Tensor]:
    return train(recording or sines((500, 300)), config, Training(seed=3)).step.state_dict()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_accumulators_gradient_does_not_depend_on_the_micro_batch(
    cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SMALL, accumulator=cell)
    monkeypatch.setattr(jobs, "MICRO_BATCH", 3)
    pieces = trained(config)
    monkeypatch.setattr(jobs, "MICRO_BATCH", 1000)
    whole = trained(config)
    torch.manual_seed(3)
    for name, tensor in whole.items():
        assert torch.allclose(pieces[name], tensor, rtol=1e-3, atol=1e-5), name


def test_the_accumulator_learns() -> None:
    still = trained(replace(SMALL, learning_rate=1e-8))
    moved = trained(SMALL)
    assert (moved["accumulator.cell.weight_hh_l0"] - still["accumulator.cell.weight_hh_l0"]).abs().max() > 1e-4


def test_a_prediction_trains_with_one_hop_a_chunk() -> None:
    config = replace(SMALL, recurrence="carried", target="next", truncate_hops=1)
    assert all(torch.isfinite(tensor).all() for tensor in trained(config).values() if tensor.is_floating_point())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_training_that_could_learn_nothing_is_refused(mode: Any) -> None:
    with mode(), pytest.raises(UsageError, match="inference_mode"):
        trained(replace(SMALL, recurrence="carried", accumulator="none"))


@pytest.mark.parametrize("lengths", [(15,), (45,), (52,)])
def test_a_recording_too_short_to_train_on_is_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(RecordingError, match=r"sines.*record longer"):
        trained(replace(SMALL, recurrence="carried", lengths=(5, 10, 20)), sines(lengths))


def test_a_recording_that_never_changes_is_refused() -> None:
    still = replace(sines((800,)), values=np.ones((800, 3), np.float32))
    with pytest.raises(RecordingError, match="every sensor is constant"):
        trained(SMALL, still)


# -- the loop --------------------------------------------------------------------------------------------------------


class Scripted:
    """A training whose losses are written down; its one weight counts the epochs."""

    name = "scripted"

    def __init__(self, validations: list[float], losses: tuple[float | None, ...] = (1.0,)) -> None:
        self.module: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)  # type: ignore[arg-type]
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.module.parameters(), lr=0.0)
        self.validations, self.losses = validations, losses
        self.number = 0

    def epoch(self, number: int) -> Iterator[tuple[int, int, float | None]]:
        self.number = number
        with torch.no_grad():
            self.module.weight += 1  # type: ignore[operator]
        for done, loss in enumerate(self.losses, 1):
            yield done, len(self.losses), loss

    def validate(self) -> float:
        return self.validations[self.number]

    @property
    def epoch_kept(self) -> int:
        return int(self.module.weight.item())  # type: ignore[union-attr, operator]


def run(job: Scripted, epochs: int, patience: int = 99, **options: Any) -> list[dict[str, float]]:
    known = {"checkpoint": None, "resume": False, "digest": "d", "report": lambda event: None}
    return fit(job, epochs=epochs, patience=patience, **{**known, **options})


def test_the_best_epoch_is_kept_and_patience_counts_the_epochs_after_it() -> None:
    job = Scripted([5.0, 3.0, 4.0, 3.0, 9.0, 1.0])
    history = run(job, 6, patience=2)
    assert [row["validation"] for row in history] == [5.0, 3.0, 4.0, 3.0]
    assert job.epoch_kept == 2


def test_a_first_epoch_is_trained_whatever_the_patience() -> None:
    assert len(run(Scripted([1.0, 2.0]), 2, patience=1)) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_training_that_diverges_is_an_error(bad: float) -> None:
    with pytest.raises(GateFailed, match=r"diverged in epoch 2.*learning_rate"):
        run(Scripted([1.0, bad]), 2)
    with pytest.raises(GateFailed, match="diverged in epoch 1"):
        run(Scripted([1.0], losses=(1.0, bad)), 1)


@pytest.mark.parametrize(("steps", "epochs", "notes"), [(4, 24, 1), (4, 25, 0)])
def test_a_training_of_few_steps_says_so_once_and_how_to_make_more(steps: int, epochs: int, notes: int) -> None:
    told: list[dict[str, Any]] = []
    run(Scripted([1.0] * epochs, losses=(None, *[1.0] * (steps - 1))), epochs, report=told.append)
    told = [event for event in told if "note" in event]
    assert len(told) == notes
    assert all("scripted" in event["note"] and "96 optimizer steps" in event["note"] for event in told)


def test_updates_lengthen_the_trainings_of_teacher_and_student() -> None:
    config = replace(SMALL, distill=True, updates=30, teacher_epochs=1)
    histories = train(sines((500, 300)), config, Training(seed=3)).histories
    assert set(histories) == {"teacher", "student"} and all(1 < len(history) < 30 for history in histories.values())


def test_hops_that_only_warm_up_are_left_out_of_the_loss() -> None:
    events: list[dict[str, Any]] = []
    history = run(Scripted([1.0], losses=(None, None, 4.0, 2.0)), 1, report=events.append)
    assert history[0]["loss"] == 3.0
    assert [event["step"] for event in events if "step" in event] == [3, 4]


def test_resumed_after_any_epoch_it_ends_the_same(tmp_path: Path) -> None:
    validations = [5.0, 3.0, 4.0, 2.0, 9.0]
    whole = Scripted(validations)
    expected = [row["validation"] for row in run(whole, 5)]
    for cut in range(1, 5):
        file = tmp_path / f"{cut}.training"
        run(Scripted(validations), cut, checkpoint=file)
        again = Scripted(validations)
        history = run(again, 5, checkpoint=file, resume=True)
        assert [row["validation"] for row in history] == expected
        assert again.epoch_kept == whole.epoch_kept
        finished = Scripted([])  # another resume of what is finished trains nothing
        assert len(run(finished, 5, checkpoint=file, resume=True)) == 5
        assert finished.epoch_kept == whole.epoch_kept


def test_another_training_is_not_resumed_and_says_so(tmp_path: Path) -> None:
    file, events = tmp_path / "job.training", []
    run(Scripted([1.0, 2.0]), 2, checkpoint=file)
    history = run(
        Scripted([7.0]), 1, checkpoint=file, resume=True, digest="other", report=events.append
    )  # fmt: skip
    assert [row["validation"] for row in history] == [7.0]
    assert "starting anew" in events[0]["note"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_training_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "job.training"
    file.write_bytes(content)
    with pytest.raises(ModelRefused, match=r"cannot be resumed.*without --resume"):
        run(Scripted([1.0]), 1, checkpoint=file, resume=True)


def test_a_torch_that_can_be_made_to_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekd.runtime.errors import UsageError

    file = tmp_path / "x.pt"
    torch.save({"a": 1}, file)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(UsageError, match=r"CVE-2026-24747.*torch>=2\.10"):
        load_safely(file)
    monkeypatch.setattr(torch, "__version__", "2.10.0a0+git1")
    assert load_safely(file) == {"a": 1}

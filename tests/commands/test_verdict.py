"""What `edgekd distill` says, in words, of the detector that it made: would its owner do the right thing?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgekd.checkpoint import Checkpoint
from edgekd.cli import cli
from edgekd.data import Recording, save
from edgekd.distillation import distill
from edgekd.simulation.simulate import simulate
from edgekd.verdict import verdict


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The verdict on a linear detector of a simulated plant, with other alarms a day where they are given."""
    folder = tmp_path_factory.mktemp("verdict")

    def said(samples: int, period_s: float = 60.0, **changed: Any) -> str:
        recording = simulate(samples=samples, sensors=3, seed=1, faults=(), period_s=period_s).recording
        checkpoint = distill(recording, folder / "s.pt", method="linear")
        data = {**checkpoint.data, "longest_alarm_s": 90.0}
        threshold = {**checkpoint.threshold, "alarms_per_day": {**checkpoint.threshold["alarms_per_day"], **changed}}
        return "\n".join(verdict(replace(checkpoint, data=data, threshold=threshold)))

    return said


QUIET = {"measured": 0.0, "upper95": 4.3, "days": 0.7}


@pytest.mark.parametrize(
    ("samples", "period_s", "words"),
    [
        (400, 60.0, "6.7 hours (400 samples), too little to judge; a day is the least, two weeks are good."),
        (1440, 60.0, "24 hours (1,440 samples), enough to try it out; two weeks are good."),
        (20_160, 60.0, "14 days (20,160 samples), enough."),
        (9000, 1.0, "2.5 hours (9,000 samples), too little to judge; a day is the least"),
        (240, 3600.0, "10 days (240 samples), too little to judge; 21 days are the least, 42 days are good."),
    ],
)
def test_whether_the_data_are_enough(said: Any, samples: int, period_s: float, words: str) -> None:
    assert words in said(samples, period_s)


def test_a_threshold_of_few_scores_is_called_useless(tiny_student: Path) -> None:
    checkpoint = Checkpoint.load(tiny_student)
    few = replace(checkpoint, data={**checkpoint.data, "threshold_scores": 2})
    words = "The threshold is useless: only 2 scores of normal data set it. Record longer."
    assert words in verdict(few) and words not in verdict(checkpoint)


def test_an_ordinary_threshold_is_not_called_useless(said: Any) -> None:
    assert "useless" not in said(1440, **QUIET)


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (QUIET, "none in the 17 hours kept aside to count them; expect at most 4 a day (95 % sure)."),
        (
            {"measured": 0.05, "upper95": 0.26, "days": 20.0},
            "1 in the 20 days kept aside to count them; expect one in 20 days, at most one in 4 days",
        ),
        ({"measured": 0.0, "upper95": 216.0, "days": 1 / 72}, "none in the 20 minutes kept aside to count them, too"),
        ({"measured": 0.0, "upper95": None, "days": 0.0}, "False alarms: unknown, the recording is too short"),
        ({"measured": 480.0, "upper95": 2277.0, "days": 1 / 480}, "480 a day, which makes the"),
        ({"measured": 480.0, "upper95": 2277.0, "days": 1 / 480}, "edgekd-run --min-duration 90s."),
    ],
)
def test_how_many_false_alarms_to_expect(said: Any, rate: dict[str, Any], words: str) -> None:
    assert words in said(400, **rate)


def test_a_min_duration_as_long_as_the_longest_false_alarm_would_have_kept_quiet(tmp_path: Path) -> None:
    from edgekd.blocks.threshold import AUDIT, parts
    from edgekd.runtime.detector import Verdict
    from edgekd.runtime.episodes import COOLDOWN_HOPS, Episodes, Onset

    recording = simulate(samples=3600, sensors=12, seed=0, faults=()).recording
    recording.values[3460:3475] += np.ptp(recording.values, axis=0)  # nothing set by this part: a false alarm
    checkpoint = distill(recording, tmp_path / "s.pt", method="linear")
    found, rate = checkpoint.step().score(recording, parts(recording) == AUDIT), checkpoint.threshold["alarms_per_day"]

    def told(min_duration_s: float) -> int:
        cooldown = COOLDOWN_HOPS * checkpoint.step().hop
        episodes = Episodes(round(min_duration_s / recording.period_s), cooldown)
        onsets = 0
        for sample, score in zip(found.samples.tolist(), found.scores.tolist()):
            anomaly = score > checkpoint.threshold["value"]
            turn = episodes.update(Verdict(sample, score, checkpoint.threshold["value"], anomaly, np.zeros(0), ()))
            onsets += isinstance(turn, Onset)
        return onsets

    assert told(0) == round(rate["measured"] * rate["days"]) > 0
    assert told(checkpoint.data["longest_alarm_s"]) == 0


def test_the_command_says_it_on_stderr_and_in_json(tmp_path: Path, tiny_recording: Recording) -> None:
    flat = tiny_recording.values.copy()
    flat[:, 1] = 3.0
    save(replace(tiny_recording, values=flat), tmp_path / "plant.csv")
    words = ["distill", str(tmp_path / "plant.csv"), "-o", str(tmp_path / "s.pt"), "--method", "linear"]
    plain, as_json = (CliRunner().invoke(cli, [*words, *more], catch_exceptions=False) for more in ([], ["--json"]))
    lines = json.loads(as_json.stdout)["verdict"]
    assert lines[-1] == f"Left out: 1 sensor that never changed ({tiny_recording.sensors[1]})."
    assert lines[0].startswith("Data: 20 hours")
    assert plain.stderr.splitlines()[-len(lines) :] == lines

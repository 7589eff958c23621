"""When an anomaly is told, and when its end: --min-duration, --cooldown, --hysteresis."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from device import events_of, run, write_csv
from hypothesis import given
from hypothesis import strategies as st
from step_models import step_file, step_samples

from edgekd.runtime.detector import Verdict
from edgekd.runtime.episodes import End, Episodes, Onset

THRESHOLD = 1.0
scores = st.lists(st.sampled_from([0.2, 0.6, 0.9, 1.0, 1.1, 3.0]), max_size=60)
rules = st.tuples(st.integers(0, 12), st.integers(0, 15), st.sampled_from([0.0, 0.5, 0.9, 1.0]))


def verdicts(scores: list[float], hop: int) -> list[Verdict]:
    nothing = np.zeros(0, np.float32)
    return [
        Verdict(hop * (i + 1) - 1, score, THRESHOLD, score > THRESHOLD, nothing, ()) for i, score in enumerate(scores)
    ]


def told(episodes: Episodes, given: list[Verdict]) -> list[Onset | End]:
    return [turn for verdict in given if (turn := episodes.update(verdict)) is not None]


@given(scores, rules, st.integers(1, 4))
def test_debouncing_keeps_what_it_says(scores: list[float], rule: tuple[int, int, float], hop: int) -> None:
    lasting, cooldown, hysteresis = rule
    stream = verdicts(scores, hop)
    by_sample = {verdict.sample: i for i, verdict in enumerate(stream)}
    turns = told(Episodes(lasting, cooldown, hysteresis), stream)
    assert [type(turn) for turn in turns] == [Onset, End] * (len(turns) // 2) + [Onset] * (len(turns) % 2)
    open_since, ended = None, None
    for turn in turns:
        at = by_sample[turn.verdict.sample]
        if isinstance(turn, Onset):
            run_of = stream[by_sample[turn.start] : at + 1]
            assert all(verdict.is_anomaly for verdict in run_of)  # anomalous without a break, and for long enough
            assert turn.verdict.sample - turn.start >= lasting
            assert ended is None or turn.verdict.sample - ended >= cooldown
            open_since = at
        else:
            assert open_since is not None
            inside = [verdict.score for verdict in stream[open_since:at]]
            assert all(score > hysteresis * THRESHOLD for score in inside) and not turn.verdict.is_anomaly
            assert turn.verdict.score <= hysteresis * THRESHOLD
            assert turn.peak == max(verdict.score for verdict in stream[by_sample[turn.start] : at])
            ended = turn.verdict.sample
    # and nothing that lasts is kept back: every anomalous verdict that no episode holds was too short or in a cooldown
    inside, start, ended = False, None, None
    marks = {turn.verdict.sample: turn for turn in turns}
    for verdict in stream:
        turn = marks.get(verdict.sample)
        start = None if not verdict.is_anomaly else verdict.sample if start is None else start
        if isinstance(turn, End):
            inside, ended = False, verdict.sample
        elif isinstance(turn, Onset):
            inside = True
        elif start is not None and not inside:
            assert verdict.sample - start < lasting or (ended is not None and verdict.sample - ended < cooldown)


@given(scores, st.integers(1, 4))
def test_without_options_an_episode_is_a_run_of_anomalous_verdicts(scores: list[float], hop: int) -> None:
    stream = verdicts(scores, hop)
    flags = [False, *(verdict.is_anomaly for verdict in stream)]
    edges = [verdict.sample for verdict, before, now in zip(stream, flags, flags[1:]) if before != now]
    turns = told(Episodes(), stream)
    assert [turn.verdict.sample for turn in turns] == edges
    assert all(turn.start == turn.verdict.sample for turn in turns if isinstance(turn, Onset))
    assert all(turn.start == onset.verdict.sample for onset, turn in zip(turns[::2], turns[1::2]))


@given(scores, rules, st.integers(0, 60))
def test_a_restart_changes_nothing(scores: list[float], rule: tuple[int, int, float], cut: int) -> None:
    stream = verdicts(scores, 2)
    whole = told(Episodes(*rule), stream)
    first, second = Episodes(*rule), Episodes(*rule)
    turns = told(first, stream[:cut])
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert turns + told(second, stream[cut:]) == whole


@pytest.mark.parametrize("broken", [{"start": "x"}, {"peak": []}, {"since": {}}, {"ended": "?"}])
def test_what_is_no_snapshot_changes_nothing(broken: dict) -> None:
    episodes = Episodes()
    told(episodes, verdicts([3.0], 1))
    before = episodes.snapshot()
    with pytest.raises((TypeError, ValueError)):
        episodes.restore({**before, **broken})
    assert episodes.snapshot() == before


def test_durations_are_the_model_s_own_time(tmp_path: Path) -> None:
    """Ten samples of 0.5 s: the first hop of an anomaly that lasts is told 5 s later, and its start is kept."""
    model = step_file(tmp_path / "m.onnx", 3, 2, period_s=0.5, threshold=0.15)
    samples = step_samples(3, 400)
    write_csv(tmp_path / "x.csv", samples)
    arguments = ["--model", model, "--csv", tmp_path / "x.csv", "--scores"]
    plain = events_of(run(*arguments).stdout)
    done = run(*arguments, "--min-duration", "3s", "--cooldown", "20s", "--hysteresis", "0.5")
    assert done.returncode == 0, done.stderr
    debounced = events_of(done.stdout)
    assert [e for e in plain if e["event"] == "score"] == [e for e in debounced if e["event"] == "score"]
    every, some = ([e for e in events if e["event"] == "anomaly"] for events in (plain, debounced))
    assert 0 < len(some) < len(every)
    ends = [e for e in debounced if e["event"] == "anomaly_end"]
    for onset, end in zip(some, ends):
        assert onset["sample"] - onset["start"] >= 6 and end["start"] == onset["start"]
    assert all(after["sample"] - end["sample"] >= 40 for end, after in zip(ends, some[1:]))

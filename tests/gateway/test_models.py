"""A model that is replaced while the gateway runs: on trial beside the old one, taken, rolled back, through power cuts.

Real processes on a pipe; models are small graphs, good ones and bad ones of each kind.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broker import Broker, Consumer, free_port, needs_broker
from click.testing import CliRunner
from device import eventually
from gateway_device import Gateway
from onnx import numpy_helper
from step_models import ranges, step_file, step_graph, step_samples, with_manifest

from edgekd.cli import cli as edgekd
from edgekd.runtime.detector import Detector
from edgekd.runtime.gateway.models.trial import LEAST_VERDICTS, Switch, Trial, carry_over
from edgekd.runtime.gateway.watchers.site_threshold import SiteThreshold

N, HOP = 3, 4
SHADOW = LEAST_VERDICTS * HOP  # samples, at one a second
LOW, HIGH, FILL = ranges(N)


def calm(count: int, seed: int = 1) -> np.ndarray:
    """Samples whose scores are far below the running model's threshold, 0.5, (count, n)."""
    rng = np.random.default_rng(seed)
    livelier = np.repeat(rng.uniform(0, 1, (-(-count // HOP), 1)), HOP, axis=0)[:count]  # any model sees these hops
    return (FILL + (HIGH - LOW) * livelier * rng.uniform(-0.3, 0.3, (count, N))).astype(np.float32)


def graph(path: Path, threshold: float = 0.5, **constants: float) -> Path:
    """A model in which some constants of the graph are others."""
    model = step_graph(N, HOP)
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            like = np.full_like(numpy_helper.to_array(tensor), constants[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(like, tensor.name))
    path.write_bytes(with_manifest(model.SerializeToString(), N, HOP, threshold=threshold))
    return path


class Line(Gateway):
    """A gateway that reads what we write, each sample a line."""

    def __init__(self, folder: Path, *more: object) -> None:
        self.sent: list[np.ndarray] = []
        keys = ("--model", folder / "m.onnx", "--stdin", "--scores", "--shadow-for", f"{SHADOW}s")
        super().__init__(*keys, "--probation-for", f"{SHADOW}s", *more, stdin=subprocess.PIPE)

    def feed(self, samples: np.ndarray) -> None:
        assert self.process.stdin
        self.sent.extend(samples)
        lines = "".join(",".join(map(repr, map(float, row))) + "\n" for row in samples)
        os.write(self.process.stdin.fileno(), lines.encode())

    def look(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def until(self, event: str, make: Callable[[int, int], np.ndarray] = calm) -> dict[str, Any]:
        """Feed until it is told."""
        end = time.monotonic() + 30
        while not (found := [told for told in self.events if told["event"] == event]):
            assert time.monotonic() < end, (event, self.words)
            self.feed(make(5 * HOP, len(self.sent)))
            time.sleep(0.005)
        return found[-1]

    def whole(self) -> list[int]:
        """The samples of all scores, once all that was sent is scored; without a hole."""
        wanted = len(self.sent) // HOP
        eventually(lambda: len(self.scores()) >= wanted, "the last score")
        samples = [score["sample"] for score in self.scores()]
        assert samples == list(range(samples[0], samples[0] + HOP * len(samples), HOP))
        return samples

    def scores_between(self, first: int, last: int) -> list[float]:
        return [score["score"] for score in self.scores() if first < score["sample"] <= last]


def started(folder: Path, *more: object) -> Line:
    """With a model that alarms above 0.5, and scored once."""
    if not (folder / "m.onnx").exists():
        step_file(folder / "m.onnx", N, HOP, threshold=0.5)
    line = Line(folder, *more)
    line.feed(calm(HOP))
    line.wait_for("score")
    return line


def put(path: Path, make: Callable[[Path], Path]) -> None:
    """A file in place, as `mv` does it."""
    make(path.with_name("made")).replace(path)


def sign(*arguments: object) -> None:
    assert CliRunner().invoke(edgekd, ["sign", *map(str, arguments)], standalone_mode=False).exit_code == 0


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "state.models").glob("0*-*") if path.suffix != ".sig")


def alone(model: Path | bytes, samples: list[np.ndarray]) -> list[float]:
    """The scores of a model that sees these samples from its cold state on."""
    detector = Detector.load(model)
    return [verdict.score for row in samples if (verdict := detector.update(row)) is not None]


@pytest.mark.parametrize("name", ["m.onnx", "m.onnx.next"])
def test_a_good_model_takes_over_between_two_hops_without_a_hole(tmp_path: Path, name: str) -> None:
    with started(tmp_path, "--state", tmp_path / "state") as line:
        old = (tmp_path / "m.onnx").read_bytes()
        eventually(lambda: list((tmp_path / "state.models").glob("000001-*")) != [], "the kept model")
        put(tmp_path / name, lambda path: step_file(path, N, HOP, seed=1, threshold=0.4))
        line.look()
        offered, swapped = line.until("model_offered"), line.until("model_swapped")
        confirmed = line.until("model_confirmed")
        line.whole()
        (tmp_path / "old.onnx").write_bytes(old)
        at, to = offered["sample"], swapped["sample"]
        before = alone(tmp_path / "old.onnx", line.sent[: to + 1])
        after = alone(tmp_path / name, line.sent[at + 1 :])  # warmed up in the shadow
        skip = (to - at) // HOP
        told = [score["score"] for score in line.scores()]
        assert told[: len(before)] == pytest.approx(before, rel=1e-6)
        assert told[len(before) :] == pytest.approx(after[skip : skip + len(told) - len(before)], rel=1e-6)
        assert swapped["threshold"] == 0.4 and swapped["rank_correlation"] > 0.5 and swapped["alarms"] == 0
        assert offered["model"] == swapped["model"] == confirmed["model"] != swapped["was"] == confirmed["was"]
        eventually(lambda: (tmp_path / "state.models" / "previous").is_file(), "the old model is kept")
        assert (tmp_path / "state.models" / "previous").read_bytes() == old
        assert line.end(signal.SIGTERM) == 0
    with started(tmp_path, "--state", tmp_path / "state") as line:  # whatever is at model, the new one goes on
        resumed = next(event for event in line.events if event["event"] == "resumed")
        assert resumed["sample"] > confirmed["sample"]
        detector_threshold = line.scores()[0]["severity"] and line.scores()[0]["score"] / line.scores()[0]["severity"]
        assert detector_threshold == pytest.approx(0.4, rel=1e-3)
        line.look()
        line.until("score")
        time.sleep(0.5)
        assert not [event for event in line.events if event["event"].startswith("model_")]


def garbage(path: Path) -> Path:
    path.write_bytes(random.Random(1).randbytes(5000))
    return path


def torn(path: Path) -> Path:
    whole = step_file(path, N, HOP, seed=1).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def huge(path: Path) -> Path:
    path.touch()
    os.truncate(path, 10**12)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "garbage": (garbage, "neither an ONNX nor a TFLite file"),
    "torn": (torn, ""),
    "empty": (lambda path: [path.touch(), path][1], "neither an ONNX"),  # type: ignore[list-item, return-value]
    "a pipe": (pipe, "it is no file"),
    "too large": (huge, "larger than 8 MiB"),
    "sensors": (lambda path: step_file(path, N + 1, HOP), "it has 's3'"),
    "hop": (lambda path: step_file(path, N, 2 * HOP), "hop of 8 samples, here it is 4"),
    "period": (lambda path: step_file(path, N, HOP, period_s=2.0), "period of 2 s, here it is 1"),
    "diverging": (lambda path: graph(path, keep=8.0), ""),  # its alarms or its infinity come first
    "alarming": (lambda path: step_file(path, N, HOP, threshold=1e-6), "alarms too often"),
    "silent": (lambda path: graph(path, span=1e30), "fallen silent"),
    "other way": (lambda path: graph(path, 100.0, fill=20.0, take=0.0), "go another way"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_model_is_refused_and_the_old_one_goes_on(tmp_path: Path, kind: str) -> None:
    make, reason = BAD[kind]
    shadow = f"{SHADOW * (16 if kind == 'other way' else 1)}s"
    with started(tmp_path, "--state", tmp_path / "state", "--shadow-for", shadow) as line:
        old = (tmp_path / "m.onnx").read_bytes()
        put(tmp_path / "m.onnx", make)
        line.look()
        refused = line.until("model_refused")
        assert reason in refused["reason"] and str(tmp_path / "m.onnx") == refused["from"]
        line.feed(calm(4 * HOP))
        line.whole()
        assert [s["score"] for s in line.scores()] == pytest.approx(alone(old, line.sent), rel=1e-6)
        assert line.end(signal.SIGTERM) == 0
    with started(tmp_path, "--state", tmp_path / "state") as line:  # no exit 3, again and again
        assert line.events[0]["event"] == "resumed" and [path.read_bytes() for path in kept(tmp_path)] == [old]


def test_a_model_must_be_signed_where_signatures_are_required(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    sign("--new-key", tmp_path / "key.pem")
    step_file(tmp_path / "m.onnx", N, HOP, threshold=0.5)
    sign(tmp_path / "m.onnx", "--key", tmp_path / "key.pem")
    keys = ("--state", tmp_path / "state", "--require-signed", tmp_path / "key.pem.pub")
    with started(tmp_path, *keys) as line:
        put(tmp_path / "m.onnx.next", lambda path: step_file(path, N, HOP, seed=1, threshold=0.5))
        line.look()
        refused = line.until("model_refused")
        assert "it has no signature (m.onnx.next.sig" in refused["reason"]
        sign(tmp_path / "m.onnx.next", "--key", tmp_path / "key.pem")
        line.look()
        line.until("model_confirmed")
        line.whole()
        assert line.end(signal.SIGTERM) == 0
    with started(tmp_path, *keys) as line:  # what is kept is signed too
        assert line.events[0]["event"] == "resumed"


def wild(count: int, seed: int) -> np.ndarray:
    return FILL.astype(np.float32) + (calm(count, seed) - FILL.astype(np.float32)) * np.float32(20)


def test_a_model_that_alarms_on_probation_makes_room_again(tmp_path: Path) -> None:
    step_file(tmp_path / "m.onnx", N, HOP, threshold=50.0)
    with started(tmp_path, "--state", tmp_path / "state", "--probation-for", "24h") as line:
        old = tmp_path / "old.onnx"
        old.write_bytes((tmp_path / "m.onnx").read_bytes())
        put(tmp_path / "m.onnx", lambda path: step_file(path, N, HOP, seed=1, threshold=0.5))
        line.look()
        line.until("model_swapped")
        back = line.until("model_rolled_back", wild)
        line.feed(calm(4 * HOP))
        line.whole()
        assert "alarms too often" in back["reason"]
        told = alone(old, line.sent)
        first = back["sample"] // HOP + 1
        assert [s["score"] for s in line.scores()][first:] == pytest.approx(told[first:], rel=1e-6)
        assert line.end(signal.SIGTERM) == 0
    with started(tmp_path, "--state", tmp_path / "state") as line:
        line.until("score")
        time.sleep(0.5)
        assert not [event for event in line.events if event["event"].startswith("model_")]  # nor is it tried again


def test_a_probation_outlives_a_restart(tmp_path: Path) -> None:
    old = step_file(tmp_path / "m.onnx", N, HOP, threshold=50.0).read_bytes()
    keys = ("--state", tmp_path / "state", "--probation-for", "24h")
    with started(tmp_path, *keys, "--state-every", 0) as line:
        put(tmp_path / "m.onnx", lambda path: step_file(path, N, HOP, seed=1, threshold=0.5))
        line.look()
        line.until("model_swapped")
        line.feed(calm(4 * HOP))
        line.whole()
        assert line.end(signal.SIGTERM) == 0
    with started(tmp_path, *keys) as line:
        line.until("model_rolled_back", wild)
        eventually(lambda: len(kept(tmp_path)) == 1, "the bad model is gone")
        assert kept(tmp_path)[0].read_bytes() == old
        assert line.end(signal.SIGTERM) == 0


def test_a_model_that_fails_on_probation_costs_no_verdict(tmp_path: Path) -> None:
    """The engine raises, or its score is infinite: the old one's verdict is told for that very hop."""
    old, new = (
        Detector.load(step_file(tmp_path / f"{seed}.onnx", N, HOP, seed, threshold=0.5), probe=False) for seed in (0, 1)
    )
    for fault in ("raises", "infinite"):
        switch = Switch(new.stream())
        engine = Failing(new.engine, fault)
        switch.engine = engine
        other = old.stream()
        carry_over(switch.running, other)
        switch.trial = Trial(switch.running, other, SiteThreshold(old.manifest, 0.5), SHADOW, 3.0, probation=True)
        samples = calm(40 * HOP)
        told = [verdict for row in samples[: 20 * HOP] if (verdict := switch.update(row))]
        engine.broken = True
        told += [verdict for row in samples[20 * HOP : 21 * HOP] if (verdict := switch.update(row))]
        assert [verdict.sample for verdict in told] == list(range(HOP - 1, 21 * HOP, HOP))
        assert told[-1].score == pytest.approx(alone(tmp_path / "0.onnx", list(samples))[20], rel=1e-6)
        assert switch.trial.problem


class Failing:
    """An engine that breaks."""

    def __init__(self, engine: Any, fault: str) -> None:
        self.name, self._engine, self._fault, self.broken = engine.name, engine, fault, False

    def run(self, feeds: Any) -> Any:
        found = list(self._engine.run(feeds))
        if self.broken and self._fault == "raises":
            raise RuntimeError("no kernel")
        return [np.float32(np.inf), *found[1:]] if self.broken else found


def test_of_another_graph_only_what_the_samples_say_is_carried_over(tmp_path: Path) -> None:
    old, new = (
        Detector.load(step_file(tmp_path / f"{seed}.onnx", N, HOP, seed, warmup=40), probe=False) for seed in (0, 1)
    )
    samples = step_samples(N, 60)
    samples[20:, 1] = np.nan
    for row in samples:
        old.update(row)
    same = old.stream()
    for other in (same, new):
        carry_over(old, other)
        assert other.samples_seen == 60 and other.missing_sensors == old.missing_sensors == ("s1",)
        assert other.held_values == old.held_values and not other.sensor_changes()
    row = np.array(FILL, np.float32)
    said = [[detector.update(row) for _ in range(40)] for detector in (old, same, new)]
    assert [v and v.score for v in said[0]] == [v and v.score for v in said[1]]
    assert [v is None for v in said[2]] == [True] * 39 + [False]  # it warms up first


@pytest.mark.parametrize("cuts", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_a_power_cut_at_any_moment_of_a_swap_leaves_one_good_model(tmp_path: Path, cuts: int) -> None:
    """Killed at random moments, from the offer to the end of the probation, with models that come and go."""
    rng = random.Random(cuts)
    step_file(tmp_path / "m.onnx", N, HOP, threshold=0.5)
    thresholds, seen, cold = {0.5}, set(), 0
    for cut in range(cuts):
        with started(tmp_path, "--state", tmp_path / "state") as line:
            first = line.events[0]["event"]
            cold += first != "resumed"
            score = line.scores()[0]
            running = round(score["score"] / score["severity"], 3)
            assert running in thresholds, (running, line.words)
            seen.add(running)
            new = round(0.5 + 0.001 * (cut + 1), 3)
            put(tmp_path / "m.onnx", lambda path, cut=cut, new=new: step_file(path, N, HOP, cut, threshold=new))
            thresholds.add(new)
            line.look()
            until = rng.choice(["score", "model_offered", "model_swapped", "model_swapped", "model_confirmed"])
            line.until(until)
            line.feed(calm(rng.randrange(SHADOW)))
            time.sleep(rng.random() * (2.0 if until == "score" else 0.02))  # while it is admitted
            line.process.kill()
            line.process.wait()
        assert len(kept(tmp_path)) <= 3
    assert cold == 1 and len(seen) > cuts // 4  # the state is always that of the model that runs


@needs_broker
def test_a_model_comes_as_a_retained_message_with_its_signature(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client")
    pytest.importorskip("cryptography")
    sign("--new-key", tmp_path / "key.pem")
    for name, seed in (("m.onnx", 0), ("new.onnx", 1)):
        step_file(tmp_path / name, N, HOP, seed, threshold=0.5)
        sign(tmp_path / name, "--key", tmp_path / "key.pem")
    new, signature = (tmp_path / "new.onnx").read_bytes(), (tmp_path / "new.onnx.sig").read_bytes()
    with Broker(tmp_path) as broker, Consumer(broker.port) as consumer:
        keys = ("--control", f"mqtt://127.0.0.1:{broker.port}/plant", "--require-signed", tmp_path / "key.pem.pub")
        consumer.publish("plant/model", new, retain=True)
        with started(tmp_path, "--state", tmp_path / "state", *keys) as line:
            assert "signature is not by" in line.until("model_refused")["reason"]  # its last bytes are none
            consumer.publish("plant/model", new + signature, retain=True)
            assert line.until("model_offered")["from"] == "plant/model"
            line.until("model_swapped")
            line.whole()
            assert line.end(signal.SIGTERM) == 0
        with started(tmp_path, "--state", tmp_path / "state", *keys) as line:  # the broker sends it again
            line.until("model_confirmed")
            assert not [event for event in line.events if event["event"] in ("model_offered", "model_refused")]


def test_metrics_show_both_models_and_time_the_one_that_runs(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    port = free_port()

    def scraped() -> dict[str, float]:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}

    with started(tmp_path, "--state", tmp_path / "state", "--metrics", f":{port}") as line:
        assert "edgekd_shadow_score" not in scraped()
        put(tmp_path / "m.onnx", lambda path: step_file(path, N, HOP, seed=1, threshold=0.4))
        line.look()
        line.until("model_offered")
        line.feed(calm(2 * HOP))
        line.whole()
        assert scraped()["edgekd_probation"] == 0 and scraped()["edgekd_shadow_score"] > 0
        line.until("model_swapped")
        line.feed(calm(2 * HOP))
        line.whole()
        found = scraped()
        assert found["edgekd_probation"] == 1 and found["edgekd_threshold"] == 0.4
        assert found["edgekd_step_seconds_count"] == found["edgekd_verdicts_total"] == len(line.scores())


def test_without_a_state_a_model_is_exchanged_but_not_kept(tmp_path: Path) -> None:
    with started(tmp_path) as line:
        put(tmp_path / "m.onnx", lambda path: step_file(path, N, HOP, seed=1, threshold=0.5))
        line.look()
        line.until("model_swapped")
        line.whole()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


def test_another_name_in_the_file_is_another_model_from_the_start(tmp_path: Path) -> None:
    with started(tmp_path, "--state", tmp_path / "state") as line:
        eventually(lambda: (tmp_path / "state.models" / "seen.json").exists(), "the kept model")
        assert line.end(signal.SIGTERM) == 0
    (tmp_path / "other").mkdir()
    step_file(tmp_path / "other" / "m.onnx", N, HOP, seed=3, threshold=0.7)
    with started(tmp_path / "other", "--state", tmp_path / "state") as line:
        score = line.scores()[0]
        assert score["score"] / score["severity"] == pytest.approx(0.7, rel=1e-3)

"""Killed at any moment: the same scores, and every event reaches the consumer."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from broker import Broker, Consumer, eventually, needs_broker
from device import write_csv
from gateway_device import Gateway, events_of, run
from step_models import step_file, step_samples

pytest.importorskip("paho.mqtt.client")
OF_SAMPLES = ("score", "anomaly", "anomaly_end", "sensor_missing", "sensor_back", "sensor_stuck", "sensor_stuck_end")
PLACE = ("id", "seq", "boot")  # what an event has on its way and not on standard output


def content(event: dict[str, Any]) -> dict[str, Any]:
    """What an event says, without its place."""
    return {key: value for key, value in event.items() if key not in PLACE}


def killed_run(folder: Path, samples: int, kills: int, seed: int, command: bool = False) -> dict[str, int]:
    """Read a recording with a run that is killed so many times; prove that nothing is lost. What it took, in figures.

    Where the run has come to its end before, the recording is read again, as another stream. command: events go to a
    command, too.
    """
    step_file(folder / "m.onnx", 3, 4, threshold=0.15)
    values = step_samples(3, samples)
    values[samples // 3 : samples // 3 + 50, :2] = float("nan")  # two sensors at once
    arguments = ["--model", folder / "m.onnx", "--csv", write_csv(folder / "x.csv", values), "--scores", "--quiet"]
    whole = [event for event in events_of(run(*arguments).stdout) if event["event"] in OF_SAMPLES]
    fate = random.Random(seed)
    figures: Counter[str] = Counter(samples=samples, events=len(whole))
    with Broker(folder) as broker:
        while figures["kills"] < kills:
            place = folder / f"pass-{figures['passes']}"
            place.mkdir()
            topic = f"alerts-{figures['passes']}"
            to = [
                "--state",
                place / "state",
                "--state-every",
                0.05,
                "--publish",
                f"mqtt://127.0.0.1:{broker.port}/{topic}",
            ]
            to += ["--exec", f"tee -a {place / 'executed'}"] if command else []
            with Consumer(broker.port, topic) as consumer:
                while _run_and_kill([*arguments, *to], whole, fate, figures["kills"] < kills):
                    figures["kills"] += 1
                figures["passes"] += 1
                wanted = _check(consumer, topic, whole, figures)
            if command:
                ran = [json.loads(line) for line in (place / "executed").read_text().splitlines()]
                by_id = {event["id"].partition("-")[2]: content(event) for event in ran if event["event"] in OF_SAMPLES}
                assert by_id == wanted
                figures["executed"] += len(ran)
    return dict(figures)


def _run_and_kill(arguments: list[object], whole: list[dict[str, Any]], fate: random.Random, kill: bool) -> bool:
    """One start; whether it was killed before its end."""
    with Gateway(*arguments) as device:
        if kill and fate.random() < 0.2:
            time.sleep(fate.uniform(0, 1.2))  # also while it starts
        elif kill:
            device.wait_for(lambda event: True)
            time.sleep(fate.uniform(0, 0.04))
        killed = kill and device.process.poll() is None
        if killed:
            device.process.kill()
        code = device.end()
    assert killed or code == 0, device.words
    told = [event for event in device.events if event["event"] in OF_SAMPLES]
    if told:
        start = whole.index(told[0])
        assert told == whole[start : start + len(told)]  # as if nothing had happened
    return killed


def _check(
    consumer: Consumer, topic: str, whole: list[dict[str, Any]], figures: Counter[str]
) -> dict[str, dict[str, Any]]:
    """Every event of the uninterrupted run has come, under one id each: by id, without the stream's name."""
    same: Counter[tuple[str, int]] = Counter()
    wanted: dict[str, dict[str, Any]] = {}
    for event in whole:
        key = event["event"], event["sample"]
        same[key] += 1
        wanted[f"{key[1]}-{key[0]}" + (f"-{same[key]}" if same[key] > 1 else "")] = event
    eventually(lambda: len(consumer.messages) >= len(whole), "delivery")
    eventually(lambda: wanted.keys() <= {e["id"].partition("-")[2] for e in consumer.events(topic)}, "all of it")
    came = consumer.events(topic)
    by_id: dict[str, dict[str, Any]] = {}
    for event in came:
        assert content(by_id.setdefault(event["id"], event)) == content(event)  # an id is one event's for ever
    ours = {id_: event for id_, event in by_id.items() if event["event"] in OF_SAMPLES}
    assert len({id_.partition("-")[0] for id_ in ours}) == 1  # one stream, however often it was started
    assert {id_.partition("-")[2]: content(event) for id_, event in ours.items()} == wanted
    assert [event["sample"] for event in ours.values()] == sorted(event["sample"] for event in ours.values())
    figures["delivered"] += len(came)
    figures["repeated"] += len(came) - len(by_id)
    figures["lost"] += len(wanted) - len(ours)
    return wanted


@needs_broker
def test_killed_at_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    figures = killed_run(tmp_path, 6000, 8, seed=1)
    assert figures["kills"] == 8 and figures["lost"] == 0


@needs_broker
def test_a_command_loses_nothing_either(tmp_path: Path) -> None:
    assert killed_run(tmp_path, 800, 6, seed=3, command=True)["executed"] > 200


@needs_broker
@pytest.mark.slow
def test_killed_at_200_random_moments_nothing_is_lost(tmp_path: Path) -> None:
    figures = killed_run(tmp_path, 50_000, 200, seed=2)
    assert figures["kills"] == 200 and figures["lost"] == 0

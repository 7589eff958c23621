"""What is in a model file: a student or teacher checkpoint, or an exported detector. Chosen by content, not by name.

An exported file is read by the runtime's manifest reader alone, so that a device can look into what it was sent.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.file_kinds import is_checkpoint
from edgekd.runtime.container import format_of
from edgekd.runtime.duration import duration
from edgekd.runtime.guard import admit
from edgekd.runtime.json_fields import shown
from edgekd.runtime.manifest import STATE_DTYPES

if TYPE_CHECKING:
    from edgekd.checkpoint import Checkpoint

CONTAINERS = {"torch": "torch", "onnx": "ONNX", "tflite": "TFLite"}
KINDS = {"student": "student checkpoint", "teacher": "teacher checkpoint", "exported": "exported detector"}
LISTED_SENSORS = 16  # about what a screen holds beside the rest; --json has them all
WIDTH, INDENT = 100, 12
LONGEST_TEXT = 10_000  # characters of one entry; whatever a checkpoint says, it cannot steer the terminal


def describe(path: Path) -> dict[str, Any]:
    """Everything that a file says about itself, JSON-able, and what can be computed from it.

    The same keys for every kind of file; None (or an empty object) where a kind does not have it. Raises ModelRefused
    for any other file, for a damaged one, and for an exported file whose digest does not match.
    """
    return _checkpoint(path) if is_checkpoint(path) else _exported(path)


def _exported(path: Path) -> dict[str, Any]:
    manifest, model = admit(path, try_first=False)  # refuses a file whose bytes are not those of its digest
    found = json.loads(json.dumps(asdict(manifest)))  # tuples as lists
    cost = found["cost"]
    return {
        "file": str(path),
        "kind": "exported",
        "container": format_of(model),
        "file_bytes": len(model),
        **found,
        "state": _with_bytes(found["state"]),
        "state_bytes": sum(spec["bytes"] for spec in _with_bytes(found["state"])),
        "digests": {**found["digests"], "file_matches": True},
        "parameters": cost.get("parameters"),
        "multiply_adds": cost.get("multiply_adds"),
        "training": {},
    }


def _checkpoint(path: Path) -> dict[str, Any]:
    import numpy as np

    from edgekd.blocks.step import multiply_adds
    from edgekd.checkpoint import Checkpoint
    from edgekd.methods import method

    checkpoint = Checkpoint.load(path)
    step = checkpoint.step()
    normal = checkpoint.normal_scores.numpy()
    state = _with_bytes(
        [{"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in step.state_shapes().items()]
    )
    score = {"normal_median": float(np.median(normal)), "normal_p99": float(np.quantile(normal, 0.99))}
    return {
        "file": str(path),
        "kind": checkpoint.role,
        "container": "torch",
        "file_bytes": path.stat().st_size,
        "format": checkpoint.format,
        "edgekd": checkpoint.edgekd,
        "method": checkpoint.method,
        "preset": checkpoint.preset,
        "system": method(checkpoint.method).SYSTEM,
        "sensors": checkpoint.sensors,
        "dropped": checkpoint.dropped,
        "period_s": checkpoint.period_s,
        "hop": step.hop,
        "warmup_samples": step.warmup_samples,
        "max_hold_s": None,
        "layout": checkpoint.layout,
        "state": state,
        "state_bytes": sum(spec["bytes"] for spec in state),
        "threshold": checkpoint.threshold | {"points": [point[:2] for point in checkpoint.threshold.get("points", [])]},
        "score": {"scale": "", **score} if len(normal) else {},
        "quantization": {"scheme": "float32", "calibration": ""},
        "outputs": list(step.outputs),
        "parity": {},
        "self_test": {},
        "digests": {"student": checkpoint.digest(), "data": checkpoint.data["digest"]},
        "metrics": checkpoint.metrics,
        "cost": {},
        "parameters": step.parameters_learned,
        "multiply_adds": multiply_adds(step),
        "training": _training(checkpoint),
    }


def _training(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "seed": checkpoint.seed,
        "data": checkpoint.data,
        "config": checkpoint.config,
        "histories": checkpoint.histories,
        "replay_samples": len(checkpoint.replay_samples),
    }


def _with_bytes(state: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**spec, "bytes": math.prod(spec["shape"]) * STATE_DTYPES[spec["dtype"]]} for spec in state]


def render(about: dict[str, Any]) -> str:
    """The description for people, below the path at most 100 columns wide; made without the packages for tables."""
    lines = [shown(about["file"], 300)]
    for name, texts in rows(about):
        for i, text in enumerate(texts):
            label = name if i == 0 else ""
            lines += textwrap.wrap(
                shown(text, LONGEST_TEXT),
                WIDTH,
                initial_indent=f"{label:<{INDENT}}",
                subsequent_indent=" " * INDENT,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def rows(about: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Label and lines of each row; what is unknown is left out."""
    yield "file", [f"{KINDS[about['kind']]}, {CONTAINERS[about['container']]}, {about['file_bytes']:,} bytes"]
    yield "method", [f"{about['method']}, preset {about['preset'] or '-'}, written by EdgeKD {about['edgekd'] or '-'}"]
    if about["system"]:
        yield "system", [about["system"]]
    yield "numbers", [_numbers(about)]
    yield "cost", [_cost(about)]
    yield "rhythm", [_rhythm(about)]
    if len(about["outputs"]) > 2:
        yield "slow faults", ["watched, by averages over many steps; a second score beside the first, 1 is an alarm"]
    if about["layout"]:
        yield "layout", [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in about["layout"].items()]
    yield "sensors", _sensors(about)
    yield "state", _state(about)
    yield "threshold", _threshold(about)
    if about["score"].get("normal_p99") is not None:
        score = about["score"]
        yield "score", [f"on normal data: median {score['normal_median']:.4g}, 99 % below {score['normal_p99']:.4g}"]
    if about["parity"]:
        yield "parity", [_parity(about["parity"])]
    if about["self_test"]:
        test = about["self_test"]
        yield "self-test", [f"{test['steps']} steps, tolerance {test['tolerance']:g}; edgekd-run --check replays it"]
    if about["training"]:
        yield "training", _trained(about["training"])
    if about["metrics"]:
        yield "metrics", [f"{name}: {json.dumps(value)}" for name, value in about["metrics"].items()]
    yield "digests", _digests(about["digests"])


def _numbers(about: dict[str, Any]) -> str:
    scheme, calibration = about["quantization"]["scheme"], about["quantization"]["calibration"]
    return f"{scheme}; ranges from {calibration}" if calibration else scheme


def _cost(about: dict[str, Any]) -> str:
    parts = [
        f"{about[key]:,} {words}"
        for key, words in (("parameters", "parameters"), ("multiply_adds", "multiply-adds a step"))
        if about[key] is not None
    ]
    return "; ".join(parts) or "not stated by the file"


def _rhythm(about: dict[str, Any]) -> str:
    period_s, hop, warmup = about["period_s"], about["hop"], about["warmup_samples"]
    held = about["max_hold_s"]
    return (
        f"a sample every {duration(period_s)}, a score every {hop} samples ({duration(hop * period_s)}),"
        f" the first after {warmup:,} samples ({duration(warmup * period_s)})"
        + ("" if held is None else f"; a missing value is held for up to {duration(held)}")
    )


def _sensors(about: dict[str, Any]) -> list[str]:
    """A count, then a line each: name, unit, training range, and what stands in for a missing one."""
    sensors, dropped = about["sensors"], about["dropped"]
    lines = [f"{len(sensors)}" + (f", {len(dropped)} of them constant in training and left out" if dropped else "")]
    width = min(32, max(len(shown(sensor["name"])) for sensor in sensors))
    for sensor in sensors[:LISTED_SENSORS]:
        unit = f" {shown(sensor['unit'], 12)}" if sensor["unit"] else ""
        note = ", left out" if sensor["name"] in dropped else f", median {sensor['fill']:.5g}"
        extent = f"{sensor['low']:.5g} to {sensor['high']:.5g}"
        lines.append(f"{shown(sensor['name'], 32):<{width}} {extent}{unit}{note}")
    if len(sensors) > LISTED_SENSORS:
        lines.append(f"… and {len(sensors) - LISTED_SENSORS} more; --json lists them all")
    return lines


def _state(about: dict[str, Any]) -> list[str]:
    lines = [f"{len(about['state'])} tensors, {about['state_bytes']:,} bytes; zeros are the cold start"]
    for spec in about["state"]:
        shape = ", ".join(map(str, spec["shape"]))
        lines.append(f"{spec['name']}: {spec['dtype']} ({shape}), {spec['bytes']:,} bytes")
    return lines


def _threshold(about: dict[str, Any]) -> list[str]:
    threshold = about["threshold"]
    lines = [f"{threshold['value']:.6g}" + (f": {threshold['rule']}" if threshold["rule"] else "")]
    if threshold["data"]:
        lines.append(f"set on {threshold['data']}")
    rate = threshold["alarms_per_day"]
    if rate and rate["days"]:
        lines.append(
            f"{rate['measured']:.3g} alarms a day on {duration(86400 * rate['days'])} of normal data that set nothing,"
            f" at most {rate['upper95']:.3g} (95 %)"
        )
    return lines


def _parity(parity: dict[str, Any]) -> str:
    wanted = {"steps", "max_score_error", "rank_correlation", "changed_decisions"}
    if not wanted <= parity.keys():
        return json.dumps(parity)
    return (
        f"{parity['steps']:,.0f} closed-loop steps against torch: worst score error {parity['max_score_error']:.2g},"
        f" rank correlation {parity['rank_correlation']:.5f}, {parity['changed_decisions']:.2%} of decisions changed"
    )


def _trained(training: dict[str, Any]) -> list[str]:
    data = training["data"]
    entities = f" of {data['entities']} entities" if data["entities"] > 1 else ""
    lines = [f"{data['source']}: {data['samples']:,} samples{entities}, seed {training['seed']}"]
    for name, history in training["histories"].items():
        last, seconds = history[-1], sum(epoch.get("seconds", 0.0) for epoch in history)
        losses = ", ".join(f"{key} {last[key]:.4g}" for key in ("loss", "validation") if key in last)
        lines.append(
            f"{name}: {len(history)} {'epoch' if len(history) == 1 else 'epochs'} in {duration(seconds)}; {losses}"
        )
    lines.append(f"carries {training['replay_samples']:,} normal samples, on which export calibrates and proves itself")
    return lines


def _digests(digests: dict[str, Any]) -> list[str]:
    lines = []
    if digests.get("file"):
        lines.append(f"file    {digests['file'][:32]}… is that of these bytes")
    for name in ("student", "data"):
        if digests.get(name):
            lines.append(f"{name:<7} {digests[name][:32]}…")
    return lines or ["none"]

"""`edgekd-run --check`: is this file what it says, and does this machine compute what was trained?"""

from __future__ import annotations

import time
from math import isfinite
from pathlib import Path
from typing import Any

from edgekd.runtime.engines import load_engine
from edgekd.runtime.guard import admit
from edgekd.runtime.selftest import run_self_test

COPIED = ("method", "preset", "system", "period_s", "hop", "warmup_samples")  # from the manifest into the report
DESCRIPTION = """\
model      {method}, preset {preset}, {quantization}
system     {system}
sensors    {count}: {names}
rate       a sample every {period_s:g} s, a score every {every_s:g} s
warm-up    {warmup_samples} samples, {warmup_s:g} s
threshold  {threshold:.6g}{rate}
engine     {engine}, {step_us:g} µs a step here
digest     {file_sha256:.16}… matches, {kib:.0f} KiB
self-test  {outcome}, {steps} steps, worst error {worst} of {tolerance:g} allowed"""


def check_model(path: str | Path, signed_by: str | Path | None = None) -> dict[str, Any]:
    """Load, verify and replay a model file: a JSON-able report with `ok`. Raises as those that do it."""
    manifest, model = admit(path, signed_by, try_first=True, again=True)
    engine = load_engine(model, manifest)
    began = time.perf_counter()
    result = run_self_test(engine, manifest)
    step_s = (time.perf_counter() - began) / result.steps
    rate = manifest.threshold.alarms_per_day
    return {
        "ok": result.passed,
        "file": str(path),
        "file_bytes": len(model),
        "file_sha256": manifest.digests.file,
        **{field: getattr(manifest, field) for field in COPIED},
        "sensors": list(manifest.names),
        "threshold": manifest.threshold.value,
        "alarms_per_day_upper95": rate and rate.upper95,
        "quantization": manifest.quantization.scheme,
        "engine": engine.name,
        "step_us": round(step_s * 1e6, 1),
        "self_test": {**result._asdict(), "worst_error": result.worst_error if isfinite(result.worst_error) else None},
    }


def describe(report: dict[str, Any]) -> str:
    """The report for people."""
    sensors, period_s, test = report["sensors"], report["period_s"], report["self_test"]
    rate, worst = report["alarms_per_day_upper95"], test["worst_error"]
    return DESCRIPTION.format(
        **{**report, **test, "preset": report["preset"] or "-", "system": report["system"] or "-"},
        count=len(sensors),
        names=", ".join(sensors[:6]) + (" …" if len(sensors) > 6 else ""),
        every_s=report["hop"] * period_s,
        warmup_s=report["warmup_samples"] * period_s,
        rate="" if rate is None else f", at most {rate:.2g} alarms a day",
        kib=report["file_bytes"] / 1024,
        outcome="passed" if test["passed"] else "FAILED",
        worst="not a number" if worst is None else f"{worst:.2g}",
    )

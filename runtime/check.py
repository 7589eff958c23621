"""`edgekd-run --check`: is this file what it says, and does this machine compute what was trained?"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from edgekd.runtime.engines import load_engine
from edgekd.runtime.guard import admit
from edgekd.runtime.selftest import run_self_test
from edgekd.runtime.step_cost import microseconds, peak_bytes, step_times

COPIED = ("method", "preset", "system", "period_s", "hop", "warmup_samples")  # from the manifest into the report
DESCRIPTION = """\
model      {method}, preset {preset}, {quantization}
system     {system}
sensors    {count}: {names}
rate       a sample every {period_s:g} s, a score every {every_s:g} s
warm-up    {warmup_samples} samples, {warmup_s:g} s
threshold  {threshold:.6g}{rate}
engine     {engine}
step       {median} µs here, 1 in 100 above {p99} µs; {mib:.0f} MiB of memory at most
digest     {file_sha256:.16}… matches, {kib:.0f} KiB
self-test  {outcome}, {steps} steps, worst error {worst} of {tolerance:g} allowed"""


def check_model(path: str | Path, signed_by: str | Path | None = None) -> dict[str, Any]:
    """Load, verify and replay a model file: a JSON-able report with `ok`; a failed self-test is one.

    Raises ModelRefused for the file, MissingExtra or UsageError for the engine, also where it would kill this process.
    """
    manifest, model = admit(path, signed_by, try_first=True, again=True)
    engine = load_engine(model, manifest)
    result = run_self_test(engine, manifest)
    times = step_times(engine, manifest)
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
        "step_us": round(times.median_us, 1),
        "step_p99_us": round(times.p99_us, 1),
        "peak_rss_bytes": peak_bytes(),
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
        median=microseconds(report["step_us"]),
        p99=microseconds(report["step_p99_us"]),
        mib=report["peak_rss_bytes"] / 2**20,
        outcome="passed" if test["passed"] else "FAILED",
        worst="not a number" if worst is None else f"{worst:.2g}",
    )

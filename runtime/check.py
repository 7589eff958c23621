"""`edgekd-run --check`: is this file what it says, and does this machine compute what was trained?"""

from __future__ import annotations

import time
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from edgekd.runtime.engines import load_engine
from edgekd.runtime.guard import admit
from edgekd.runtime.guard.child_process import probe
from edgekd.runtime.selftest import run_self_test


def check_model(path: str | Path, signed_by: str | Path | None = None) -> dict[str, Any]:
    """Load, verify and replay a model file: a JSON-able report with `ok`.

    signed_by: public key that must have signed the file.
    Raises ModelRefused for the file, MissingExtra or UsageError for the engine, also where it would kill this process;
    a failed self-test is a report.
    """
    manifest, model = admit(path, signed_by, try_first=False)
    probe(model)  # always, also one that is known
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
        "method": manifest.method,
        "preset": manifest.preset,
        "system": manifest.system,
        "sensors": list(manifest.names),
        "period_s": manifest.period_s,
        "hop": manifest.hop,
        "warmup_samples": manifest.warmup_samples,
        "threshold": manifest.threshold.value,
        "alarms_per_day_upper95": rate and rate.upper95,
        "quantization": manifest.quantization.scheme,
        "engine": engine.name,
        "step_us": round(step_s * 1e6, 1),
        "self_test": {**asdict(result), "worst_error": result.worst_error if isfinite(result.worst_error) else None},
    }


def describe(report: dict[str, Any]) -> str:
    """The report for people."""
    test = report["self_test"]
    every_s = report["hop"] * report["period_s"]
    names = ", ".join(report["sensors"][:6]) + (" …" if len(report["sensors"]) > 6 else "")
    alarms = report["alarms_per_day_upper95"]
    worst = "not a number" if test["worst_error"] is None else f"{test['worst_error']:.2g}"
    rows = [
        ("model", f"{report['method']}, preset {report['preset'] or '-'}, {report['quantization']}"),
        ("system", report["system"] or "-"),
        ("sensors", f"{len(report['sensors'])}: {names}"),
        ("rate", f"a sample every {report['period_s']:g} s, a score every {every_s:g} s"),
        ("warm-up", f"{report['warmup_samples']} samples, {report['warmup_samples'] * report['period_s']:g} s"),
        (
            "threshold",
            f"{report['threshold']:.6g}" + ("" if alarms is None else f", at most {alarms:.2g} alarms a day"),
        ),
        ("engine", f"{report['engine']}, {report['step_us']:g} µs a step here"),
        ("digest", f"{report['file_sha256'][:16]}… matches, {report['file_bytes'] / 1024:.0f} KiB"),
        (
            "self-test",
            f"{'passed' if test['passed'] else 'FAILED'}, {test['steps']} steps, worst error {worst} of"
            f" {test['tolerance']:g} allowed",
        ),
    ]
    return "\n".join(f"{name:<10} {value}" for name, value in rows)

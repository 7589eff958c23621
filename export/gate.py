"""The accuracy gate: what an exported file must hold before it appears."""

from __future__ import annotations

from edgekd.export.detection import Detection
from edgekd.export.parity import SLOW_TOLERANCE, Parity

MIN_RANK_CORRELATION = 0.99  # int8
MAX_CHANGED_DECISIONS = 0.01  # int8, share of steps
MAX_VUS_PR_CHANGE = 0.01  # int8, on labeled data


def float_misses(parity: Parity) -> str:
    """Why a float file is not what was trained; empty where it is."""
    for error in (parity.max_score_error, parity.random_state_error):
        if not error <= parity.tolerance:  # written so that a figure which is no number does not hold
            return f"the file's scores differ from torch by {error:.2g}, allowed is {parity.tolerance:g}"
    if not parity.slow_error <= SLOW_TOLERANCE:
        return f"the file's slow scores differ from torch by {parity.slow_error:.2g}, allowed is {SLOW_TOLERANCE:g}"
    return ""


def int8_misses(parity: Parity, detection: Detection | None, of_float: Detection | None) -> str:
    """Why an int8 file may not stand for its student; empty where it may. Detection: None without labeled data."""
    if not parity.rank_correlation >= MIN_RANK_CORRELATION:
        return (
            f"its scores correlate {parity.rank_correlation:.4f} with torch, at least {MIN_RANK_CORRELATION} is wanted"
        )
    if not parity.changed_decisions <= MAX_CHANGED_DECISIONS:
        return f"it changes {parity.changed_decisions:.1%} of the decisions, at most {MAX_CHANGED_DECISIONS:.0%} may"
    if detection is None or of_float is None:
        return ""
    if detection.rank_correlation is not None and not detection.rank_correlation >= MIN_RANK_CORRELATION:
        return (
            f"on {detection.source} its scores correlate {detection.rank_correlation:.4f} with those in float, at "
            f"least {MIN_RANK_CORRELATION} is wanted"
        )
    if detection.vus_pr is not None and of_float.vus_pr is not None:
        change = detection.vus_pr - of_float.vus_pr
        if not abs(change) <= MAX_VUS_PR_CHANGE:
            return f"on {detection.source} VUS-PR changes by {change:+.3f}, at most {MAX_VUS_PR_CHANGE} may"
    return ""

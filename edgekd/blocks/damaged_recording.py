"""Copies of a recording with damage laid into them: what a student is shown of anomalies, where there are none.

Damage is done to recordings, not to single windows, so that any teacher can judge it, one that carries state included,
on a few sensors or on many.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekd.blocks.synthetic_faults import KINDS, sensors_hit, struck
from edgekd.data.recording import Recording


def damaged(recording: Recording, span: int, seed: int) -> Recording:
    """A copy with stretches of damage, one every two `span` samples or so, in the sensors that vary.

    span: samples that one window of the student looks at; a stretch is as long as up to one of them.
    """
    rng = np.random.default_rng(seed)
    values = recording.values.astype(np.float64)
    deviation = values.std(0)
    varying = np.flatnonzero(deviation > 0)
    for start, end in recording.bounds:
        at = start + int(rng.integers(0, span))
        while len(varying) and at + 4 <= end:
            stop = min(end, at + _length(rng, span))
            chosen = rng.choice(varying, sensors_hit(len(varying), rng), replace=False)
            window = values[max(start, stop - span) : stop, chosen]
            kind = KINDS[rng.integers(len(KINDS))]
            values[at:stop, chosen] = struck(values[at:stop, chosen], window, deviation[chosen], kind, rng)
            at = stop + int(rng.integers(span // 2, 2 * span + 1))
    return replace(
        recording,
        values=np.ascontiguousarray(values, np.float32),
        labels=None,
        source=f"{recording.source} with damage",
    )


def _length(rng: np.random.Generator, span: int) -> int:
    """Samples of one stretch: 4 to `span`, short ones as likely as long ones."""
    return int(np.exp(rng.uniform(np.log(4), np.log(max(5, span)))))

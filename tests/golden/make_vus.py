"""Write vus.json: what the published implementation gives for small cases.

Run in an environment of its own, since TSB-AD pins NumPy below 2 (its metrics run with NumPy 2 all the same):

    pip install numpy scikit-learn && pip install --no-deps TSB-AD==1.5
    python tests/golden/make_vus.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from TSB_AD.evaluation.basic_metrics import generate_curve

# segments [begin, end), points, widest buffer, distinct score levels
CASES = {
    "one segment": ([(120, 160)], 400, 100, 1000),
    "touching both ends": ([(0, 7), (290, 300)], 300, 40, 1000),
    "buffers that meet and overlap": ([(60, 70), (95, 96), (110, 140), (260, 261)], 350, 100, 1000),
    "more points than thresholds, ties": ([(50, 90), (300, 301), (400, 470)], 600, 60, 12),
    "no buffer at all": ([(30, 50), (55, 60)], 200, 0, 1000),
    "odd buffer": ([(30, 50), (80, 85)], 200, 31, 1000),
}


def main() -> None:
    cases = []
    for seed, (name, (segments, n, max_buffer, levels)) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        labels = np.zeros(n, int)
        for begin, end in segments:
            labels[begin:end] = 1
        # a detector that is somewhat right, and late: scores are whole numbers, so that JSON holds them exactly
        late = np.roll(labels, 8)
        scores = np.floor((rng.random(n) + 0.5 * labels + 0.4 * late) / 1.9 * levels).astype(int)
        *_, vus_roc, vus_pr = generate_curve(labels, scores, max_buffer, version="opt")
        cases.append(
            {
                "name": name,
                "segments": segments,
                "max_buffer": max_buffer,
                "scores": scores.tolist(),
                "vus_pr": float(vus_pr),
                "vus_roc": float(vus_roc),
            }
        )
    made_by = f"generate_curve(labels, scores, max_buffer, version='opt') of TSB-AD {version('TSB_AD')}"
    path = Path(__file__).with_name("vus.json")
    rows = ",\n".join(json.dumps(case) for case in cases)
    path.write_text(f'{{"made_by": {json.dumps(made_by)}, "cases": [\n{rows}\n]}}\n')


if __name__ == "__main__":
    main()

"""TSB-AD's own measures of one series, in its own environment: `python tsb_ad_worker.py IN.npz OUT.json`.

IN: `first` (T,), the first channel, by whose autocorrelation TSB-AD chooses its widest buffer, `labels` (T,), and one
array (T,) of scores for each detector, larger is stranger. OUT: the buffer, and of each detector all that the benchmark
tells, thresholds chosen by the labels where one is needed (its own protocol).
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np


def main(source, target):
    warnings.simplefilter("ignore")  # of labels that no threshold finds
    from TSB_AD.evaluation.metrics import get_metrics
    from TSB_AD.utils.slidingWindows import find_length_rank

    with np.load(source) as given:
        first, labels = given["first"], given["labels"].astype(int)
        scores = {name: given[name] for name in given.files if name not in ("first", "labels")}
    buffer = int(find_length_rank(first.reshape(-1, 1), rank=1))
    told = {name: get_metrics(of_one, labels, slidingWindow=buffer) for name, of_one in scores.items()}
    figures = {name: {key: float(value) for key, value in of_one.items()} for name, of_one in told.items()}
    Path(target).write_text(json.dumps({"buffer": buffer, "figures": figures}))


if __name__ == "__main__":
    main(*sys.argv[1:])

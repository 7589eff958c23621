"""One peer on one recording, in an environment without EdgeKD: `python peers_worker.py NAME IN.npz OUT.npz`.

IN: `train`, `test` float64 (T, n), `labels` bool (T,). OUT: `scores` (T,), larger is stranger, `fit_s`, `score_s` of
all at once, `call_s` of one sample a call, as a device meets them (not a number where a window is asked for), all on
one core, `bytes` of what a device would have to hold, and `vus_pr` by TSB-AD's own code. Each is fitted on the training
part alone, z-scored by it (river: between 0 and 1, which it asks for), with the settings that TSB-AD publishes for
multivariate series, or the package's defaults. TSB-AD's PCA and KMeansAD give a window's score to its middle: they look
ahead, which no device can.
"""

import contextlib
import io
import pickle
import sys
import time

import numpy as np

CALLS = 200  # that are timed
EXPLAINED = 0.9  # of the variance, by the components of NumPy's PCA
WINDOW = 60  # samples of a profile of stumpy's
LONGEST = 15_000  # samples up to which TSB-AD's own VUS-PR is computed, too


class TsbAd:
    """A model of TSB-AD's; `own` are its settings."""

    def __init__(self, name, **own):
        self.name, self.own = name, own

    def fit(self, train):
        from importlib import import_module

        model = getattr(import_module(f"TSB_AD.models.{self.name}"), self.name)
        deep = self.name not in ("PCA", "KMeansAD")
        self.model = model(**self.own, **({"feats": train.shape[1]} if deep else {}))
        self.model.fit(train)

    def score(self, test):
        found = self.model.predict(test) if self.name == "KMeansAD" else self.model.decision_function(test)
        return np.asarray(found).ravel()

    def size(self):
        network = getattr(self.model, "model", None)
        if hasattr(network, "state_dict"):
            return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        if self.name == "PCA":
            return self.model.selected_components_.nbytes + self.model.scaler_.mean_.nbytes * 2
        return network.cluster_centers_.nbytes


class PyOd:
    """A detector of PyOD's, at its defaults."""

    by_sample = True

    def __init__(self, name):
        self.name = name

    def fit(self, train):
        from importlib import import_module

        module = import_module(f"pyod.models.{self.name.lower()}")
        self.model = getattr(module, self.name)()
        self.model.fit(train)

    def score(self, test):
        return self.model.decision_function(test)

    def size(self):
        return len(pickle.dumps(self.model))


class HalfSpaceTrees:
    """River's, at its defaults: learns sample by sample, and does not learn from what it is tested on."""

    by_sample = True

    def fit(self, train):
        from river.anomaly import HalfSpaceTrees as Trees

        self.low, self.range = train.min(0), np.ptp(train, 0) + 1e-9
        self.model = Trees(seed=0)
        for row in self.rows(train):
            self.model.learn_one(row)

    def rows(self, values):
        for row in np.clip((values - self.low) / self.range, 0, 1).tolist():
            yield dict(enumerate(row))

    def score(self, test):
        return np.array([self.model.score_one(row) for row in self.rows(test)])

    def size(self):
        return len(pickle.dumps(self.model))


class Covariance:
    """scikit-learn's Mahalanobis distance, at its defaults."""

    by_sample = True

    def fit(self, train):
        from sklearn.covariance import EmpiricalCovariance

        self.model = EmpiricalCovariance().fit(train)

    def score(self, test):
        return self.model.mahalanobis(test)

    def size(self):
        return self.model.precision_.nbytes + self.model.location_.nbytes


class PlainPca:
    """What a sample has outside the largest principal components, by NumPy alone."""

    by_sample = True

    def fit(self, train):
        values, vectors = np.linalg.eigh(np.cov(train.T).reshape(train.shape[1], -1))
        held = np.cumsum(values[::-1]) / values.sum() < EXPLAINED
        self.components = vectors[:, ::-1][:, : held.sum() + 1]

    def score(self, test):
        return np.square(test - test @ self.components @ self.components.T).sum(1)

    def size(self):
        return self.components.nbytes


class MatrixProfile:
    """Distance of each sensor's newest window to the nearest one in training (stumpy), mean over sensors."""

    def fit(self, train):
        self.train = train

    def score(self, test):
        import stumpy

        total = np.zeros(len(test))
        for column in range(test.shape[1]):
            profile = stumpy.stump(test[:, column], WINDOW, self.train[:, column], ignore_trivial=False)[:, 0]
            profile = profile.astype(float)
            profile[~np.isfinite(profile)] = 0.0
            total[WINDOW - 1 :] += profile
        return total / test.shape[1]

    def size(self):
        return self.train.nbytes


PEERS = {
    "TSB-AD PCA": TsbAd("PCA", slidingWindow=100, n_components=0.25),
    "TSB-AD KMeansAD": TsbAd("KMeansAD", k=10, window_size=40, stride=1),
    "TSB-AD CNN": TsbAd("CNN", window_size=50, num_channel=[32, 32, 40], lr=0.0008, batch_size=128),
    "TSB-AD OmniAnomaly": TsbAd("OmniAnomaly", win_size=100, lr=0.002),
    "TSB-AD LSTMAD": TsbAd("LSTMAD", window_size=150, pred_len=1, lr=0.0008, batch_size=128),
    "river HalfSpaceTrees": HalfSpaceTrees(),
    "PyOD ECOD": PyOd("ECOD"),
    "PyOD IForest": PyOd("IForest"),
    "scikit-learn EmpiricalCovariance": Covariance(),
    "NumPy PCA": PlainPca(),
    "stumpy matrix profile": MatrixProfile(),
}


def main(name, source, target):
    with np.load(source) as given:
        train, test, labels = given["train"], given["test"], given["labels"]
    kept = np.ptp(train, 0) > 0
    mean, deviation = train[:, kept].mean(0), train[:, kept].std(0)
    train, test = (train[:, kept] - mean) / deviation, (test[:, kept] - mean) / deviation
    np.random.seed(0)
    with contextlib.suppress(ImportError):
        import torch

        torch.manual_seed(0)
        torch.set_num_threads(1)
    peer = PEERS[name]
    with contextlib.redirect_stdout(io.StringIO()):
        begun = time.process_time()
        peer.fit(train)
        fitted = time.process_time()
        scores = np.asarray(peer.score(test), float)
        done = time.process_time()
        call_s = np.median([_call(peer, row) for row in test[:CALLS, None]]) if hasattr(peer, "by_sample") else np.nan
    scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
    missing = len(test) - len(scores)  # some give none for the last or first window
    scores = np.concatenate([np.full(missing, scores.min()), scores])
    vus = np.nan
    if len(test) <= LONGEST:
        from TSB_AD.evaluation.metrics import get_metrics

        with contextlib.redirect_stdout(io.StringIO()):
            vus = get_metrics(scores, labels.astype(int), slidingWindow=100)["VUS-PR"]
    told = {"fit_s": fitted - begun, "score_s": done - fitted, "call_s": call_s, "bytes": peer.size(), "vus_pr": vus}
    np.savez(target, scores=scores, **told)


def _call(peer, sample):
    begun = time.process_time()
    peer.score(sample)
    return time.process_time() - begun


if __name__ == "__main__":
    main(*sys.argv[1:])

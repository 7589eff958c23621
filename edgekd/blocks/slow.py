"""Slow verdicts: accumulators that find what no short window shows, a leak, a shift under noise, a drifting cycle.

All look at averages over a hop of what separates a machine's sources: components by second-order blind identification
(SOBI, Belouchrani et al., 1997) and each sensor's residual of a regression on all others, clipped to 3 deviations.

* step: how far the average of each component over 12 hops is from that over the 68 before, in its deviations on normal
  data. A machine that has moved since training and stays there does not alarm.
* mean: the average of each component over 80 hops, likewise. All are left out where normal means do not stay where they
  are (`audit`), and components that wander by themselves.
* coherence: where a component has a cycle, how alike it is to itself 1, 2 and 4 cycles ago; only a fall counts.

A sensor that shifts alone shows in its neighbors' residuals, too, often larger than in its own. So the sensor behind a
step or a mean is the one whose shift alone explains most of what all components say (reconstruction-based contribution,
Alcala and Qin, 2009).

A hop counts only where no fast score is high two hops around, and all sensors were there: other faults would stay in
the averages for as long as they are long. So a verdict is for two hops ago.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Entity = tuple[np.ndarray, np.ndarray]
"""float32 (T, m) scaled samples, bool (T // hop,) where the fast score is high."""

REGRESSION_LAGS = (0, 1, 2, 4, 8, 16)
RING = max(REGRESSION_LAGS)
SOBI_LAGS = range(1, 181, 6)
CLIP = 3.0
"""Deviations; one wild hop must not fill an average."""
STEP, BOX = 12, 80
"""Hops that a step must last for, and that an average or a coherence is over."""
AROUND = 2
"""Hops before and after a high fast score that do not count."""
SMALLEST = 1e-6
"""Deviation of a scaled sensor that is taken for none."""
CYCLES = (1, 2, 4)
LEAST_CYCLES = 20
"""Cycles that training must show; one seen less often may be chance."""
LEAST_LIKENESS = 0.2
"""Autocorrelation at each of CYCLES from which a component has a cycle."""
MOST_CYCLIC = 4
MEAN_MARGIN, COHERENCE_MARGIN = 1.4, 1.25
"""A monitor alarms at this times its largest value on normal data; the first is of steps, too."""
STEADY = 4.2
"""Deviation of an average, in that of white noise, from which a component wanders by itself; averaging gains nothing
over it."""
LEAST_BOXES = 4
"""Boxes that training must hold; of a shorter one all monitors are off."""
AUDIT_SHARE = 0.7
AUDIT_LEVEL, AUDIT_ALARMS = 0.8, 0.1
"""Share of the rest above this part of an alarm from which a step or the means are not watched."""


class SlowMonitors(nn.Module):
    """Scaled samples of a hop and whether the fast score is high, to a slow score; 1 = alarm.

    State: `slow_ring` (16, m) newest scaled samples, `slow_hops` (82, 2 m) averages over hops, `slow_cyclic` (h, c)
    longer ones of components with a cycle, `slow_calm` (H + 4,) 1 where a hop was calm. All zero at the cold start,
    which is not calm.
    """

    unmix: Tensor
    """(6 m, 2 m): scaled samples at REGRESSION_LAGS to standardized components; the first m are SOBI's."""
    bias: Tensor
    """(2 m,)"""
    directions: Tensor
    """(2 m, m): what a lasting shift of each sensor by 1 does to every component."""
    mean_scale: Tensor
    """(2, 2 m): 1 / (deviation x threshold) of a component's step and of its mean; 0 where it is not watched."""
    sight: Tensor
    """(2, m): 1 / squared length of what such a shift does to steps and to means, as they are scaled."""
    cyclic: Tensor
    """int64 (c,): components with a cycle, c = MOST_CYCLIC where there is one; those in excess have no scale."""
    likeness: Tensor
    """(3, c): normal coherence at CYCLES."""
    likeness_scale: Tensor
    """(c,): 1 / (deviation x threshold) of a component's fall."""
    loadings: Tensor
    """(c, m): share of each sensor in a component with a cycle; rows sum to 1."""

    def __init__(self, m: int, hop: int, cycle_hops: int = 0) -> None:
        super().__init__()
        self.m, self.hop, self.cycle_hops = m, hop, cycle_hops
        """cycle_hops: length of the cycle found; 0 where training shows none."""
        n_cyclic = min(MOST_CYCLIC, 2 * m) if cycle_hops else 0
        self.memory_hops = BOX + max(CYCLES) * cycle_hops
        self.register_buffer("unmix", torch.zeros(len(REGRESSION_LAGS) * m, 2 * m))
        self.register_buffer("bias", torch.zeros(2 * m))
        self.register_buffer("directions", torch.zeros(2 * m, m))
        self.register_buffer("mean_scale", torch.zeros(2, 2 * m))
        self.register_buffer("sight", torch.zeros(2, m))
        self.register_buffer("cyclic", torch.arange(n_cyclic))
        self.register_buffer("likeness", torch.zeros(len(CYCLES), n_cyclic))
        self.register_buffer("likeness_scale", torch.zeros(n_cyclic))
        self.register_buffer("loadings", torch.ones(n_cyclic, m) / m)

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every state tensor, in the order of `forward`."""
        shapes: dict[str, tuple[int, ...]] = {"slow_ring": (RING, self.m), "slow_hops": (BOX + AROUND, 2 * self.m)}
        if self.cycle_hops:
            shapes["slow_cyclic"] = (self.memory_hops + AROUND, len(self.cyclic))
        return {**shapes, "slow_calm": (self.memory_hops + 2 * AROUND,)}

    def forward(self, scaled: Tensor, live: Tensor, high: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """scaled (hop, m), live (m,) 1 or 0, high () 1 or 0, state -> slow score (), contributions (m,), next state."""
        window = torch.cat([state[0], scaled])
        average = self.components(window).mean(0, keepdim=True)  # (1, 2 m)
        following = [window[-RING:], torch.cat([state[1][1:], average])]
        if self.cycle_hops:
            following.append(torch.cat([state[2][1:], average.index_select(1, self.cyclic)]))
        following.append(torch.cat([state[-1][1:], ((1 - high) * live.amin(0)).reshape(1)]))
        score, shares = self.verdict(*(tensor.unsqueeze(0) for tensor in following[1:]))
        return (score.squeeze(0), shares.squeeze(0), *following)

    def components(self, window: Tensor) -> Tensor:
        """Scaled samples (16 + T, m) -> (T, 2 m) standardized and clipped components."""
        end = window.shape[0]
        lagged = torch.cat([window[RING - lag : end - lag] for lag in REGRESSION_LAGS], 1)
        return (lagged @ self.unmix + self.bias).clamp(-CLIP, CLIP)

    def averages(self, scaled: Tensor) -> Tensor:
        """Scaled samples (T, m) of one entity from its cold start -> average of each component in each hop (V, 2 m)."""
        hops = len(scaled) // self.hop
        padded = torch.cat([torch.zeros(RING, self.m), scaled[: hops * self.hop]])
        return self.components(padded).reshape(hops, self.hop, 2 * self.m).mean(1)

    def verdict(self, hops: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        """hops (B, 82, 2 m), [cyclic (B, h, c)], calm (B, H + 4) -> slow score (B,), contributions (B, m)."""
        weights = self.counted(rest[-1])
        moved = self.means(hops, weights) * self.mean_scale  # (B, 2, 2 m)
        values = moved.abs().amax(2)
        shares = sharpened(((moved * self.mean_scale) @ self.directions).square() * self.sight, 4)  # (B, 2, m)
        if self.cycle_hops:
            values = torch.cat([values, self.falls(rest[0], weights) * self.likeness_scale], 1)
            shares = torch.cat([shares, self.loadings.expand(shares.shape[0], -1, -1)], 1)
        weight = sharpened(values.clamp(min=0), 8)
        score = values.amax(1).clamp(min=0)
        return score, score[:, None] * (weight[:, :, None] * shares).sum(1)

    def counted(self, calm: Tensor) -> Tensor:
        """calm (B, H + 4) -> (B, H) 1 for each hop that is calm, as the two before and after it are."""
        size = calm.shape[1] - 2 * AROUND
        weights = calm[:, :size]
        for shift in range(1, 2 * AROUND + 1):
            weights = weights * calm[:, shift : shift + size]
        return weights

    def means(self, hops: Tensor, weights: Tensor) -> Tensor:
        """(B, 82, 2 m), (B, H) -> (B, 2, 2 m) each step and mean; a hop that does not count is 0."""
        weights = weights[:, -BOX:, None]
        counted = hops[:, :BOX] * weights
        newest, before = counted[:, -STEP:].sum(1), counted[:, :-STEP].sum(1)
        of_newest, of_before = weights[:, -STEP:].sum(1), weights[:, :-STEP].sum(1)
        known = of_newest * of_before / (STEP * (BOX - STEP))
        step = known * (newest / of_newest.clamp_min(1.0) - before / of_before.clamp_min(1.0))
        return torch.stack([step, (newest + before) / BOX], 1)

    def coherence(self, cyclic: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """cyclic (B, h, c), weights (B, H) -> coherence (B, 3, c) in [-1, 1], share of the box counted (B, 3, 1)."""
        size = self.memory_hops
        now, found, known = cyclic[:, size - BOX : size], [], []
        for cycles in CYCLES:
            start = size - BOX - cycles * self.cycle_hops
            then = cyclic[:, start : start + BOX]
            both = (weights[:, size - BOX :] * weights[:, start : start + BOX])[:, :, None]
            energy = 0.5 * ((now**2 + then**2) * both).sum(1)
            found.append((now * then * both).sum(1) / (energy + 1e-6))
            known.append(both.mean(1))
        return torch.stack(found, 1), torch.stack(known, 1)

    def falls(self, cyclic: Tensor, weights: Tensor) -> Tensor:
        """(B, h, c), (B, H) -> (B, c) fall of each component's coherence below normal, averaged over CYCLES."""
        coherence, known = self.coherence(cyclic, weights)
        return ((self.likeness - coherence) * known).mean(1)

    @property
    def watches(self) -> bool:
        """Whether either monitor is on."""
        return bool(self.mean_scale.any()) or self.cycle_hops > 0

    def windows(self, scaled: Tensor, high: Tensor, chunk: int = 256) -> Iterator[list[Tensor]]:
        """scaled (T, m) of one entity, high (T // hop,) -> chunks of what `verdict` takes, one row a hop."""
        averages = self.averages(scaled)
        hops = len(averages)
        series = [(averages, BOX + AROUND)]
        if self.cycle_hops:
            series.append((averages.index_select(1, self.cyclic), self.memory_hops + AROUND))
        series.append((1 - high.float()[:, None], self.memory_hops + 2 * AROUND))
        grown = [(torch.cat([torch.zeros(span, x.shape[1]), x]), span) for x, span in series]
        for ends in torch.arange(1, hops + 1).split(chunk):
            rows = [x[ends[:, None] + torch.arange(span)] for x, span in grown]
            yield [*rows[:-1], rows[-1].squeeze(2)]

    @torch.inference_mode()
    def batch(self, scaled: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """scaled (T, m) of one entity from its cold start, high (V,) -> slow scores (V,), contributions (V, m)."""
        scores, shares = zip(*(self.verdict(*window) for window in self.windows(scaled, high)))
        return torch.cat(scores), torch.cat(shares)


def sharpened(sizes: Tensor, power: int) -> Tensor:
    """(..., k) from 0 on -> shares of 1: what is near the largest is told, the many small ones are not."""
    sharp = (sizes / (sizes.amax(-1, keepdim=True) + 1e-9)) ** power
    return sharp / (sharp.sum(-1, keepdim=True) + 1e-9)


def fit_slow(entities: Sequence[Entity], hop: int, audited: bool = True) -> SlowMonitors:
    """Fit the monitors on normal data; those that it is too short for are off.

    audited: ask `audit` which steps and means to watch, and let each alarm only above what that saw; else watch all.
    """
    m = entities[0][0].shape[1]
    entities = [entity for entity in entities if len(entity[1]) > BOX + AROUND]
    hops = sum(len(high) for _, high in entities)
    if hops < LEAST_BOXES * BOX:
        return SlowMonitors(m, hop)
    unmix, bias, loadings = _components([scaled.astype(np.float64) for scaled, _ in entities])
    probe = SlowMonitors(m, hop)
    _set(probe, unmix=unmix, bias=bias)
    longest, _ = max(entities, key=lambda entity: len(entity[1]))
    with torch.inference_mode():
        cycle, cyclic = _cycle(probe.averages(torch.from_numpy(longest)).numpy())
    slow = SlowMonitors(m, hop, cycle)
    directions = unmix.reshape(len(REGRESSION_LAGS), m, 2 * m).sum(0).T
    _set(slow, unmix=unmix, bias=bias, directions=directions)
    if cycle:
        slow.cyclic[: len(cyclic)] = torch.from_numpy(cyclic)
        slow.loadings[: len(cyclic)] = torch.from_numpy(loadings[cyclic])
        _calibrate_coherence(slow, entities, len(cyclic))
    _calibrate_means(slow, entities)
    if audited:
        shares, largest = map(torch.stack, zip(*(audit(entities, hop, later) for later in (True, False))))
        slow.mean_scale *= (shares.amax(0) < AUDIT_ALARMS) / largest.amax(0).clamp_min(1.0)
    seen = slow.mean_scale.square() @ slow.directions.square()
    slow.sight.copy_(torch.where(seen > 0, 1 / seen, 0.0))
    return slow


def audit(entities: Sequence[Entity], hop: int, later: bool) -> tuple[Tensor, Tensor]:
    """How steps and means that are fitted on 70 % of normal data do on the rest, which comes later or was before.

    Returns of each, (2, 2 m), the share of the rest in alarm, and the largest score. Means are judged together: where
    one has moved, so will others. Of steps a sensor's residual is the same in every fit; SOBI's components are not, and
    are judged as one. All of the rest is in alarm where there is too little to fit.
    """
    known, rest = [], []
    for scaled, high in entities:
        seam = int((AUDIT_SHARE if later else 1 - AUDIT_SHARE) * len(high))
        halves = (scaled[: seam * hop], high[:seam]), (scaled[seam * hop :], high[seam:])
        known.append(halves[0 if later else 1])
        rest.append(halves[1 if later else 0])
    first = fit_slow(known, hop, audited=False)
    with torch.inference_mode():
        rows = (row for x, high in rest for row in first.windows(torch.from_numpy(x), torch.from_numpy(high)))
        scores = torch.cat([first.means(row[0], first.counted(row[-1])).abs() * first.mean_scale for row in rows])
    alarms = scores >= AUDIT_LEVEL
    share, largest = alarms.float().mean(0), scores.amax(0)
    share[1] = alarms[:, 1].any(1).float().mean()
    for found in (share, largest):
        found[:, : first.m] = found[:, : first.m].amax(1, keepdim=True)
    watched = first.mean_scale > 0
    watched[:, : first.m] = watched[:, : first.m].any(1, keepdim=True)
    watched[1] = watched[1].any()
    return share.where(watched, 1.0), largest


def _set(slow: SlowMonitors, **buffers: np.ndarray) -> None:
    for name, value in buffers.items():
        getattr(slow, name).copy_(torch.from_numpy(value))


def _components(entities: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scaled samples (T, m) of each entity -> unmix (6 m, 2 m), bias (2 m,), share of each sensor in
    each component (2 m, m)."""
    m = entities[0].shape[1]
    every = np.vstack(entities)
    scale = np.tile(np.maximum(every.std(0), SMALLEST), len(REGRESSION_LAGS))
    center = np.tile(every.mean(0), len(REGRESSION_LAGS))
    lagged = np.vstack([np.hstack([x[RING - lag : len(x) - lag] for lag in REGRESSION_LAGS]) for x in entities])
    lagged = (lagged - center) / scale
    unmix = np.zeros((lagged.shape[1], 2 * m))
    unmix[:m, :m] = sobi(lagged[:, :m])
    moments = lagged.T @ lagged / len(lagged)
    for i in range(m):
        others = np.arange(lagged.shape[1]) % m != i
        inner = moments[np.ix_(others, others)] + 1e-3 * np.eye(others.sum())
        unmix[others, m + i] = -np.linalg.solve(inner, moments[others, i])
        unmix[i, m + i] = 1.0
    unmix /= np.maximum((lagged @ unmix).std(0), 1e-4)
    patterns = (lagged[:, :m].T @ (lagged @ unmix[:, :m]) / len(lagged)).T ** 2  # how each sensor shows a component
    loadings = np.vstack([patterns / (patterns.sum(1, keepdims=True) + 1e-12), np.eye(m)])
    unmix /= scale[:, None]
    return unmix, -center @ unmix, loadings


def sobi(samples: np.ndarray) -> np.ndarray:
    """samples (T, m), mean 0 -> (m, m): columns that unmix them, by Jacobi rotations of lagged covariances
    (Cardoso and Souloumiac, 1996)."""
    values, vectors = np.linalg.eigh(samples.T @ samples / len(samples))
    white = vectors / np.sqrt(np.maximum(values, 1e-4 * values.max()))
    z, m = samples @ white, samples.shape[1]
    covariances = np.array([z[lag:].T @ z[:-lag] / len(z) for lag in SOBI_LAGS])
    covariances = (covariances + covariances.transpose(0, 2, 1)) / 2
    rotation = np.eye(m)
    for _ in range(30):
        largest = 0.0
        for p in range(m - 1):
            for q in range(p + 1, m):
                a, b = covariances[:, p, p] - covariances[:, q, q], 2 * covariances[:, p, q]
                on, off = a @ a - b @ b, 2 * a @ b
                angle = 0.25 * np.arctan2(off, on)
                largest = max(largest, abs(angle))
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                covariances[:, :, [p, q]] = covariances[:, :, [p, q]] @ turn
                covariances[:, [p, q], :] = turn.T @ covariances[:, [p, q], :]
                rotation[:, [p, q]] = rotation[:, [p, q]] @ turn
        if largest < 1e-4:
            break
    return white @ rotation


def _cycle(averages: np.ndarray) -> tuple[int, np.ndarray]:
    """averages (V, 2 m) over hops -> cycle in hops, 0 where there is none, and the components that have it."""
    hops = len(averages)
    centered = averages - averages.mean(0)
    spectrum = np.abs(np.fft.rfft(centered, 2 * hops, axis=0)) ** 2
    likeness = np.fft.irfft(spectrum, axis=0)[:hops]
    likeness /= np.maximum(likeness[0], 1e-9)
    longest = hops // LEAST_CYCLES
    none = 0, np.zeros(0, np.int64)
    if longest < 4 or hops < LEAST_BOXES * BOX:
        return none
    lags = np.arange(3, longest)
    peak = (likeness[lags] > likeness[lags - 1]) & (likeness[lags] >= likeness[lags + 1])
    turned = np.minimum.accumulate(likeness[:longest], 0)[lags] < 0  # a cycle comes back after it went the other way
    least = np.where(peak & turned, np.min([likeness[lags * k] for k in CYCLES], axis=0), 0.0)  # (lags, 2 m)
    if least.max() < LEAST_LIKENESS:
        return none
    at = int(
        np.argmax(least.max(1) >= max(0.9 * least.max(), LEAST_LIKENESS))
    )  # the shortest: multiples of a cycle look like one, too
    near = least[max(at - 1, 0) : at + 2].max(0)
    chosen = np.argsort(-near)[:MOST_CYCLIC]
    return int(lags[at]), np.sort(chosen[near[chosen] >= LEAST_LIKENESS])


@torch.inference_mode()
def _calibrate_means(slow: SlowMonitors, entities: Sequence[Entity]) -> None:
    means = torch.cat([slow.means(rows[0], slow.counted(rows[-1])).abs() for rows in _filled(slow, entities, BOX)])
    noise = torch.tensor([[STEP], [BOX]]).mul(slow.hop).rsqrt()  # what white noise averages to
    deviation = means.square().mean(0).sqrt().maximum(noise)  # (2, 2 m); a fast cycle averages to less, and may turn up
    steady = (deviation < STEADY * noise).float()
    largest = (means / deviation * steady).amax((0, 2)).clamp(min=1.0)[:, None]
    slow.mean_scale.copy_(steady / (deviation * MEAN_MARGIN * largest))


@torch.inference_mode()
def _calibrate_coherence(slow: SlowMonitors, entities: Sequence[Entity], found: int) -> None:
    """found: of `slow.cyclic`, how many are there for their cycle."""
    rows = _filled(slow, entities, slow.memory_hops)
    coherence, known = map(torch.cat, zip(*[slow.coherence(row[1], slow.counted(row[-1])) for row in rows]))
    slow.likeness.copy_((coherence * known).sum(0) / known.sum(0).clamp(min=1e-6))
    falls = ((slow.likeness - coherence) * known).mean(1)
    deviation = falls.square().mean(0).sqrt().clamp(min=1e-2)
    slow.likeness_scale.copy_(1 / (deviation * COHERENCE_MARGIN * (falls / deviation)[:, :found].max().clamp(min=1.0)))
    slow.likeness_scale[found:] = 0.0


def _filled(slow: SlowMonitors, entities: Sequence[Entity], memory: int) -> Iterator[list[Tensor]]:
    """Rows of `windows`, of the hops from which on `memory` hops are full, some at a time."""
    for scaled, high in entities:
        left = memory + AROUND
        for rows in slow.windows(torch.from_numpy(scaled), torch.from_numpy(high)):
            drop = min(left, len(rows[-1]))
            left -= drop
            if drop < len(rows[-1]):
                yield [row[drop:] for row in rows]

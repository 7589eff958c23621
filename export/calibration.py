"""What calibrates an int8 scheme: steps of the replay stretch with their state fed back, as a device meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgekd.blocks.step import StepModule
from edgekd.data.recording import Recording

STEPS = 256

Feeds = dict[str, np.ndarray]


def closed_loop(
    run: Callable[[Feeds], Sequence[np.ndarray]], step: StepModule, replay: Recording, steps: int = STEPS
) -> Iterator[Feeds]:
    """Inputs of at most `steps` steps, spread over the stretch past the warm-up, each with the state it meets there.

    run: one step of the float model, inputs by name -> next state, in the order of `step.state_shapes()`.
    """
    stops = [
        (start, stop) for start, end in step.entities(replay) for stop in range(start + step.hop, end + 1, step.hop)
    ]
    warm = [i for i, (start, stop) in enumerate(stops) if stop - start >= step.warmup_samples] or [len(stops) - 1]
    chosen = {warm[i] for i in spread(len(warm), steps)}
    state: Feeds = {}
    for i, (start, stop) in enumerate(stops[: max(chosen) + 1]):
        if stop - start == step.hop:
            state = {name: np.zeros(shape, np.float32) for name, shape in step.state_shapes().items()}
        feeds = {
            "samples": np.ascontiguousarray(replay.values[stop - step.hop : stop]),
            "valid": np.ones(step.n_sensors, np.float32),
            **state,
        }
        if i in chosen:
            yield feeds
        state = dict(zip(state, run(feeds)))


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices into a list of this length, evenly spread, ascending."""
    return sorted({int(i) for i in np.linspace(0, length - 1, min(count, length))})

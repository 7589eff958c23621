"""How much memory does a gateway take that is flooded, and do verdicts go on?

    python -m bench.promises.floods        # some minutes; needs a mosquitto broker

`tests/gateway/test_memory.py` is the short form; this runs its code with more.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bench.results import in_turn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "gateway"))
from test_memory import MB, PAYLOADS, PEAK_MB, ROWS, by_mqtt, by_pipe, by_tcp, long_as, steady

FLOODS: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{
        f"MQTT, 40 messages of 5 MB: {kind}": lambda folder, kind=kind: by_mqtt(  # type: ignore[misc]
            folder, iter([PAYLOADS[kind]()] * 40)
        )
        for kind in ("rows", "one line", "digits", "noise")
    },
    "MQTT, 2 messages of 250 MB": lambda folder: by_mqtt(folder, iter([long_as(250 * MB, ROWS)] * 2)),
    "MQTT, 20,000 messages a second": lambda folder: by_mqtt(folder, steady(20, 20_000), qos=0),
    "TCP, a line of 300 MB": lambda folder: by_tcp(folder, iter([long_as(MB, b"1,2,3,")] * 300)),
    "TCP, 100 MB of noise": lambda folder: by_tcp(folder, (random.Random(i).randbytes(MB) for i in range(100))),
    "TCP, 100 MB of samples": lambda folder: by_tcp(folder, iter([long_as(MB, ROWS)] * 100)),
    "standard input, 1 GB of zeros": lambda folder: by_pipe(folder, iter([bytes(MB)] * 1000)),
}


@click.command()
@click.option("--only", help="Those whose name holds this.")
def main(only: str | None) -> None:
    """Measure and keep the figures."""
    in_turn("floods", FLOODS, lambda name: not only or only in name, bound_mb=PEAK_MB)


if __name__ == "__main__":
    main()

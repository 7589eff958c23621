"""A gateway of somebody else's with EdgeKD inside: many machines over TCP, one model, one stream each, its own alert.

    python examples/gateway.py student.onnx 7070
    { echo pump-7; tail -n +2 recording.csv; } | nc localhost 7070

A machine connects, says its name on the first line, then sends one sample a line in the order of the model's sensors,
with an empty field for a missing value. Its stream outlives the connection: a machine that comes back goes on where it
was. Only public names of `edgekd.runtime` are used; what a gateway adds is the transport and what an alert means.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edgekd.runtime import Detector, EdgeKDError, UsageError, Verdict

Alert = Callable[[str, Verdict], None]


class Gateway:
    """Serves machines; `alert` is called in the event loop for each anomalous verdict."""

    def __init__(self, model: str, alert: Alert, threshold: float | None = None) -> None:
        self._cold = Detector.load(model, threshold=threshold)  # one engine session for all machines
        self._streams: dict[str, Detector] = {}
        self._alert = alert
        # A step takes from tens of microseconds to milliseconds, in which an event loop could answer nobody. One thread
        # is enough: a step uses one core, and a gateway has other work for the rest.
        self._steps = ThreadPoolExecutor(1, "detector")

    async def serve(self, port: int, host: str = "127.0.0.1") -> asyncio.Server:
        """Begin to listen."""
        return await asyncio.start_server(self._machine, host, port)

    async def _machine(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = (await reader.readline()).decode(errors="replace").strip()
        stream = self._streams.setdefault(name, self._cold.stream())
        steps = asyncio.get_running_loop()
        try:
            while (line := await reader.readline()).endswith(b"\n"):  # what is not ended may be half a number
                try:
                    sample = [float(field or "nan") for field in line.decode().strip().split(",")]
                    # Awaited before the next line is read, so that a machine's samples keep their order, and a
                    # detector that is outrun slows its senders down instead of piling up samples.
                    verdict = await steps.run_in_executor(self._steps, stream.update, sample)
                except (UsageError, ValueError) as error:
                    writer.write(f"skipped a line: {error}\n".encode())
                    continue
                if verdict and verdict.is_anomaly:
                    self._alert(name, verdict)
        except (ConnectionError, ValueError):  # gone, or a line without an end
            pass
        finally:
            writer.close()


def ring(machine: str, verdict: Verdict) -> None:
    """The alert of this gateway."""
    sensors = ", ".join(verdict.top_sensors)
    print(f"{machine}: score {verdict.score:.3g} over {verdict.threshold:.3g}; look at {sensors}", flush=True)


async def main(model: str, port: str) -> None:
    """Serve for ever."""
    server = await Gateway(model, ring).serve(int(port))
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/gateway.py MODEL PORT")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except EdgeKDError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass

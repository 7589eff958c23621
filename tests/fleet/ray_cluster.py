"""A Ray cluster on loopback, each node a group of processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PORT, CLIENT_PORT, FIRST_PORT = 26379, 26001, 27000  # away from those that Ray takes by itself
STARTS_S = 120


class Node:
    """What `ray start` began."""

    def __init__(self, number: int, folder: Path, environment: dict[str, str], cpus: int) -> None:
        first = FIRST_PORT + 200 * number
        where = (
            ["--head", f"--port={PORT}", f"--ray-client-server-port={CLIENT_PORT}", "--include-dashboard=false"]
            if number == 0
            else [f"--address=127.0.0.1:{PORT}"]
        )
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--object-store-memory=100000000",
            f"--node-manager-port={first}", f"--object-manager-port={first + 1}",
            f"--dashboard-agent-grpc-port={first + 2}", f"--dashboard-agent-listen-port={first + 3}",
            f"--metrics-export-port={first + 4}", f"--runtime-env-agent-port={first + 5}",
            f"--min-worker-port={first + 10}", f"--max-worker-port={first + 190}", *where,
        ]  # fmt: skip
        if number == 0:
            command.append(f"--temp-dir={folder}")
        log = (folder / f"node-{number}.log").open("wb")
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        """At once, with all that it began."""
        with contextlib.suppress(ProcessLookupError):
            for process in (*_children(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self.process.wait()


def _children(process: int) -> Iterator[int]:
    """All below a process, the deepest first."""
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _children(int(child))
            yield int(child)


@contextlib.contextmanager
def cluster(nodes: int, path: str) -> Iterator[tuple[dict[str, str], list[Node]]]:
    """A head that works on nothing, and so many nodes of one core; the environment that its users need.

    path: PYTHONPATH of its workers.
    """
    folder = Path("/tmp", f"ray-{secrets.token_hex(3)}")  # sockets have short names
    folder.mkdir()
    environment = {
        **os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16), "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1", "RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "10",
        "RAY_raylet_start_wait_time_s": "120",
    }  # fmt: skip
    started: list[Node] = []
    try:
        for number in range(nodes + 1):
            started.append(Node(number, folder, environment, 1 if number else 0))
            _wait_for(number, environment, folder)
        yield environment, started[1:]
    finally:
        for node in started[::-1]:
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(nodes: int, environment: dict[str, str], folder: Path) -> None:
    init = f"import ray; ray.init('127.0.0.1:{PORT}', log_to_driver=False)"
    program = f"{init}; print(int(ray.cluster_resources().get('CPU', 0)))"
    end = time.monotonic() + STARTS_S
    while time.monotonic() < end:
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        if run.returncode == 0 and run.stdout.split()[-1:] == [f"{nodes}"]:
            return
        time.sleep(1)
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("node-*.log")))
    raise RuntimeError(f"no cluster of {nodes} working nodes: {run.stdout} {run.stderr[-2000:]}\n{logs}")

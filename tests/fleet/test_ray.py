"""A cluster, of which a node dies: every job has its result, and only what was in hand is done again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from device import ROOT
from ray_cluster import PORT, Node, cluster

pytest.importorskip("ray")

PROGRAM = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from edgekd.fleet.pool import run

@dataclass(frozen=True)
class Job:
    key: str

def answer(job):
    with open(sys.argv[2] + "/begun", "a") as file:
        file.write(job.key + "\\n")
    time.sleep(0.5)
    return job.key.upper()

if __name__ == "__main__":
    folder = sys.argv[2]
    found = dict((job.key, result) for job, result in run(bound, [Job(f"m{i}") for i in range(24)], on=sys.argv[1]))
    print(len(found), all(result == key.upper() for key, result in found.items()))
"""


def program(folder: Path) -> str:
    return PROGRAM.replace("sys.argv[2]", repr(str(folder))).replace("bound", "answer")


@pytest.mark.slow
def test_a_node_that_dies_costs_what_it_had_in_hand(tmp_path: Path) -> None:
    with cluster(2, str(ROOT)) as (environment, nodes):
        (tmp_path / "begun").write_text("")
        killer = threading.Thread(target=_kill_later, args=(nodes, tmp_path / "begun"))
        killer.start()
        command = [sys.executable, "-c", program(tmp_path), f"127.0.0.1:{PORT}"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        killer.join()
    assert run.stdout == "24 True\n", run.stderr[-3000:]
    assert 24 <= len((tmp_path / "begun").read_text().split()) <= 26


def _kill_later(nodes: list[Node], begun: Path) -> None:
    """One node, while it works; the other one stays."""
    while len(begun.read_text().split()) < 8:
        time.sleep(0.1)
    nodes[0].kill()

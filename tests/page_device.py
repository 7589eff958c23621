"""A gateway with a page, and what it has to show: hours of samples with their own times, some of them alarms."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import numpy as np
from device import PATIENCE_S, eventually
from gateway_device import Gateway
from step_models import step_file

from edgekd.export.embed import embed
from edgekd.runtime.guard import admit

NAME = "line <b>7</b> & 'co'"
HOSTILE = ("<img src=x onerror=alert(1)>", '"><script>alert(2)</script>', "__proto__")
"""Names of the sensors."""
BEGIN = datetime(2026, 3, 1, 6, tzinfo=UTC).timestamp()
SAMPLES = 3600
"""One a second, for an hour."""
FAULTS = ((1000, 1060), (2400, 2520))
"""First and last sample of each; only the first sensor takes part."""


def hostile_model(path: Path) -> Path:
    """A model of 3 sensors with names that are HTML and worse, quiet but for `FAULTS`."""
    step_file(path, 3, 4, threshold=0.5, warmup=8)
    manifest, model = admit(path, try_first=False)
    sensors = tuple(replace(spec, name=name) for spec, name in zip(manifest.sensors, HOSTILE))
    path.write_bytes(embed(model, replace(manifest, sensors=sensors)))
    return path


def lines(first: int = 0, last: int = SAMPLES, begin: float = BEGIN) -> str:
    """Samples as JSON lines with their times."""
    rng = np.random.default_rng(0)
    values = np.array([0.25, 1.25, 2.25]) + rng.normal(0, 0.02, (SAMPLES, 3))  # about the sensors' medians
    for start, end in FAULTS:
        values[start : end + 1, 0] += np.where(np.arange(end + 1 - start) // 4 % 2, 8.0, -8.0)
    told = []
    for i in range(first, last):
        at = datetime.fromtimestamp(begin + i, UTC).isoformat()
        told.append(json.dumps({"time": at, **dict(zip(HOSTILE, values[i].round(4).tolist()))}))
    return "".join(f"{line}\n" for line in told)


class PageGateway(Gateway):
    """A running gateway that is fed by hand and serves a page."""

    def __init__(self, model: Path, *arguments: object, page: str = ":0") -> None:
        options = ("--name", NAME, "--time", "time", "--page", page, *arguments)
        super().__init__("--model", model, "--stdin", *options, stdin=subprocess.PIPE)
        self.token = ""

    @property
    def url(self) -> str:
        """Of the page, once it is served."""
        told = re.compile(r"the page is at (\S+)")
        eventually(lambda: bool(told.search(self.words)) or self.process.poll() is not None, "that a page is served")
        found = told.search(self.words)
        assert found, self.words
        return found[1].replace(f"//{socket.gethostname()}:", "//127.0.0.1:")  # also where nobody knows the name

    def feed(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def get(self, path: str, headers: dict[str, str] | None = None, data: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of what a browser without a page would get."""
        request = urllib.request.Request(f"{self.url}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
                return reply.status, reply.read()
        except HTTPError as error:
            return error.code, error.read()

    def own_token(self) -> str:
        """The one that the page brings."""
        found = re.search(rb'name="token" content="([0-9a-f]*)"', self.get("/")[1])
        assert found
        return found[1].decode()

    def api(self, path: str, what: dict[str, Any] | None = None, **query: Any) -> Any:
        """What the page gets from here; `what` is sent. Raises AssertionError with the answer where it is refused."""
        self.token = self.token or self.own_token()
        data = None if what is None else json.dumps(what).encode()
        status, body = self.get(
            f"/api/{path}?{urlencode({'stream': NAME, **query}, True)}", {"Authorization": f"Bearer {self.token}"}, data
        )
        assert status == 200, body
        return body if path == "download" else json.loads(body)

    def seen(self, sample: int) -> None:
        """Wait until the page shows this sample."""
        eventually(lambda: (self.api("stream")["now"] or 0) >= BEGIN + sample, "that the page shows it")

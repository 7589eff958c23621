"""The gateway's page over HTTP: what it tells, whom, and what nobody can do without the token."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import socket
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device import PATIENCE_S, eventually
from gateway_device import gateway_toml
from page_device import BEGIN, FAULTS, HOSTILE, NAME, SAMPLES, PageGateway, hostile_model, lines

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.check import check_all
from edgekd.runtime.gateway.config import read_config
from edgekd.runtime.gateway.page.handler import token_of
from edgekd.runtime.gateway.unit import unit_of

SPAN = {"from": BEGIN, "to": BEGIN + SAMPLES}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_model(tmp_path_factory.mktemp("page") / "m.onnx")


@pytest.fixture(scope="module")
def gateway(model: Path) -> Iterator[PageGateway]:
    """One that has seen an hour; tests leave it as it is, but for marks."""
    arguments = ("--state", model.with_name("state"), "--record", model.with_name("record.csv"))
    with PageGateway(model, *arguments) as gateway:
        gateway.feed(lines())
        gateway.seen(SAMPLES - 10)
        eventually(lambda: len(gateway.api("curves", **SPAN)["time"]) >= SAMPLES // 5 - 1, "that all is on disk")
        yield gateway


def test_a_stream_tells_what_it_does(gateway: PageGateway) -> None:
    (line,) = gateway.api("streams")["streams"]
    assert (line["stream"], line["threshold"], line["muted_s"]) == (NAME, 0.5, 0)
    assert line["counts"]["anomaly"] == len(FAULTS) and 0 <= line["score"] < 0.5
    told = gateway.api("stream")
    assert [sensor["name"] for sensor in told["sensors"]] == list(HOSTILE)
    assert told["sensors"][0]["low"] == -1.0 and told["sensors"][0]["high"] == 2.0
    assert told["sensors"][0]["value"] == pytest.approx(0.25, abs=0.2)
    assert told["model"]["engine"].startswith("onnxruntime") and told["model"]["hop"] == 4
    assert told["input"]["expected_hz"] == 1 and told["input"]["bad"] == 0 and not told["problem"]


def test_curves_are_those_of_the_samples_and_the_faulty_sensor_comes_first(gateway: PageGateway) -> None:
    start, end = FAULTS[0]
    found = gateway.api("curves", **{"from": BEGIN + start, "to": BEGIN + end})
    assert found["size"] == 5 and found["ranked"][0]["name"] == HOSTILE[0] and found["ranked"][0]["share"] > 0.5
    assert max(filter(None, found["score"])) > 0.5 and set(found["threshold"]) == {0.5}
    shown = {each["name"]: each for each in found["sensors"]}
    faulty = zip(*(shown[HOSTILE[0]][key][1:-1] for key in ("low", "mean", "high")))
    assert all(-8 < low < -7.5 < mean < 8 < high < 8.5 for low, mean, high in faulty)
    assert max(shown[HOSTILE[2]]["high"]) < 2.5
    asked = gateway.api("curves", **SPAN, sensor=[HOSTILE[1]])
    assert [each["name"] for each in asked["sensors"]] == [HOSTILE[1]]
    assert asked["size"] == 5 and len(asked["time"]) >= SAMPLES // 5 - 1
    month = gateway.api("curves", **{"from": BEGIN - 30 * 86_400, "to": BEGIN + SAMPLES})
    assert month["size"] == 3600 and len(month["time"]) < 30
    assert sum(month["anomalous"]) == sum(gateway.api("curves", **SPAN)["anomalous"])


def test_marks_are_kept_with_the_alarm_and_come_with_record_and_events(gateway: PageGateway) -> None:
    alarms = gateway.api("alarms", **SPAN)
    assert [alarm["sensors"][0] for alarm in alarms] == [HOSTILE[0]] * 2
    for alarm, (start, end) in zip(alarms, reversed(FAULTS)):
        assert alarm["start"] == pytest.approx(BEGIN + start, abs=8) and alarm["end"] >= BEGIN + end - 8
    gateway.api("mark", {"stream": NAME, "alarm": alarms[0]["id"], "mark": False, "note": 'a "note",\n=1+1\u202e é'})
    gateway.api("mark", {"stream": NAME, "start": BEGIN + 100, "end": BEGIN + 200, "mark": True, "note": ""})
    span = {"from": BEGIN + 60, "to": BEGIN + FAULTS[1][1] + 100}
    with zipfile.ZipFile(io.BytesIO(gateway.api("download", **span))) as archive:
        assert archive.testzip() is None
        rows = list(csv.reader(archive.read("marks.csv").decode().splitlines()))
        events = [json.loads(line) for line in archive.read("events.jsonl").splitlines()]
        record = list(csv.reader(archive.read("record.csv").decode().splitlines()))
    assert rows[0] == ["stream", "start", "end", "mark", "note"]
    assert rows[1] == [NAME, "2026-03-01T06:01:40Z", "2026-03-01T06:03:20Z", "true", ""]
    assert rows[2][0] == NAME and rows[2][3:] == ["false", 'a "note", =1+1 é']
    assert rows[2][1].startswith("2026-03-01T06:40:0") and len(rows) == 3
    assert [event["event"] for event in events] == ["anomaly", "anomaly_end"] * 2
    assert record[0] == ["time", *HOSTILE]
    assert (record[1][0], record[-1][0]) == ("2026-03-01T06:01:00+00:00", "2026-03-01T06:43:39+00:00")
    (by_hand,) = [alarm for alarm in gateway.api("alarms", **SPAN) if alarm["kind"] == "marked"]
    for alarm in (alarms[0]["id"], by_hand["id"]):
        gateway.api("mark", {"stream": NAME, "alarm": alarm, "mark": None})
    assert [alarm["mark"] for alarm in gateway.api("alarms", **SPAN)] == [None, None]


def test_nothing_is_told_or_changed_without_the_token(gateway: PageGateway) -> None:
    mark = json.dumps({"stream": NAME, "start": 1, "end": 2, "mark": True}).encode()
    before = gateway.api("alarms", **{"from": 0, "to": 10})
    for token in ("", "Bearer ", "Bearer x", f"Bearer {gateway.own_token()[:-1]}", "Bearer é"):
        for path, data in (("/api/streams", None), ("/api/mark", mark), ("/api/mute", b'{"span": "1h"}')):
            status, answer = gateway.get(path, {"Authorization": token}, data)
            assert (status, answer) == (401, b'{"error":"wrong token"}')
    assert gateway.api("alarms", **{"from": 0, "to": 10}) == before == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_another_site_gets_nothing(gateway: PageGateway, headers: dict[str, str]) -> None:
    token = {"Authorization": f"Bearer {gateway.own_token()}"}
    mark = json.dumps({"stream": NAME, "start": 1, "end": 2, "mark": True}).encode()
    for path, data in (("/", None), ("/api/streams", None), ("/api/mark", mark)):
        status, answer = gateway.get(path, {**token, **headers}, data)
        assert status == 403 and gateway.own_token().encode() not in answer


def test_every_answer_has_a_policy_that_lets_nothing_else_in(gateway: PageGateway) -> None:
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=PATIENCE_S)
    for path in ("/", "/page.js", "/api/streams", "/nowhere", "/../../etc/passwd"):
        connection.request("GET", path)
        answer = connection.getresponse()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self' 'sha256-" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.status == {"/": 200, "/page.js": 200, "/api/streams": 401}.get(path, 404)
        answer.read()


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("mark", {"stream": "another", "start": 1, "end": 2, "mark": True}),
        ("mark", {"stream": NAME, "start": 2, "end": 1, "mark": True}),
        ("mark", {"stream": NAME, "start": 1e300, "end": 1e301, "mark": True}),
        ("mark", {"stream": NAME, "start": "x", "end": [], "mark": True}),
        ("mark", {"stream": NAME, "alarm": "no such alarm", "mark": True}),
        ("mark", {"stream": NAME, "alarm": ["x"], "mark": True}),
        ("mark", {"stream": NAME, "start": 1, "end": 2, "mark": "true"}),
        ("mark", {"stream": NAME, "start": 1, "end": 2, "mark": True, "note": 5}),
        ("mark", {"stream": NAME, "start": 1, "end": 2, "mark": True, "note": "x" * 20_000}),
        ("mark", []),
        ("mute", {"stream": NAME, "span": "x" * 200}),
        ("curves", None),
        ("download", None),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(gateway: PageGateway, path: str, what: Any) -> None:
    headers = {"Authorization": f"Bearer {gateway.own_token()}"}
    query = "" if what is not None else "?stream=line&from=nan"
    status, answer = gateway.get(f"/api/{path}{query}", headers, None if what is None else json.dumps(what).encode())
    assert status in (400, 404, 413) and set(json.loads(answer)) == {"error"}
    assert gateway.process.poll() is None


def test_a_thousand_clients_and_a_request_without_end_cost_a_few_threads(gateway: PageGateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    process = Path(f"/proc/{gateway.process.pid}")
    with contextlib.ExitStack() as clients:
        for i in range(1000):
            client = clients.enter_context(socket.create_connection((host, int(port)), PATIENCE_S))
            client.send(b"GET / HT" if i % 2 else b"POST /api/mark HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert gateway.api("streams")["streams"]
        eventually(lambda: len(list((process / "task").iterdir())) < 40, "that threads end")
        eventually(lambda: len(list((process / "fd").iterdir())) < 60, "that connections end")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        sent = 0
        with contextlib.suppress(OSError):  # it hangs up
            client.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(1000):
                sent += client.send(b"X: " + b"x" * 60_000 + b"\r\n")
        assert sent < 10_000_000
    assert gateway.api("streams")["streams"]


def test_a_load_is_small(gateway: PageGateway) -> None:
    files = ("/", "/page.js", "/vendor/uPlot.iife.min.js", "/vendor/uPlot.min.css")
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=PATIENCE_S)
    query = f"?stream={NAME.replace(' ', '%20').replace('&', '%26')}&from={BEGIN}&to={BEGIN + SAMPLES}"
    size = 0
    for path in (*files, *(f"/api/{name}{query}" for name in ("stream", "curves", "alarms", "events"))):
        token = {"Authorization": f"Bearer {gateway.own_token()}"}
        connection.request("GET", path, headers={"Accept-Encoding": "gzip", **token})
        answer = connection.getresponse()
        assert answer.status == 200
        size += len(answer.read()) + len(str(answer.headers))
    assert size < 200_000, size


def test_alarms_of_a_day_are_those_of_a_day_before_a_sample_has_come(model: Path, tmp_path: Path) -> None:
    arguments = ("--history", tmp_path / "history")
    with PageGateway(model, *arguments) as gateway:
        gateway.feed(lines(900, 1100, time.time() - 3 * 86_400))
        eventually(lambda: gateway.api("streams")["streams"][0]["counts"].get("anomaly"), "that it is told")
    with PageGateway(model, *arguments) as gateway:
        assert "anomaly" not in gateway.api("streams")["streams"][0]["counts"]


def test_another_address_wants_the_user_s_token_and_answers_by_any_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse battery staple\n")
    arguments = ("--page-token-file", tmp_path / "token", "--history", tmp_path / "history")
    with PageGateway(model, *arguments, page="0.0.0.0:0") as gateway:
        assert b'content=""' in gateway.get("/", {"Host": "plant-7.example"})[1]
        assert gateway.get("/api/streams", {"Authorization": "Bearer correct horse"})[0] == 401
        gateway.token = "correct horse battery staple"
        (line,) = gateway.api("streams")["streams"]
        assert line["state"] == "waiting"


@pytest.mark.parametrize(
    ("keys", "token", "says"),
    [
        ({"page": "0.0.0.0:0"}, None, "is open to the network; give page-token-file"),
        ({"page": "[::]:0"}, "short", "give 16 or more characters"),
        ({"page": "0.0.0.0:0"}, "sixteen or more…", "of ASCII"),
        ({"page": ":0", "page-token-file": "nowhere"}, None, "page-token-file nowhere: No such file"),
        ({"page": "8420x"}, None, "write :8420"),
        ({"page": ":0", "state": ""}, None, "page needs history"),
        ({"page": ":0", "history": "m.onnx"}, None, "history would be what model names"),
        ({"page": ":0", "history": "notes.txt"}, None, "history notes.txt: is another program's file"),
        ({"page": ":0", "history": "other.db"}, None, "is another program's file"),
        ({"page": ":0", "state": "folder/state", "history": "folder"}, None, "folder"),
    ],
)
def test_a_page_that_cannot_be_served_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str], token: str | None, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKD_PAGE_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("EDGEKD_PAGE_TOKEN", token)
    for name in ("m.onnx", "notes.txt"):
        Path(name).write_text("buy milk\n" * 20)
    Path("folder").mkdir()
    with contextlib.closing(sqlite3.connect("other.db")) as db:
        db.execute("CREATE TABLE theirs (x)")
    options = {"model": "m.onnx", "state": "state", "stdin": "", **keys}
    words = [word for key, value in options.items() if value or key == "stdin" for word in (f"--{key}", value) if word]
    Path("gateway.toml").write_text(gateway_toml(*words))
    with pytest.raises(UsageError) as refused:
        token_of(read_config("gateway.toml"))
    assert says in str(refused.value) and str(refused.value).isprintable()


def test_check_and_unit_know_the_page(model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse battery staple\n")
    (tmp_path / "token").chmod(0o600)
    file = tmp_path / "gateway.toml"
    state, token = tmp_path / "state", tmp_path / "token"
    words = ("--model", model, "--stdin", "--state", state, "--page", "0.0.0.0:0", "--page-token-file", token)
    file.write_text(gateway_toml(*words))
    found = {finding.what: finding for finding in check_all(str(file))}
    assert found["page"].ok and found["history"].ok and found["page-token-file"].ok, found
    assert f"{tmp_path}/state.history: " in found["history"].words
    token.chmod(0o644)
    token.write_text("short\n")
    found = {finding.what: finding for finding in check_all(str(file))}
    assert "chmod 600" in found["page-token-file"].words and "16 or more" in found["page"].words
    text = unit_of(str(file), read_config(str(file)))
    assert f"\nLoadCredential=page-token:{tmp_path}/token\n" in text and "AF_INET " in text

"""examples/modbus.py against pymodbus's own server: a register table becomes the lines that edgekd-run reads."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from device import COMMAND, PATIENCE_S, ROOT, events_of, eventually, run
from step_models import step_file, step_samples

pytest.importorskip("pymodbus")
from pymodbus.client import ModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from examples import modbus

EXAMPLE = ROOT / "examples" / "modbus.py"
LATE = "reading took longer than period_s"
NUMBERS = {
    "int16": -1234,
    "uint16": 65000,
    "int32": -70_000,
    "uint32": 4_000_000_000,
    "int64": -(2**40),
    "uint64": 2**63,
    "float32": -12.625,
    "float64": 0.1,
}


class Plant:
    """A Modbus device in a thread: holding and input registers 0 to 999, coils and discrete inputs 0 to 63.

    `registers` are those of both kinds, but for device 9, which holds nines; what is in `refused` answers with an
    exception.
    """

    def __init__(self, port: int | str = 0) -> None:
        self.port = port
        self.registers = [0] * 1000
        self.refused: dict[int, ExcCodes] = {}
        self.requests: list[tuple[int, int, int]] = []
        """Function code, address, count."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: Any = None

    def start(self) -> None:
        async def start() -> Any:
            bits = [SimData(0, values=[True, False, True, True] * 16, datatype=DataType.BITS)]
            words = [SimData(0, count=1000, datatype=DataType.REGISTERS)]
            blocks = (bits, [*bits], words, [*words])
            devices = [SimDevice(number, simdata=blocks, action=self._answer) for number in (1, 7)]
            nines = [SimData(0, values=9, count=1000, datatype=DataType.REGISTERS)]
            devices.append(SimDevice(9, simdata=(bits, [*bits], nines, [*nines])))
            if isinstance(self.port, str):
                server = ModbusSerialServer(devices, port=self.port, baudrate=115200)
            else:
                server = ModbusTcpServer(devices, address=("127.0.0.1", self.port))
            await server.serve_forever(background=True)
            return server

        self._server = asyncio.run_coroutine_threadsafe(start(), self._loop).result(PATIENCE_S)
        if self.port == 0:
            self.port = self._server.transport.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server:
            asyncio.run_coroutine_threadsafe(self._server.shutdown(), self._loop).result(PATIENCE_S)
        self._server = None

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def put(self, address: int, number: float, type: str, word_order: str = "big") -> int:
        """The address behind it."""
        words = ModbusTcpClient.convert_to_registers(number, ModbusTcpClient.DATATYPE[type.upper()], word_order)
        self.registers[address : address + len(words)] = words
        return address + len(words)

    async def _answer(
        self, code: int, begin: int, address: int, count: int, registers: list[int], values: object
    ) -> ExcCodes | None:
        self.requests.append((code, address, count))
        if code in (3, 4):
            registers[:1000] = self.registers
        return next((self.refused[i] for i in range(address, address + count) if i in self.refused), None)


class Example:
    """A running example: the samples in its lines, and its words.

    A busy machine makes it late at any time, which is a sample of nulls and a word of its own; both are left out here.
    """

    def __init__(self, table: Path) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, str(EXAMPLE), str(table)]
        environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # it flushes by itself
        self.process = subprocess.Popen(
            command, env=environment, stdout=pipe, stderr=pipe, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )  # fmt: skip
        self.words = ""
        self.late = False
        self._lines: queue.Queue[str] = queue.Queue()
        self._readers = [threading.Thread(target=target, daemon=True) for target in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

    def sample(self, wanted: Callable[[dict[str, Any]], bool] | None = None) -> dict[str, Any]:
        """The next that is wanted; the next with a value."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                raise AssertionError(f"no such sample; words so far: {self.words}") from None
            sample = json.loads(line, parse_constant=lambda name: 1 / 0)
            if wanted(sample) if wanted else set(sample.values()) != {None}:
                return sample
            assert time.monotonic() < end, f"no such sample; words so far: {self.words}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.put(line)

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            if line.startswith(LATE):
                self.late = True
            else:
                self.words += line


@pytest.fixture
def plant() -> Iterator[Plant]:
    plant = Plant()
    plant.start()
    yield plant
    plant.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Example]]:
    running = []

    def start(connection: str, *registers: str, period_s: float = 0.02) -> Example:
        running.append(Example(table_file(tmp_path, connection, *registers, period_s=period_s)))
        return running[-1]

    yield start
    for example in running:
        example.close()


def table_file(folder: Path, connection: str, *registers: str, period_s: float = 0.02) -> Path:
    """The registers as the lines of a [[register]], with ; between them."""
    path = folder / "table.toml"
    entries = ["[[register]]\n" + register.replace(";", "\n") for register in registers]
    path.write_text("\n".join([connection, f"period_s = {period_s}", *entries]) + "\n")
    return path


def tcp(plant: Plant) -> str:
    return f'tcp = "127.0.0.1:{plant.port}"\ntimeout_s = 5'


def numbers(plant: Plant) -> tuple[list[str], dict[str, float]]:
    """Registers of all types in both word orders, side by side; what they are to read as."""
    address, registers, wanted = 10, [], {}
    for order in ("big", "little"):
        for type, number in NUMBERS.items():
            name = f"{type}_{order}"
            registers.append(f'name="{name}"; address={address}; type="{type}"; word_order="{order}"')
            address = plant.put(address, number, type, order)
            wanted[name] = number
    return registers, wanted


def test_every_type_and_word_order_in_one_request(plant: Plant, start: Callable[..., Example]) -> None:
    registers, wanted = numbers(plant)
    assert start(tcp(plant), *registers[::-1]).sample() == wanted
    assert set(plant.requests) == {(3, 10, 40)}


def test_every_kind_scaled_and_from_its_own_device(plant: Plant, start: Callable[..., Example]) -> None:
    plant.registers[5] = 250
    sample = start(
        tcp(plant),
        'name = "temperature"; address = 5; kind = "input"; scale = 0.5; offset = -40',
        'name = "again"; address = 5; type = "int16"',
        'name = "open"; address = 1; kind = "discrete"',
        'name = "runs"; address = 2; kind = "coil"; scale = 3',
        'name = "other"; address = 5; kind = "input"; device = 9',
        period_s=1000,  # the line comes at once all the same
    ).sample()
    assert list(sample.items()) == [("temperature", 85), ("again", 250), ("open", 0), ("runs", 3), ("other", 9)]
    assert {code for code, _, _ in plant.requests} == {1, 2, 3, 4}


def test_what_one_request_cannot_ask_for_is_two(plant: Plant, start: Callable[..., Example]) -> None:
    for i in range(130):
        plant.registers[i] = i
    sample = start(tcp(plant), *(f'name = "r{i}"; address = {i}' for i in range(130))).sample()
    assert list(sample.values()) == list(range(130))
    assert set(plant.requests) == {(3, 0, 125), (3, 125, 5)}


def test_a_register_that_is_refused_is_null_and_its_neighbors_are_read(
    plant: Plant, start: Callable[..., Example]
) -> None:
    plant.registers[:3] = [1, 2, 3]
    plant.refused[1] = ExcCodes.ILLEGAL_ADDRESS
    example = start(tcp(plant), *(f'name = "r{i}"; address = {i}' for i in range(3)))
    assert [example.sample() for _ in range(3)] == 3 * [{"r0": 1, "r1": None, "r2": 3}]
    plant.refused.clear()
    assert example.sample(lambda sample: sample["r1"] is not None) == {"r0": 1, "r1": 2, "r2": 3}
    eventually(lambda: example.words.endswith("r1: read again\n"), "the end of the trouble")
    assert example.words == "r1: exception 2\nr1: read again\n"  # each once, not with every sample


def test_a_busy_device_is_asked_for_all_at_once_again(plant: Plant, start: Callable[..., Example]) -> None:
    plant.refused[1] = ExcCodes.DEVICE_BUSY
    example = start(tcp(plant), *(f'name = "r{i}"; address = {i}' for i in range(3)))
    eventually(lambda: "r0, r1, r2: exception 6\n" in example.words, "the line about it")
    plant.refused.clear()
    assert example.sample() == {"r0": 0, "r1": 0, "r2": 0}
    assert set(plant.requests) == {(3, 0, 3)}


def test_a_float_that_is_no_number_is_null(plant: Plant, start: Callable[..., Example]) -> None:
    plant.put(0, float("nan"), "float32")
    plant.put(2, float("inf"), "float32")
    example = start(tcp(plant), *(f'name = "f{i}"; address = {i}; type = "float32"' for i in (0, 2, 4)))
    assert example.sample() == {"f0": None, "f2": None, "f4": 0}


def test_the_server_goes_away_and_comes_back(plant: Plant, start: Callable[..., Example]) -> None:
    plant.registers[:2] = [1, 2]
    example = start(tcp(plant), 'name = "a"; address = 0', 'name = "b"; address = 1')
    assert example.sample() == {"a": 1, "b": 2}
    plant.stop()
    eventually(lambda: "a, b: no connection: " in example.words, "the line about it")
    for _ in range(3):  # there is a line for every period meanwhile
        example.sample(lambda sample: sample == {"a": None, "b": None})
    plant.registers[0] = 3
    plant.start()
    assert example.sample(lambda sample: sample["a"] != 1 and sample["b"] is not None) == {"a": 3, "b": 2}
    eventually(lambda: example.words.endswith("a, b: read again\n"), "the end of the trouble")
    assert "refused" in example.words
    assert example.words.count("\n") <= 3


def test_a_connection_that_was_closed_between_two_samples_costs_none(start: Callable[..., Example]) -> None:
    """PLCs hang up on who has not asked for a while; here after each answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    request = connection.recv(300)
                    connection.sendall(request[:4] + bytes([0, 5, 1, 3, 2, 0, 42]))

        threading.Thread(target=serve, daemon=True).start()
        example = start(f'tcp = "127.0.0.1:{server.getsockname()[1]}"', 'name = "a"; address = 0')
        assert [example.sample() for _ in range(5)] == 5 * [{"a": 42}]
        assert not example.words
        server.shutdown(socket.SHUT_RDWR)


def test_silence_is_null_for_every_period(start: Callable[..., Example]) -> None:
    """Nobody answers; waiting for it takes several periods, and each of them has its line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = f'tcp = "127.0.0.1:{server.getsockname()[1]}"\ntimeout_s = 0.2'
        example = start(connection, 'name = "a"; address = 0', period_s=0.05)
        assert [example.sample(lambda sample: True) for _ in range(10)] == 10 * [{"a": None}]
        eventually(lambda: example.late and bool(example.words), "the lines about it")
        assert example.words == "a: no valid answer within 0.2 s\n"


def test_the_pace_does_not_drift_and_what_was_due_meanwhile_is_null(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a clock of its own, on which each poll takes as long as `lengths` say."""
    now, polled, lengths = 100.0, [], [0.25, 2.5, 0.25, 0.25, 0.75]

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    class FakePoller:
        def __init__(self, *_: object) -> None:
            self.missing = {"a": None}

        def poll(self) -> dict[str, float]:
            if len(polled) == len(lengths):
                raise KeyboardInterrupt
            polled.append(now - 100)
            sleep(lengths[len(polled) - 1])
            return {"a": 1.0}

    monkeypatch.setattr(modbus, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now))
    monkeypatch.setattr(modbus, "Poller", FakePoller)
    with pytest.raises(KeyboardInterrupt):
        modbus.run(modbus.Table(period_s=1.0, register=[]), [])
    assert polled == [0, 1, 3.5, 4, 5]
    lines = [json.loads(line)["a"] for line in capsys.readouterr().out.splitlines()]
    assert lines == [1, 1, None, 1, 1, 1]


def test_rtu_over_a_serial_line(tmp_path: Path, start: Callable[..., Example]) -> None:
    """Two pty pairs, and a thread for the wire between their masters."""
    masters, ends = [], []
    for _ in range(2):
        master, slave = os.openpty()
        tty.setraw(slave)
        masters.append(master)
        ends.append(slave)
    names = [os.ttyname(end) for end in ends]
    ended = threading.Event()

    def wire() -> None:
        while not ended.is_set():
            for ready in select.select(masters, [], [], 0.05)[0]:
                os.write(masters[1 - masters.index(ready)], os.read(ready, 4096))

    thread = threading.Thread(target=wire, daemon=True)
    thread.start()
    plant = Plant(names[0])
    try:
        plant.start()
        registers, wanted = numbers(plant)
        plant.refused[500] = ExcCodes.ILLEGAL_ADDRESS
        connection = f'serial = "{names[1]}"\nbaud = 115200\nparity = "N"\ndevice = 7\ntimeout_s = 5'
        example = start(
            connection, *registers, 'name = "refused"; address = 500', 'name = "coil"; address = 3; kind = "coil"'
        )
        for _ in range(3):
            assert example.sample() == {**wanted, "refused": None, "coil": 1}
        eventually(lambda: bool(example.words), "the line about the refused one")
        assert example.words == "refused: exception 2\n"
    finally:
        plant.close()
        ended.set()
        thread.join(PATIENCE_S)
        for fd in [*masters, *ends]:
            os.close(fd)


def test_the_chain_into_edgekd_run_scores_what_the_registers_held(plant: Plant, tmp_path: Path) -> None:
    """The plant plays a recording, a row for each request; what edgekd-run scores is that recording."""
    model = step_file(tmp_path / "m.onnx", 3, 4, threshold=0.15)
    samples = step_samples(3, 60)
    play, answer = iter(samples), plant._answer

    async def next_row(*request: Any) -> ExcCodes | None:
        for i, value in enumerate(next(play, samples[-1])):
            plant.put(2 * i, float(value), "float32")
        return await answer(*request)

    plant.stop()
    plant._answer = next_row  # type: ignore[method-assign]
    plant.start()
    registers = [f'name = "s{i}"; address = {2 * i}; type = "float32"' for i in range(3)]
    table = table_file(tmp_path, tcp(plant), *registers)
    pipe, seen = subprocess.PIPE, tmp_path / "seen.jsonl"
    example = subprocess.Popen([sys.executable, str(EXAMPLE), str(table)], stdout=pipe, stderr=pipe, text=True)
    tee = subprocess.Popen(["tee", str(seen)], stdin=example.stdout, stdout=pipe)
    device = [*COMMAND, "--model", str(model), "--stdin", "--scores", "--quiet"]
    edgekd_run = subprocess.Popen(device, cwd=ROOT, stdin=tee.stdout, stdout=pipe, text=True)
    assert example.stdout and tee.stdout and edgekd_run.stdout and example.stderr
    example.stdout.close()
    tee.stdout.close()
    try:
        got: list[dict[str, Any]] = []
        while len(got) < 15:
            got += events_of(edgekd_run.stdout.readline(), "score")
        edgekd_run.kill()
        assert example.wait(PATIENCE_S) == 0  # nobody reads any more
        assert all(line.startswith(LATE) for line in example.stderr)
    finally:
        for process in (edgekd_run, tee, example):
            process.kill()
            process.wait(PATIENCE_S)
    lines = [line for line in seen.read_text().splitlines() if line.endswith("}")]
    rows = [row for line in lines if None not in (row := [*json.loads(line).values()])]
    np.testing.assert_array_equal(np.float32(rows)[:50], samples[: len(rows)][:50])
    wanted = run("--model", model, "--stdin", "--scores", "--quiet", input="\n".join(lines) + "\n").stdout
    assert got == events_of(wanted, "score")[: len(got)]


def test_ctrl_c_ends_it_silently(plant: Plant, start: Callable[..., Example]) -> None:
    example = start(tcp(plant), 'name = "a"; address = 0')
    example.sample()
    example.process.send_signal(signal.SIGINT)
    assert example.process.wait(PATIENCE_S) == 0
    example.close()
    assert not example.words


def test_the_example_table_is_a_good_one(plant: Plant, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "modbus.toml").read_text()
    assert '"192.168.1.10:502"' in text
    table = tmp_path / "modbus.toml"
    table.write_text(text.replace("192.168.1.10:502", f"127.0.0.1:{plant.port}"))
    plant.registers[0] = 615
    plant.put(1, 2.5, "float32", "little")
    example = Example(table)
    try:
        assert example.sample() == {"bearing_temp_c": 21.5, "motor_load_kw": 2.5, "pump_runs": 1}
    finally:
        example.close()


GOOD = 'tcp = "h:502"\nperiod_s = 1\n'
SENSOR = '[[register]]\nname = "a"\naddress = 0\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "t.toml: No such file or directory"),
        ("tcp = ", "t.toml: no TOML: Invalid value (at"),
        ('tcp = "h:502"\n' + SENSOR, "t.toml: 'period_s' is missing; give a number above 0"),
        (GOOD, "t.toml: 'register' is missing; give a [[register]] for each sensor"),
        ("period_s = 1\n" + SENSOR, "t.toml: give either tcp or serial"),
        ('serial = "/dev/x"\n' + GOOD + SENSOR, "t.toml: give either tcp or serial"),
        (GOOD.replace(":502", "") + SENSOR, "t.toml: tcp = 'h'; give \"host:port\""),
        (GOOD + 'parity = "X"\n' + SENSOR, 't.toml: parity = \'X\'; give "N", "E" or "O"'),
        (GOOD + "devise = 1\n" + SENSOR, "t.toml: unknown key 'devise'; the keys are period_s, "),
        (GOOD + "[register]\nname = 1", "; give a [[register]] for each sensor"),
        (GOOD + SENSOR + '[[register]]\nname = "b"', "t.toml, register 2 ('b'): 'address' is missing; give 0 to 65535"),
        (GOOD + SENSOR + SENSOR, "t.toml, register 2 ('a'): another register has this name"),
        (
            GOOD + SENSOR + 'kind = "holdin"',
            "t.toml, register 1 ('a'): kind = 'holdin'; give holding, input, coil, disc",
        ),
        (GOOD + SENSOR + 'type = "real"', "t.toml, register 1 ('a'): type = 'real'; give int16, uint16, "),
        (GOOD + SENSOR + "scale = nan", "t.toml, register 1 ('a'): scale = nan; give a number"),
        (GOOD + SENSOR.replace("0", "400001"), "address = 400001; give 0 to 65535 as on the wire"),
        (GOOD + SENSOR.replace("0", "65535") + 'type = "int32"', "int32 at 65535 ends behind 65535"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "t.toml").write_text(text)
    command = [sys.executable, str(EXAMPLE), "t.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count("\n") == 1 and says in done.stderr

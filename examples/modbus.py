"""Modbus RTU or TCP as an input of edgekd-run: polls a table of registers and prints one JSON line a sample.

    pip install 'pymodbus[serial]>=3.10'
    python examples/modbus.py modbus.toml | edgekd-run --model student.onnx --stdin

examples/modbus.toml explains the table. Every period has its line. What was not read in time is null there, which the
detector takes as missing, and standard error says why. Nothing of EdgeKD is used.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import re
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException

READ = {  # kind: method of the client, where its answer keeps the values, the most of them that one request may ask for
    "holding": ("read_holding_registers", "registers", 125),
    "input": ("read_input_registers", "registers", 125),
    "coil": ("read_coils", "bits", 2000),
    "discrete": ("read_discrete_inputs", "bits", 2000),
}
TYPES = {kind.name.lower(): kind for kind in ModbusTcpClient.DATATYPE if kind.value[1]}  # int16 to float64
LONGEST_WAIT_S = 30.0  # between two attempts to connect


@dataclass(frozen=True)
class Table:
    """The TOML file. The defaults of a serial line are those of the Modbus standard."""

    period_s: float
    register: list[dict[str, Any]]
    tcp: str = ""
    serial: str = ""
    baud: int = 19200
    parity: str = "E"
    stop_bits: int = 1
    device: int = 1
    timeout_s: float = 1.0


@dataclass(frozen=True)
class Register:
    """One sensor; value = raw * scale + offset."""

    name: str
    address: int
    kind: str = "holding"
    type: str = "uint16"
    word_order: str = "big"
    scale: float = 1
    offset: float = 0
    device: int = 1

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.address + (TYPES[self.type].value[1] if READ[self.kind][1] == "registers" else 1)

    def value(self, raw: list[Any]) -> float | None:
        """What its own registers or bit hold; None for a float that is no number."""
        bit = READ[self.kind][1] == "bits"
        decode: Any = ModbusTcpClient.convert_from_registers
        value = (raw[0] if bit else decode(raw, TYPES[self.type], self.word_order)) * self.scale + self.offset
        return value if math.isfinite(value) else None


RULES: dict[str, tuple[tuple[type, ...], Callable[[Any], Any], str]] = {  # key: types, what fits, the same in words
    "period_s": ((int, float), lambda v: 0 < v < math.inf, "a number above 0"),
    "register": ((list,), lambda v: v and all(isinstance(one, dict) for one in v), "a [[register]] for each sensor"),
    "tcp": ((str,), lambda v: re.fullmatch(r".+:\d+", v) and int(v.rpartition(":")[2]) < 65536, '"host:port"'),
    "serial": ((str,), len, 'a port, such as "/dev/ttyUSB0"'),
    "baud": ((int,), lambda v: v > 0, "a whole number above 0"),
    "parity": ((str,), ("N", "E", "O").__contains__, '"N", "E" or "O"'),
    "stop_bits": ((int,), (1, 2).__contains__, "1 or 2"),
    "device": ((int,), range(256).__contains__, "a whole number from 0 to 255"),
    "timeout_s": ((int, float), lambda v: 0 < v < math.inf, "a number above 0"),
    "name": ((str,), len, "the sensor's name"),
    "address": ((int,), range(65536).__contains__, "0 to 65535 as on the wire, where 40001 of a manual is 0"),
    "kind": ((str,), READ.__contains__, ", ".join(READ)),
    "type": ((str,), TYPES.__contains__, ", ".join(TYPES)),
    "word_order": ((str,), ("big", "little").__contains__, '"big" or "little"'),
    "scale": ((int, float), math.isfinite, "a number"),
    "offset": ((int, float), math.isfinite, "a number"),
}


class BadTable(Exception):
    """What is wrong, where, what to do."""


def read_table(path: str) -> tuple[Table, list[Register]]:
    """What examples/modbus.toml explains; raises BadTable."""
    try:
        table = checked(Table, tomllib.loads(Path(path).read_text(encoding="utf-8")), path)
    except OSError as error:
        raise BadTable(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise BadTable(f"{path}: no TOML: {error}") from None
    if bool(table.tcp) == bool(table.serial):
        raise BadTable(f"{path}: give either tcp or serial")
    registers: dict[str, Register] = {}
    for i, given in enumerate(table.register, 1):
        where = f"{path}, register {i} ({given.get('name', 'no name')!r})"
        register = checked(Register, {"device": table.device, **given}, where)
        if register.end > 65536:
            raise BadTable(f"{where}: {register.type} at {register.address} ends behind 65535, the last address")
        if register.name in registers:
            raise BadTable(f"{where}: another register has this name; give each its own")
        registers[register.name] = register
    return table, list(registers.values())


def checked(cls: type, given: dict[str, Any], where: str) -> Any:
    """A Table or Register with what is given; raises BadTable."""
    keys = {field.name: field.default for field in fields(cls)}
    for key in [*given, *keys]:
        if key not in keys:
            raise BadTable(f"{where}: unknown key {key!r}; the keys are {', '.join(keys)}")
        types, fits, words = RULES[key]
        if key not in given and keys[key] is MISSING:
            raise BadTable(f"{where}: '{key}' is missing; give {words}")
        if key in given and (type(given[key]) not in types or not fits(given[key])):
            raise BadTable(f"{where}: {key} = {given[key]!r}; give {words}")
    return cls(**given)


class Failed(Exception):
    """A request got no values."""


class Refused(Failed):
    """The device has no such registers."""


class Poller:
    """Reads all registers, over a connection that it opens again by itself."""

    def __init__(self, table: Table, registers: list[Register]) -> None:
        options: dict[str, Any] = {"timeout": table.timeout_s, "retries": 0}
        if table.tcp:
            host, _, port = table.tcp.rpartition(":")
            self._client: Any = ModbusTcpClient(host.strip("[]"), port=int(port), **options)
        else:
            options |= {"baudrate": table.baud, "parity": table.parity, "stopbits": table.stop_bits}
            self._client = ModbusSerialClient(table.serial, **options)
        self._table = table
        self._blocks = blocks(registers)
        self.missing: dict[str, float | None] = dict.fromkeys(register.name for register in registers)
        self._troubles = dict.fromkeys(self.missing, "")
        self._wait_s, self._next_try, self._lost, self._logged = 1.0, 0.0, "", ""
        logging.getLogger("pymodbus.logging").addFilter(self._listen)

    def poll(self) -> dict[str, float | None]:
        """One sample: name -> value, None where it could not be read."""
        sample, troubles = dict(self.missing), dict.fromkeys(self.missing, "")
        todo = list(self._blocks)
        for block in todo:  # grows
            try:
                raw, start = self._ask(block), block[0].address
                sample |= {r.name: r.value(raw[r.address - start : r.end - start]) for r in block}
            except Failed as error:
                if isinstance(error, Refused) and len(block) > 1:  # each alone from now on: the others may be there
                    alone = [[register] for register in block]
                    self._blocks.remove(block)
                    self._blocks += alone
                    todo += alone
                else:
                    troubles |= dict.fromkeys((register.name for register in block), str(error))
        for why in dict.fromkeys(troubles.values()):  # said once, not with every sample
            names = [name for name in troubles if troubles[name] == why != self._troubles[name]]
            if names:
                print(f"{', '.join(names)}: {why or 'read again'}", file=sys.stderr, flush=True)
        self._troubles = troubles
        return sample

    def _ask(self, block: list[Register]) -> list[Any]:
        """The raw registers or bits of a block, in one request; raises Failed."""
        method, kept, _ = READ[block[0].kind]
        count = max(register.end for register in block) - block[0].address
        for _ in range(2):
            if not self._client.connected:
                if time.monotonic() < self._next_try:
                    raise Failed(self._lost)
                if not self._client.connect():
                    self._lost = f"no connection: {self._logged}"
                    break
            try:
                answer = getattr(self._client, method)(block[0].address, count=count, device_id=block[0].device)
            except ConnectionException:  # many a device hangs up when nobody asks for a while: ask again at once
                self._client.close()
                self._lost = "no connection: the device hangs up"
                continue
            except ModbusException:
                if self._table.tcp:  # a late answer to this request shall not meet the next one
                    self._client.close()
                raise Failed(f"no valid answer within {self._table.timeout_s:g} s") from None
            self._wait_s = 1.0
            if answer.isError():  # up to 4: it has no such register or cannot read it; above: it is busy, ...
                raise (Refused if answer.exception_code <= 4 else Failed)(f"exception {answer.exception_code}")
            raw = getattr(answer, kept)
            if len(raw) != (count if kept == "registers" else math.ceil(count / 8) * 8):  # bits come in whole bytes
                raise Failed("the answer has another length")
            return raw
        self._next_try = time.monotonic() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        raise Failed(self._lost)

    def _listen(self, record: logging.LogRecord) -> bool:
        """Keep why pymodbus cannot connect: it tells its log alone."""
        if not record.msg.startswith("Repeating"):
            self._logged = record.msg.partition("\n")[0]
        return False


def blocks(registers: list[Register]) -> list[list[Register]]:
    """Neighbors together, as one request may ask for them."""
    found: list[list[Register]] = []
    end = -1
    for r in sorted(registers, key=lambda r: (r.device, r.kind, r.address)):
        first = found[-1][0] if found else r
        near = (r.device, r.kind) == (first.device, first.kind) and r.address <= end
        if near and r.end - first.address <= READ[r.kind][2]:
            found[-1].append(r)
            end = max(end, r.end)
        else:
            found.append([r])
            end = r.end
    return found


def run(table: Table, registers: list[Register]) -> None:
    """A line every period by the monotonic clock."""
    poller = Poller(table, registers)
    begin, late = time.monotonic(), False
    for i in itertools.count():
        wait_s = begin + i * table.period_s - time.monotonic()
        sample = poller.missing
        if wait_s > -table.period_s:
            time.sleep(max(wait_s, 0))
            sample = poller.poll()
        elif not late:
            late = True
            print("reading took longer than period_s; what was due meanwhile is null", file=sys.stderr, flush=True)
        print(json.dumps(sample), flush=True)


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise BadTable("usage: python examples/modbus.py TABLE.toml")
        run(*read_table(sys.argv[1]))
    except BadTable as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
    except KeyboardInterrupt:
        pass

"""The command: `python -m bench.promises.arm64`. What it does and needs stands in this package's docstring."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from bench.promises.arm64.compare import compare, export, replay, replay_here, subject
from bench.promises.arm64.root import SYSTEMS, Root, Skipped, emulator
from bench.promises.wheel import RunFailed, build_wheel
from bench.results import save, table
from edgekd.runtime.errors import EdgeKDError

CACHE = Path(__file__).parent / "cache"
SKIPPED = 77  # what automake takes for a skipped test
QEMU = 10  # 7.2, Debian bookworm's own, crashes in ai-edge-litert
INSIDE = "/tmp/edgekd"
PROTOCOL = (
    "closed loop from a cold start; error: |ARM - x86| / max(|x86|, threshold); events equal but for the scores that"
    " alarms repeat"
)


@click.command()
@click.option("--suite", "suites", multiple=True, type=click.Choice(list(SYSTEMS)), default=tuple(SYSTEMS))
@click.option("--only", type=click.Choice(["onnx", "tflite"]), help="One format.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), default=CACHE, help="Roots and files.")
@click.option("--qemu", type=click.Path(exists=True, path_type=Path), help="Folder of qemu-aarch64 and qemu-arm.")
@click.option("--mirror", help="Debian mirror.  [default: debootstrap's own]")
def main(suites: tuple[str, ...], only: str | None, keep: Path, qemu: Path | None, mirror: str | None) -> None:
    """Run the project in emulated ARM Debian roots and compare its scores with those of this machine."""
    keep = keep.resolve()
    checkpoint, csv, words = subject(keep)
    wheel = build_wheel(keep)
    rows: list[dict[str, Any]] = []
    emulators = set()
    for suite in suites:
        system = SYSTEMS[suite]
        formats = [name for name in system.formats if only in (None, name)]
        if not formats:
            continue
        with emulator(system.arch, qemu) as version:
            emulators.add(version)
            if "tflite" in formats and int(version.split()[2].split(".")[0]) < QEMU:
                raise Skipped(f"{version} crashes in ai-edge-litert; install qemu {QEMU}, or give --only onnx")
            click.echo(f"{suite}: {version}", err=True)
            root = Root.build(keep / f"{system.suite}-{system.arch}", system, mirror)
            for name in formats:
                files = export(checkpoint, keep, name, system.arch)
                rows += _measure(root, root.install(wheel, name), files, csv)
    print(table(rows))
    if suites == tuple(SYSTEMS) and only is None:
        save("arm64", rows, emulator=sorted(emulators), recording=words, protocol=PROTOCOL)
    missed = [row for row in rows if row["missed"]]
    if missed:
        raise RunFailed("; ".join(f"{row['system']}, {row['file']}: {row['missed']}" for row in missed))


def _measure(root: Root, venv: str, files: dict[str, Path], csv: Path) -> list[dict[str, Any]]:
    """Every file on every processor of the root against this machine."""
    root.path(INSIDE).mkdir(exist_ok=True)
    shutil.copy(csv, root.path(INSIDE))
    python = root.run(f"{venv}/bin/python", "-c", "import platform; print(platform.python_version())").strip()
    rows = []
    for file in files.values():
        shutil.copy(file, root.path(INSIDE))
        for cpu in root.system.cpus:
            row = {"system": f"{root.system.suite} {root.system.arch}, Python {python}", "cpu": cpu, "file": file.name}
            try:
                there = replay(
                    lambda *options, cpu=cpu: root.run(f"{venv}/bin/edgekd-run", *options, QEMU_CPU=cpu),
                    f"{INSIDE}/{file.name}", f"{INSIDE}/{csv.name}",
                )  # fmt: skip
                row |= compare(there, replay_here(file, csv))
            except RunFailed as error:
                row["missed"] = str(error)
            rows.append(row)
            click.echo(f"{cpu}, {file.name}: {row['missed'] or 'holds'}", err=True)
    return rows


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except Skipped as reason:
        click.echo(f"arm64: skipped: {reason}", err=True)
        sys.exit(SKIPPED)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgeKDError as error:
        click.echo(f"arm64: {error}", err=True)
        sys.exit(error.exit_code)

"""The `edgekd-run` command: options in, one loop, exit codes out. Heavy imports wait until the options are right."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekd import __version__
from edgekd.runtime.errors import EdgeKDError, GateFailed, UsageError
from edgekd.runtime.options import GroupedCommand, Options, declared

if TYPE_CHECKING:
    from edgekd.runtime.loop import Say

SWITCH_S = 0.0005  # a thread that writes events keeps detection waiting for so long, not for Python's 5 ms
END_S = 0.8  # what a reader of the events has at the end to take what is left
LEAST_S = 0.02  # what the end of standard output gets where those before it have taken all
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "auto_envvar_prefix": "EDGEKD"}
EPILOG = """Events are JSON lines on standard output; words go to standard error. Every option can also be given as an
environment variable, EDGEKD_ and its name (EDGEKD_MODEL, EDGEKD_STATE_EVERY); flags are stronger. MQTT, TCP, files that
grow, commands, metrics and systemd: edgekd-gateway.

\b
Exit codes: 0 done or stopped, 1 the self-test failed, 2 usage, 3 model refused,
4 the input failed for good, 130 interrupted."""


@click.command(cls=GroupedCommand, context_settings=CONTEXT, epilog=EPILOG, params=declared(Options))
@click.option("--check", is_flag=True, help="Verify the model on this machine and end.")
@click.option("--json", "as_json", is_flag=True, help="With --check: a JSON report.")
@click.option("--quiet", is_flag=True, help="No words on standard error but errors.")
@click.version_option(__version__, prog_name="edgekd-run")
def cli(check: bool, as_json: bool, quiet: bool, **given: Any) -> None:
    """Run an exported detector on a stream of sensor samples.

    \b
    Examples:
        edgekd-run --model student.onnx --serial /dev/ttyUSB0
        edgekd-run --model student.onnx --csv recording.csv --scores
        mosquitto_sub -t plant | edgekd-run --model student.onnx --stdin --state /var/lib/edgekd/state
        edgekd-run --model images.onnx --frames camera --scores
        edgekd-run --model student.onnx --check
        edgekd-run --model student.onnx --require-signed key.pem.pub --serial /dev/ttyUSB0
    """
    options = Options(**given)
    if check:
        return _check(options.model, options.require_signed, as_json)
    if as_json:
        raise UsageError("--json goes with --check; events are JSON lines anyway")
    from edgekd.runtime import assembly
    from edgekd.runtime.sinks import StderrLines

    assembly.check(options)
    say = StderrLines("edgekd-run", quiet)
    with assembly.lock_of(options, say):
        sys.exit(_run(options, say))


def main() -> None:
    """Run the command; see `guarded`."""
    guarded("edgekd-run", cli)


def guarded(program: str, command: click.Command) -> None:
    """Run a command of the device; every error that a user can mend becomes one line and its own exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until `Signals` is there to take it
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # it was closed: no other file must get its number
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout, sys.stderr = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    try:
        command.main(prog_name=program, standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgeKDError as error:
        click.echo(f"{program}: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # what is left is the event stream itself: every input and file has its own handling
        click.echo(f"{program}: {error.strerror or error}: cannot go on; check where standard output goes", err=True)
        forget_stdout()
        sys.exit(1)


def _run(options: Options, say: Say) -> int:
    """Put the parts together and run them."""
    from edgekd.runtime import assembly
    from edgekd.runtime.detector import Detector
    from edgekd.runtime.loop import Loop
    from edgekd.runtime.signals import Signals

    sys.setswitchinterval(SWITCH_S)
    detector = Detector.load(
        options.model, threshold=options.threshold, false_alarms_per_day=options.false_alarms_per_day, probe=True,
        signed_by=options.require_signed,
    )  # fmt: skip
    source = assembly.open_source(options, detector)
    sink = assembly.stdout_of(options, source.live)
    loop = Loop(source, detector, assembly.episodes_of(options, detector), sink.emit, say, options.scores)
    loop.watchers = [*assembly.watchers_of(options, loop), *assembly.keeper_of(options, loop)]
    signals = Signals("edgekd-run", loop.stop)
    try:
        loop.run()
        say(loop.summary())
    except BrokenPipeError:  # nobody reads the events any more: what they did not get is told after the next start
        forget_stdout()
    finally:
        sink.close(max(LEAST_S, min(END_S, signals.over_by - time.monotonic())))
    sys.stdout.flush()
    signals.done()
    return 130 if signals.interrupted else 0


def _check(model: str, signed_by: str | None, as_json: bool) -> None:
    """Print the report; raises GateFailed where the self-test fails, and what `check_model` raises."""
    from edgekd.runtime.check import check_model, describe

    try:
        report = check_model(model, signed_by)
    except EdgeKDError as error:
        if as_json:
            click.echo(json.dumps({"ok": False, "file": model, "error": str(error)}))
        raise
    click.echo(json.dumps(report) if as_json else describe(report))
    if not report["ok"]:
        raise GateFailed(f"{Path(model).name}: the self-test failed; this engine does not compute what was trained")


def forget_stdout() -> None:
    """Nobody reads standard output any more: keep Python from flushing into it at exit, and from saying so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

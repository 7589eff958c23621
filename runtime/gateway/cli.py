"""The `edgekd-gateway` command: all of it about one TOML file. Heavy imports wait until they are needed."""

from __future__ import annotations

import json
import sys
from importlib.resources import files

import click

from edgekd import __version__
from edgekd.runtime.cli import guarded
from edgekd.runtime.errors import EdgeKDError, UsageError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
FILE = click.argument("file", metavar="FILE")


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="edgekd-gateway")
def cli() -> None:
    """Run a detector as a service: MQTT, TCP, commands, metrics, systemd. One TOML file says how.

    \b
    Example:
        edgekd-gateway init > gateway.toml     # then set model and input in it
        edgekd-gateway check gateway.toml
        edgekd-gateway run gateway.toml
    """


@cli.command()
def init() -> None:
    """Print an example of the file, with every key.

    \b
    Example:
        edgekd-gateway init > gateway.toml
    """
    click.echo((files("edgekd.runtime.gateway") / "gateway.toml").read_text(encoding="utf-8"), nl=False)


@cli.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="A JSON report.")
def check(file: str, as_json: bool) -> None:
    """Try everything the file names; say what is wrong and what to do.

    Model, input, broker, command, disk, permissions and ports are tried; nothing is left behind, and a gateway that
    runs on this file is not disturbed. The exit code is 0 if all is well, else 1.

    \b
    Example:
        edgekd-gateway check gateway.toml
    """
    from edgekd.runtime.gateway.check import check_all, describe

    findings = check_all(file)
    ok = all(finding.ok for finding in findings)
    told = json.dumps({"ok": ok, "checks": [vars(finding) for finding in findings]}) if as_json else describe(findings)
    click.echo(told)
    sys.exit(0 if ok else 1)


@cli.command()
@FILE
@click.option("--reset-threshold", is_flag=True, help="Forget what calibrate-for and adapt have learned.")
def run(file: str, reset_threshold: bool) -> None:
    """Run the gateway.

    \b
    Exit codes: 0 done or stopped, 1 a fault of the program, 2 usage, 3 model refused, 4 the input failed for good,
    130 interrupted.

    \b
    Example:
        edgekd-gateway run gateway.toml
    """
    from edgekd.runtime.gateway.config import read_config

    options = read_config(file)
    if reset_threshold and not any(stream.state for stream in options.streams):
        raise UsageError("--reset-threshold: this file has no state, which is where the threshold is kept")
    from edgekd.runtime.gateway import service
    from edgekd.runtime.gateway.watchers.threads import fault

    try:
        code = service.run(file, options, reset_threshold)
    except (EdgeKDError, OSError):
        raise
    except Exception as error:
        raise fault(error, file) from error
    sys.exit(code)


@cli.command()
@FILE
def unit(file: str) -> None:
    """Print a hardened systemd unit for the file.

    \b
    Example:
        edgekd-gateway unit /etc/edgekd/gateway.toml > /etc/systemd/system/edgekd.service
    """
    from edgekd.runtime.gateway.config import read_config
    from edgekd.runtime.gateway.unit import unit_of

    click.echo(unit_of(file, read_config(file)), nl=False)


def main() -> None:
    """Run the command; see `guarded`."""
    guarded("edgekd-gateway", cli)


if __name__ == "__main__":
    main()

"""The `edgekd` command: one verb a module in `edgekd.commands`, imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys

import click

from edgekd import __version__
from edgekd.runtime.errors import EdgeKDError, MissingExtra
from edgekd.threads import wait_briefly

VERBS = {
    "simulate": "Write a recording of a simulated plant with labeled faults.",
    "look": "Say what is read of a file, and what is wrong with it.",
    "distill": "Train a teacher and distill it into a small student.",
    "evaluate": "Measure a student or an exported file on a labeled recording.",
    "report": "Write a page that shows a model at work on a recording.",
    "export": "Turn a student into one self-describing file.",
    "sign": "Sign exported files, so that a device can tell whose they are.",
    "inspect": "Say what is in a student or an exported file.",
    "fleet": "Students for many machines at once: what each is worth, and whose normal has moved.",
    "bench": "Measure size, latency, memory and quality side by side.",
}


class _LazyGroup(click.Group):
    """Knows the verbs and their one-line help without importing them, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(f"edgekd.commands.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgekd")
def cli() -> None:
    """Distill a large anomaly detector into one file that a sensor gateway runs.

    \b
    Example:
        edgekd simulate plant.csv
        edgekd distill plant.csv -o student.pt
        edgekd export student.pt --int8
        edgekd-run --model student.onnx --serial /dev/ttyUSB0
    """


def main() -> None:
    """Run the command; every error that a user can mend becomes one line and its own exit code."""
    wait_briefly()
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except EdgeKDError as error:
        click.echo(f"edgekd: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "edgekd":
            raise
        click.echo(f"edgekd: {MissingExtra(error.name or str(error), 'workstation')}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

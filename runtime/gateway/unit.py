"""A systemd unit for one file: shut off from everything that the file does not name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.gateway.options import GatewayOptions
from edgekd.runtime.gateway.secret import VARIABLES
from edgekd.runtime.json_fields import shown

STATE = Path("/var/lib/edgekd")
TASKS, MEGABYTES = 4, 16  # of a stream: its input, a look at models, what begins and ends; what is read ahead
HOMES = ("/home", "/root", "/run/user")
UNIT = """\
# systemd unit of edgekd-gateway, for {file}:
#   edgekd-gateway unit {file} > /etc/systemd/system/edgekd.service
#   systemctl daemon-reload && systemctl enable --now edgekd

[Unit]
Description=EdgeKD anomaly detector
Documentation=man:systemd.service(5)
After=network.target time-sync.target
# restart for ever: nobody visits this machine
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{restart}
RestartSec=2
# fed when a sample was scored or the input is known to be idle; a step or thread that hangs is ended and started anew
WatchdogSec=30
TimeoutStartSec=120
# it ends within 2 s of SIGTERM
TimeoutStopSec=5

# Events go to the journal. For a file of their own, which logrotate rotates (copytruncate):
# StandardOutput=append:/var/log/edgekd.jsonl{secrets}

{user}
WorkingDirectory={directory}
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
{home}
PrivateTmp=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
MemoryMax={memory}M
TasksMax={tasks}

[Install]
WantedBy=multi-user.target
"""
ENDS = """\
# once the input has been read to its end, that is it
Restart=on-failure
RestartForceExitStatus=SIGHUP"""
SERIAL = """\
# No DeviceAllow, and no ProtectClock, which brings one: by name it knows only drivers that are loaded when the unit
# starts, and an adapter that is plugged in later would stay shut.
SupplementaryGroups=dialout"""


def unit_of(file: str, options: GatewayOptions) -> str:
    """The unit that runs this file with the program that runs now. Raises UsageError for a path that it cannot hold."""
    streams = options.streams
    config, read, written = Path(file).absolute(), _read(options), _written(options)
    for path in (config, *read, *written, *filter(None, _secret_files(options).values())):
        if not str(path).isprintable():
            raise UsageError(f"{shown(str(path), 300)}: a systemd unit cannot hold this path; rename it")
    shared = options.publish, options.control, options.command, options.metrics, options.page
    network = any(shared) or any(stream.tcp or stream.mqtt for stream in streams)
    at_home = _at_home([config, *read, *written, *_program()])
    ends = all(stream.ends or stream.stdin for stream in streams)
    count = sum(stream.most if stream.each else 1 for stream in streams)
    relative = not all(path.is_absolute() for path in (*read, *written))
    return UNIT.format(
        file=shlex.quote(str(config)),
        command=" ".join(map(_argument, [*_command(), "run", str(config)])),
        restart=ENDS if ends else "Restart=always",
        secrets="".join(f"\n{line}" for line in _secrets(options)),
        user="\n".join(_user(written) + ([SERIAL] if any(stream.serial for stream in streams) else [])),
        # relative paths in the file begin where this command was given
        directory=_escaped(str(Path.cwd())) if relative else "%S/edgekd",
        home=f"# for {shown(str(at_home[0]), 300)}\nProtectHome=read-only" if at_home else "ProtectHome=yes",
        memory=496 + MEGABYTES * count,
        tasks=60 + TASKS * count,
        families="AF_UNIX AF_INET AF_INET6 AF_NETLINK" if network else "AF_UNIX",
    )


def _read(options: GatewayOptions) -> list[Path]:
    """What the file names to be read."""
    named = [name for s in options.streams for name in (s.model, s.require_signed, s.csv, s.frames, s.layout)]
    named += [options.mqtt_ca, options.mqtt_cert]
    named += [word for word in shlex.split(options.command or "")[:1] if "/" in word]
    return [Path(name) for name in named if name]


def _written(options: GatewayOptions) -> list[Path]:
    """The folders in which the file wants something to be written."""
    of_streams = [name for stream in options.streams for name in (stream.state, stream.record)]
    return [Path(name).parent for name in (*of_streams, options.outbox, options.history) if name]


def _program() -> list[Path]:
    """What this program is made of."""
    return [Path(part).absolute() for part in (sys.executable, sys.prefix, sys.base_prefix, __file__)]


def _command() -> list[str]:
    program = Path(sys.argv[0]).absolute()
    if program.name == "edgekd-gateway":
        return [str(program)]
    return [sys.executable, "-m", "edgekd.runtime.gateway.cli"]


def _user(written: Iterable[Path]) -> list[str]:
    """Who runs it and where it may write: a user that systemd makes up may own nothing but its state directory."""
    folders = {folder.absolute() for folder in written}
    outside = {folder for folder in folders if not folder.is_relative_to(STATE)}
    inside = {str(folder.relative_to(STATE.parent)) for folder in {STATE, *folders - outside}}
    state = f"StateDirectory={' '.join(map(_quoted, sorted(inside)))}"
    if not outside:
        return ["User=edgekd", "DynamicUser=yes", state]
    paths = sorted(map(str, outside))
    return [
        "# this user must be there and own the folders that follow:",
        f"#   useradd --system edgekd && chown edgekd {shlex.join(paths)}",
        "User=edgekd",
        f"ReadWritePaths={' '.join(map(_quoted, paths))}",
        state,
    ]


def _secret_files(options: GatewayOptions) -> dict[str, str | None]:
    """By the name of their credential."""
    files = {"mqtt-password": options.mqtt_password_file, "mqtt-key": options.mqtt_key}
    return {**files, "page-token": options.page_token_file if options.page else None}


def _secrets(options: GatewayOptions) -> list[str]:
    """What only root may read is given to the service by systemd."""
    files = _secret_files(options)
    lines = [f"LoadCredential={name}:{_escaped(str(Path(file).absolute()))}" for name, file in files.items() if file]
    broker = options.publish or options.control or any(stream.mqtt for stream in options.streams)
    wanted = [name for name, used in (("mqtt-password", broker), ("page-token", options.page)) if used]
    if variables := [f"{VARIABLES[name]}=…" for name in wanted if not files[name]]:
        lines.append(f"# may hold a line {' and a line '.join(variables)}; let only root read it")
        lines.append("EnvironmentFile=-/etc/edgekd/environment")
    return lines


def _at_home(paths: Iterable[Path]) -> list[Path]:
    """Those that lie in somebody's home, perhaps by a link."""
    places = [place for path in paths for place in (path.absolute(), path.resolve())]
    return [place for place in places if any(place.is_relative_to(home) for home in HOMES)]


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One of several words; systemd.syntax(7)."""
    escaped = _escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if set(escaped) & set(" \\\"';") else escaped


def _argument(text: str) -> str:
    """A word of a command line; systemd.service(5)."""
    return _quoted(text).replace("$", "$$")

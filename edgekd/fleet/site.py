"""What was made for a fleet: a folder for each machine, `site.json` that lists them, `run.json` about the last run.

`site.json` is the same for the same fleet, data, settings and version; with a key, `site.json.sig` is its signature,
and what sends models to devices can trust the digests in it. `run.json` has what is never the same: times.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekd import __version__
from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic, sha256

FORMAT = 1
SITE, RUN, DRIFT, REPORT = "site.json", "run.json", "drift.json", "report.html"
MOST_OF_TIME = 0.02
"""Share of a run that may go into writing the list of machines again and again."""

Entry = dict[str, Any]


class Site:
    """The folder; everything in it is whole or not there, whenever the run is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = self._read(SITE, {"format": FORMAT, "machines": {}, "types": {}})
        if content.get("format") != FORMAT:
            raise UsageError(f"{folder / SITE}: of another format than this EdgeKD's; give -o another folder")
        self.machines: dict[str, Entry] = content["machines"]
        """Name -> data, settings and model digests, its file, and the figures of the report."""
        self.types: dict[str, Entry] = content["types"]
        """Name -> what the shared student of a type was made of."""
        self.last: dict[str, Any] = self._read(RUN, {"machines": {}})
        self._due = 0.0

    def folder_of(self, machine: str) -> Path:
        """Where a machine's files lie; a name that no folder can have is written in percents."""
        return self.folder / "machines" / quote(machine, safe=" +,=@()[]")

    def folder_of_type(self, name: str) -> Path:
        """Where the shared teacher and student of a type lie."""
        return self.folder / "types" / quote(name, safe=" +,=@()[]")

    def put(self, folder: Path, files: dict[str, bytes]) -> None:
        """Write files into a machine's or a type's folder, each whole or not at all."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                with atomic(folder / name) as file:
                    file.write(content)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another place with -o") from None

    def has(self, machine: str, entry: Entry) -> bool:
        """Whether a machine's model is there as its entry says."""
        return (self.folder_of(machine) / entry["file"]).is_file()

    def save(self, now: bool = True) -> None:
        """Write the list of machines; where it is not for `now`, only if writing has taken little of the time."""
        began = time.monotonic()
        if not now and began < self._due:
            return
        self._write(SITE, {"format": FORMAT, "edgekd": __version__, "types": self.types, "machines": self.machines})
        self._due = time.monotonic() + (time.monotonic() - began) / MOST_OF_TIME

    def save_run(self, run: dict[str, Any]) -> None:
        """Write what this run was like."""
        self.last = run
        self._write(RUN, run)

    def write_drift(self, found: dict[str, Any]) -> None:
        """Write whose normal has moved."""
        self._write(DRIFT, found)

    def drift(self) -> dict[str, Any]:
        """Whose normal has moved, as `edgekd fleet drift` found it; raises UsageError where it was not run."""
        if not (self.folder / DRIFT).is_file():
            raise UsageError(
                f"{self.folder / DRIFT}: is not there; run `edgekd fleet drift {self.folder} --from FOLDER`"
            )
        return self._read(DRIFT, {})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic(self.folder / name) as file:
                file.write(json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise UsageError(f"{self.folder / name}: cannot be written ({error.strerror})") from None

    def _read(self, name: str, missing: dict[str, Any]) -> dict[str, Any]:
        path = self.folder / name
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return missing
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); give -o another folder, or remove it") from None
        if not isinstance(found, dict) or not found.keys() >= missing.keys():
            raise UsageError(f"{path}: is no list of a fleet's machines; give -o another folder")
        return found


def digest(*words: object) -> str:
    """SHA-256 over JSON-able values."""
    return sha256(json.dumps(words, sort_keys=True, default=str).encode())


def existing(folder: Path) -> Site:
    """A site that was made; raises UsageError where there is none."""
    if not (folder / SITE).is_file():
        raise UsageError(f"{folder}: holds no {SITE}; `edgekd fleet distill FLEET -o {folder}` makes one")
    return Site(folder)

"""A secret: from a file, which systemd may have put where only the service can read it, or from a variable."""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.runtime.errors import UsageError
from edgekd.runtime.json_fields import shown

MAX_CHARACTERS = 65_535  # MQTT has no longer password
VARIABLES = {"mqtt-password": "EDGEKD_MQTT_PASSWORD", "page-token": "EDGEKD_PAGE_TOKEN"}
"""Where a secret is if no file holds it; no command that is run for an event sees them."""


def credential(name: str, file: str | None) -> str | None:
    """Where systemd has put what only root may read (the unit's LoadCredential=NAME:FILE); else the file itself."""
    given = Path(os.environ.get("CREDENTIALS_DIRECTORY", ""), name)
    return str(given) if given.is_absolute() and given.exists() else file


def read_secret(name: str, file: str | None) -> str | None:
    """What the file holds, else the variable; None without both. Raises UsageError where the file cannot be read."""
    if file is None:
        return os.environ.get(VARIABLES[name])
    try:
        with Path(file).open() as opened:
            text = opened.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ValueError
        return text.rstrip("\r\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text, or too long for a password"
        raise UsageError(f"{name}-file {shown(file, 200)}: {why}") from None

"""The page itself: one HTML file with all that it shows inside, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from pathlib import Path
from typing import Any

from edgekd.runtime.errors import UsageError
from edgekd.runtime.files import atomic

POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; script-src {scripts}; style-src {styles}"

SCRIPT = ("data", "counting", "plots", "heat", "selection", "alarms", "settings", "facts", "begin")
"""Parts of one script, in their order. Text goes into the page by textContent alone."""


def page(content: dict[str, Any]) -> str:
    """The page that shows `content`."""
    own, plots = resources.files("edgekd.report"), resources.files("edgekd.runtime.gateway.page.vendor")
    styles = [(folder / name).read_text("utf-8") for folder, name in ((plots, "uPlot.min.css"), (own, "report.css"))]
    script = "\n".join((own / "script" / f"{name}.js").read_text("utf-8") for name in SCRIPT)
    scripts = [(plots / "uPlot.iife.min.js").read_text("utf-8"), f'"use strict";\n(() => {{\n{script}}})();\n']
    parts = {
        "policy": POLICY.format(scripts=hashes(scripts), styles=hashes(styles)),
        "title": html.escape(content["title"]),
        "styles": "".join(f"<style>{style}</style>" for style in styles),
        "data": _inside_script(content),
        "scripts": "".join(f"<script>{script}</script>" for script in scripts),
    }
    first, *rest = (own / "report.html").read_text("utf-8").split("{{")
    for piece in rest:  # no part is looked into for the place of another
        name, _, text = piece.partition("}}")
        first += parts[name] + text
    return first


def write(text: str, path: Path) -> None:
    """The page as a file, whole or not there; raises UsageError where it cannot be written."""
    try:
        with atomic(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from None


def _inside_script(content: dict[str, Any]) -> str:
    """JSON in which nothing ends a script or begins a tag, whatever sensors are called; ASCII alone."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hashes(texts: list[str]) -> str:
    """What a policy lets in of these texts."""
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)

"""Write the tables of README.md and docs/ from the result files.

    python -m bench.pages [--check]

A block `<!-- figures NAME:KEY -->` … `<!-- end -->` takes the rows of bench/results/NAME.json, or those under KEY of
its figures, or of the file itself. What is the same in every row stands once, below the table.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import click

from bench.results import RESULTS, table

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- figures ([\w-]+)(?::([^>]*?))? -->\n).*?(<!-- end -->)", re.DOTALL)
FEW = 3  # rows; in fewer, what is the same says little


def pages() -> list[Path]:
    """Every page that may have figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A page with every block rewritten."""

    def block(match: re.Match[str]) -> str:
        path = RESULTS / f"{match[2]}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        figures = content.get("figures")
        rows = (figures if isinstance(figures, dict) else content).get(match[3]) if match[3] else figures
        return f"{match[1]}{_shown(rows) if rows else 'Not measured yet.'}\n{match[4]}"

    return BLOCK.sub(block, text)


def _shown(rows: list[dict[str, Any]]) -> str:
    rows = [{name: _word(value) for name, value in row.items()} for row in rows]
    _, *rest = rows[0]  # the first column says what a row is about
    same = {name: rows[0][name] for name in rest if all(row.get(name) == rows[0][name] for row in rows)}
    if len(rows) < FEW:
        return table(rows)
    text = table([{name: value for name, value in row.items() if name not in same} for row in rows])
    told = {name: value for name, value in same.items() if value not in ("", None)}
    cells = table([told]).splitlines()[-1].strip("| ").split(" | ")
    return (
        f"{text}\n\nIn every row: {'; '.join(f'{name} {cell}' for name, cell in zip(told, cells))}." if told else text
    )


def _word(value: Any) -> Any:
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the tables are those of the result files.")
def main(check: bool) -> None:
    """Rewrite the blocks in place."""
    old = {page: page.read_text() for page in pages()}
    new = {page: filled(text) for page, text in old.items()}
    if check:
        sys.exit(new != old)
    for page, text in new.items():
        page.write_text(text)


if __name__ == "__main__":
    main()

"""Write the tables of the README and of RESULTS.md from the result files.

    python -m bench.pages [--check]

A block `<!-- figures NAME:KEY -->` … `<!-- end -->` takes the rows of bench/results/NAME.json, or those under KEY of
its figures, or of the file itself.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from bench.results import RESULTS, table

PAGES = (Path(__file__).parent.parent / "README.md", Path(__file__).parent / "RESULTS.md")
BLOCK = re.compile(r"(<!-- figures ([\w-]+)(?::([^>]*?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with every block rewritten; a block without results says how to get them."""

    def block(match: re.Match[str]) -> str:
        path = RESULTS / f"{match[2]}.json"
        content = json.loads(path.read_text()) if path.exists() else {}
        figures = content.get("figures")
        rows = (figures if isinstance(figures, dict) else content).get(match[3]) if match[3] else figures
        if rows is None:
            return f"{match[1]}Not measured yet: `python -m bench.{match[2]}`.\n{match[4]}"
        return f"{match[1]}{table(rows)}\n{match[4]}" if rows else f"{match[1]}{match[4]}"

    return BLOCK.sub(block, text)


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the tables are those of the result files.")
def main(check: bool) -> None:
    """Rewrite the blocks in place."""
    pages = {page: page.read_text() for page in PAGES}
    new = {page: filled(text) for page, text in pages.items()}
    if check:
        sys.exit(new != pages)
    for page, text in new.items():
        page.write_text(text)


if __name__ == "__main__":
    main()

"""Write the tables of the README from the result files.

    python -m bench.readme [--check]

A block `<!-- figures NAME:KEY -->` … `<!-- end -->` takes the rows of bench/results/NAME.json, or those under KEY.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from bench.results import RESULTS, table

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- figures ([\w-]+)(?::([^>]*?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The README with every block rewritten; a block without results says how to get them."""

    def block(match: re.Match[str]) -> str:
        path = RESULTS / f"{match[2]}.json"
        figures = json.loads(path.read_text())["figures"] if path.exists() else {}
        rows = figures.get(match[3]) if match[3] else figures
        if not path.exists() or rows is None:
            return f"{match[1]}Not measured yet: `python -m bench.{match[2]}`.\n{match[4]}"
        return f"{match[1]}{table(rows)}\n{match[4]}" if rows else f"{match[1]}{match[4]}"

    return BLOCK.sub(block, text)


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the tables are those of the result files.")
def main(check: bool) -> None:
    """Rewrite the blocks in place."""
    text = README.read_text()
    new = filled(text)
    if check:
        sys.exit(new != text)
    README.write_text(new)


if __name__ == "__main__":
    main()

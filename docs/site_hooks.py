"""For the site: pictures come from bench/results/, and links to other files of the repository stay as words.

On a page as it lies in the repository both are ordinary relative links.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PICTURES = "bench/results/"
OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+(?!\.)[^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pictures to what the site is made of."""
    for picture in sorted((ROOT / PICTURES).glob("*.png")):
        files.append(File.generated(config, f"results/{picture.name}", abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrite the links that lead out of docs/."""
    folder = Path(config.docs_dir, page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        target = (folder / match[3]).resolve()
        if target.is_relative_to(config.docs_dir):
            return match[0]
        inside = target.relative_to(ROOT).as_posix()
        return f"![{match[2]}]({inside.removeprefix(PICTURES)})" if match[1] else match[2]

    return OUTSIDE.sub(link, markdown)

"""The wheel, which is what a device installs, and fresh environments with it.

python -m bench.promises.wheel [FOLDER]          # make wheel; into dist/
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from edgekd.runtime.errors import EdgeKDError

REPOSITORY = Path(__file__).parents[2]


class RunFailed(EdgeKDError):
    """A program ended badly."""


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a program at low priority; its standard output. Raises RunFailed with its last words."""
    done = subprocess.run(["nice", "-n", "5", *command], capture_output=True, text=True, env=env, cwd=REPOSITORY)
    if done.returncode:
        words = " / ".join((done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-4:])
        how = f"was killed by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        raise RunFailed(f"{' '.join(command[:6])} … {how}: {words}")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The project's wheel, from a copy of the tree: an older build's leftovers in the tree would get into it."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("edgekd-*.whl"):
        old.unlink()
    with TemporaryDirectory() as tree:
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(REPOSITORY / name, tree)
        # follows the two symlinks of edgekd/
        shutil.copytree(REPOSITORY / "edgekd", Path(tree) / "edgekd", ignore=shutil.ignore_patterns("__pycache__"))
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", str(folder.resolve()), tree)
    return next(folder.glob("edgekd-*.whl"))


def environment(folder: Path, *installs: list[str], base: str = sys.executable) -> Path:
    """A fresh environment of Python `base` with only what the pip arguments bring, one call each; its interpreter."""
    python = folder / "bin" / "python"
    run(base, "-m", "venv", "--without-pip", str(folder))
    for arguments in installs:
        run(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *arguments)
    return python


if __name__ == "__main__":
    try:
        print(build_wheel(Path(*sys.argv[1:2] or ["dist"])))
    except RunFailed as failed:
        sys.exit(str(failed))

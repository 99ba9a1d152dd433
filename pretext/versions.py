"""The code that made a file: versions of the packages and the git commit."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from pretext import __version__

#: Distributions whose versions can change a number.
DISTRIBUTIONS = {
    "torch": "torch",
    "torchvision": "torchvision",
    "mmengine": "onedl-mmengine",
    "mmseg": "onedl-mmsegmentation",
    "pycocotools": "pycocotools",
    "numpy": "numpy",
    "pillow": "Pillow",
}


@cache
def versions() -> dict[str, str | None]:
    """Return the versions of Python and the packages, and the git commit (``+dirty`` if changed); None if unknown."""
    found: dict[str, str | None] = {"pretext-transfer": __version__, "python": platform.python_version()}
    for name, distribution in DISTRIBUTIONS.items():
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["git_commit"] = _git_commit()
    return found


def _git_commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()

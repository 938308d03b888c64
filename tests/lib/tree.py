"""The files of the repository, as git knows them, or as they lie there where git does not."""
from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NOT_OURS = ("build/", ".git/", ".cache/", "proto/google/")


@lru_cache(maxsize=None)
def files() -> tuple[str, ...]:
    """Paths relative to the root: what is tracked, and what is new and not ignored."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    return tuple(sorted({n for n in names if not n.startswith(NOT_OURS) and "__pycache__" not in n and
                         (ROOT / n).is_file() and not (ROOT / n).is_symlink()}))


def under(*folders: str, ext: tuple[str, ...] = ()) -> list[str]:
    """Files in these folders whose names end so."""
    prefixes = tuple(folder.rstrip("/") + "/" for folder in folders)
    return [n for n in files() if (not prefixes or n.startswith(prefixes)) and (not ext or n.endswith(ext))]


@lru_cache(maxsize=None)
def text(name: str) -> str:
    """The file's text; empty if it is no text."""
    data = (ROOT / name).read_bytes()
    if b"\0" in data[:8000]:
        return ""
    return data.decode("utf-8", errors="replace")

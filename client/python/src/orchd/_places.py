"""Where code lies: the folder that travels with a pipeline, and the name by which a step's process finds a function."""

from __future__ import annotations

import fnmatch
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from . import _cells
from .errors import Refused

# Written by tools beside the code; `.orchignore` has one's own, a pattern a line.
IGNORED = (
    ".git", "__pycache__", "*.pyc", ".venv", "venv", ".tox", ".nox", "node_modules", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".ipynb_checkpoints", "*.egg-info", ".idea", ".vscode",
)  # fmt: skip
_DAEMONS = {"token", "orchd.db"}  # in a daemon's data directory, which is no code
MOST_FILES = 20_000
MOST_BYTES = 512 << 20
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True)
class Source:
    """A folder of code, as it is shipped."""

    path: str
    ignore: tuple[str, ...]
    files: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}: {self.files} file{'' if self.files == 1 else 's'}, {size_text(self.size)}"


def size_text(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _main_spec() -> str:
    """The name of the module that `python -m NAME` runs."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return str(spec.name) if spec is not None else ""


def _file_of(function: Callable[..., Any]) -> str:
    file: str = function.__code__.co_filename
    if not os.path.exists(file):
        raise Refused(
            "NOT_IN_A_FILE",
            f"`{function.__name__}` is in {file}, and steps run in processes of their own, which find it by its file "
            "or in a cell of a notebook: put it into one of these",
        )
    return os.path.abspath(file)


def root_of(function: Callable[..., Any]) -> str:
    """The folder from which the function's module is imported; of a notebook the one that it runs in."""
    if _cells.is_in_cell(function):
        return os.getcwd()
    file = _file_of(function)
    module = function.__module__
    if module == "__main__":
        module = _main_spec()
    folder = os.path.dirname(file)
    depth = module.count(".") + (1 if os.path.basename(file) == "__init__.py" else 0) if module else 0
    for _ in range(depth):
        folder = os.path.dirname(folder)
    return folder


def target_of(function: Callable[..., Any]) -> str:
    """`module:name`, or `/path/file.py:name` for the file that is being run; `relative` makes a path travel; of a
    notebook `<cells>:name`."""
    if "<locals>" in function.__qualname__ or function.__name__ == "<lambda>":
        raise Refused(
            "STEP_INVALID",
            f"the step `{function.__qualname__}` is made inside another function, where its process cannot find it: "
            "move it to the top of the file",
        )
    if _cells.is_in_cell(function):
        return f"{_cells.PLACE}:{function.__qualname__}"
    file = _file_of(function)
    module = function.__module__
    if module == "__main__":
        module = _main_spec() or file
    return f"{module}:{function.__qualname__}"


def name_main() -> None:
    """Makes the file that is being run also known by the name that its steps' processes give it, so that what they
    pickled comes back as the same classes."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    name = _main_spec() or (os.path.splitext(os.path.basename(file))[0] if file else "")
    if main is not None and name:
        sys.modules.setdefault(name, main)


def relative(target: str, root: str) -> str:
    """The target as the step's process, which runs in `root`, finds it."""
    place, _, name = target.rpartition(":")
    if not os.path.isabs(place):
        return target
    inside = os.path.relpath(place, root)
    if inside.startswith(os.pardir):
        raise Refused(
            "STEP_OUTSIDE_SOURCE",
            f"the step `{name}` is in {place}, outside the folder {root} that travels with the pipeline: "
            "name a folder that has both with `@pipeline(source=...)`",
        )
    return f"{inside}:{name}"


def patterns_of(root: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    own: list[str] = []
    try:
        with open(os.path.join(root, ".orchignore"), encoding="utf-8") as file:
            own = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    except OSError:
        pass
    return tuple(dict.fromkeys([*IGNORED, *own, *more]))


def _matches(pattern: str, inside: str, name: str) -> bool:
    """As the daemon judges: the last part, or the whole path, where `*` does not cross a `/`."""
    parts, wanted = inside.split("/"), pattern.split("/")
    whole = len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
    return whole or fnmatch.fnmatchcase(name, pattern)


def _files(root: str, ignore: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
    open_folders = [root]
    while open_folders:
        try:
            entries = list(os.scandir(open_folders.pop()))
        except OSError:
            continue
        if {entry.name for entry in entries} >= _DAEMONS:
            continue
        for entry in entries:
            inside = os.path.relpath(entry.path, root)
            if any(_matches(pattern.rstrip("/"), inside, entry.name) for pattern in ignore):
                continue
            if entry.is_dir(follow_symlinks=False):
                open_folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry


def survey(root: str, more: Iterable[str] = ()) -> Source:
    """How much would travel. Raises Refused (SOURCE_TOO_LARGE): nobody means to ship a home folder."""
    ignore = patterns_of(root, more)
    files = size = 0
    for entry in _files(root, ignore):
        files += 1
        size += entry.stat(follow_symlinks=False).st_size
        if files > MOST_FILES or size > MOST_BYTES:
            raise Refused(
                "SOURCE_TOO_LARGE",
                f"the folder {root}, which travels with the pipeline and is hashed into its steps' cache keys, "
                f"has more than {MOST_FILES} files or {size_text(MOST_BYTES)}: put the file into a folder of its own, "
                "name the code with `@pipeline(source=...)`, or leave things out with a file `.orchignore`",
            )
    return Source(root, ignore, files, size)


def python_path() -> str:
    """What PYTHONPATH a step's process needs to import what this one can: the given one, and this package if it is not
    installed."""
    parent = os.path.dirname(_PACKAGE)
    installed = {
        os.path.realpath(path) for path in (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"])
    }
    installed |= {os.path.realpath(path) for path in [*site.getsitepackages(), site.getusersitepackages()]}
    given = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if os.path.realpath(parent) not in {*installed, *map(os.path.realpath, given)}:
        given.append(parent)
    return os.pathsep.join(given)

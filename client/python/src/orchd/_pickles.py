"""Which Python wrote a pickle: said behind its end, where no reader looks. A reader of another minor version that
cannot make anything of it names both."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

from .errors import Refused

_MARK = b"\norchd: written by Python "
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def sign(path: pathlib.Path) -> None:
    with path.open("ab") as file:
        file.write(_MARK + HERE.encode() + b"\n")


def writer_of(path: pathlib.Path) -> str:
    """As `3.11`; empty: it does not say."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 64))
        _, mark, version = file.read().rpartition(_MARK)
    return version.decode("ascii", "replace").strip() if mark else ""


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """Raises Refused (PYTHON_DIFFERS) instead of what the pickle raises, if another version has written it."""
    try:
        yield
    except Exception as fault:
        written = writer_of(path)
        if written in ("", HERE):
            raise
        raise Refused(
            "PYTHON_DIFFERS",
            f"an object that was pickled by Python {written} cannot be read by Python {HERE} "
            f"({type(fault).__name__}: {fault}): run both steps with one version, or pass it as a type that does not "
            "depend on it, such as numbers, text, JSON, an array or a table",
        ) from fault

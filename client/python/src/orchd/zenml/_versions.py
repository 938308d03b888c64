"""Which ZenML this flavor is for. Its orchestrators' contract changes with minor versions."""

from __future__ import annotations

OLDEST, BEFORE = (0, 97), (0, 99)


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def check() -> None:
    """Raises ImportError, with the range, if ZenML is not there or is of another version."""
    from importlib import metadata

    wanted = f"zenml>={_text(OLDEST)},<{_text(BEFORE)}"
    try:
        found = metadata.version("zenml")
    except metadata.PackageNotFoundError:
        raise ImportError(f"orchd.zenml needs ZenML, which is not installed here: pip install '{wanted}'") from None
    parts = found.split(".")
    if not OLDEST <= (int(parts[0]), int(parts[1])) < BEFORE:
        raise ImportError(
            f"orchd.zenml works with {wanted}, and ZenML {found} is installed here: pip install '{wanted}'"
        )

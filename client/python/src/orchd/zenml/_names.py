"""Names of ZenML as names of orchd, which has fewer characters for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_MOST = 200


def fitting(name: str, dots: bool = False) -> str:
    """Letters, digits, `_ -` (and `.`); begins with a letter or digit."""
    text = re.sub(r"[^A-Za-z0-9_.-]" if dots else r"[^A-Za-z0-9_-]", "_", name).lstrip("_.-")[:_MOST]
    return text or "unnamed"


def of_step(name: str) -> str:
    """It follows from the step's name alone, whatever other steps there are. One that has to be another is marked by a
    digest of what it was."""
    text = fitting(name)
    if text == name and name != "params":
        return text
    return f"{text[: _MOST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def distinct(names: Iterable[str]) -> dict[str, str]:
    """Of each output or input of a step its name in orchd, no two alike, also not as names of variables."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        base = candidate = fitting(name)
        number = 2
        while candidate.upper().replace("-", "_") in used:
            candidate = f"{base[: _MOST - 8]}-{number}"
            number += 1
        used.add(candidate.upper().replace("-", "_"))
        found[name] = candidate
    return found

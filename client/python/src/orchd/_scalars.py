"""Scalars: the YAML 1.2 core schema, durations and sizes."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_EXACT = 2**53  # integers are exact as JSON numbers up to this
_MAX_SECONDS = 315_576_000_000  # as google.protobuf.Duration
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_SECONDS: dict[str, int | Fraction] = {"ms": Fraction(1, 1000), "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: dict[str, int | Fraction] = {"": 1} | {
    letter + unit: base**power
    for power, letter in enumerate("KMGT", start=1)
    for unit, base in (("", 1000), ("B", 1000), ("i", 1024))
}


class Duration(NamedTuple):
    seconds: int
    nanos: int


def type_of(text: str, tag: str) -> str | None:
    """`null`, `bool`, `int`, `float` or `text`; None if the tag demands what the text is not."""
    if tag == "text":
        return "text"
    if text in ("", "~", "null", "Null", "NULL"):
        plain = "null"
    elif text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        plain = "bool"
    elif _INT.fullmatch(text):
        plain = "int"
    else:
        plain = "float" if _FLOAT.fullmatch(text) else "text"
    if tag == "float" and plain == "int":
        return "float"
    return plain if tag in ("plain", plain) else None


def read_int(text: str) -> int | None:
    """None beyond 64 bits."""
    if len(text) > 30:
        text = re.sub(r"^([-+]?(?:0[xo])?)0+(?=.)", r"\1", text)
        if len(text) > 30:
            return None
    value = int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    return value if -(2**63) <= value < 2**63 else None


def read_float(text: str) -> float:
    if text[:2] in ("0x", "0o"):
        return float(read_int(text) or 0)
    lower = text.lower()
    if lower.endswith((".inf", ".nan")):
        return float(lower.replace(".", ""))
    return float(text)


def _amount(text: str, units: dict[str, int | Fraction]) -> Fraction | None:
    found = _AMOUNT.fullmatch(text)
    if found is None or found.group(2) not in units or len(text) > 60:
        return None
    return Fraction(found.group(1)) * units[found.group(2)]


def read_duration(text: str) -> Duration | None:
    """`500ms 10s 5m 2h 1d`, also with a fraction. None: not of that form, or beyond 10,000 years."""
    seconds = _amount(text, _SECONDS)
    if seconds is None or seconds > _MAX_SECONDS or (seconds * 10**9).denominator != 1:
        return None
    return Duration(int(seconds), int(seconds * 10**9 % 10**9))


def read_size(text: str) -> int | None:
    """Bytes: a number, or one followed by K M G T KB … (of 1000) or Ki … (of 1024). None: not of that form, or no
    whole bytes."""
    size = _amount(text, _BYTES)
    return None if size is None or size.denominator != 1 or size >= 2**63 else int(size)

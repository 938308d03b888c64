"""Functions of steps that pipelines get without writing them."""

from __future__ import annotations

from typing import Any


def items(values: list[Any]) -> list[Any]:
    """A list that is a parameter, as an output that a fan-out can read."""
    return list(values)

"""A pipeline whose function has been run."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import _places
from ._graph import Graph
from .errors import Violation


@dataclasses.dataclass(frozen=True)
class Built:
    """A pipeline as it is submitted."""

    spec: dict[str, Any]
    source: _places.Source
    graph: Graph
    returned: Any
    isolation: str = "worker"  # of steps that say nothing

    def place(self, fault: Violation) -> Violation:
        """With the file and line of the call that made the step."""
        number = fault.field.partition("steps[")[2].partition("]")[0]
        if not number.isdigit() or int(number) >= len(self.graph.calls):
            return fault
        call = self.graph.calls[int(number)]
        field = f"step `{call.name}`" + fault.field.partition("]")[2].replace(".", ", ", 1)
        return dataclasses.replace(fault, field=field, file=call.place[0], line=call.place[1], column=1)

"""Lists of runs, steps, artifacts or events as pandas tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

_INDEX = {"Run": "name", "Step": "name", "Artifact": "id", "Event": "sequence", "Attempt": "number"}


def table(things: Iterable[Any]) -> Any:
    """A pandas.DataFrame with a column for each field, and the name (or id) as its index:
    `orchd.table(client.list_runs("pipeline=train"))`. Parameters become columns `parameters.folds`; a run has `seconds`
    too. Needs pandas."""
    import pandas

    rows = [_row(thing) for thing in things]
    frame = pandas.DataFrame(rows)
    first = next((row["_index"] for row in rows), None)
    return frame.set_index(first).drop(columns="_index") if first else frame


def _row(thing: Any) -> dict[str, Any]:
    thing = getattr(thing, "info", thing)  # a PipelineRun, a StepView
    if not dataclasses.is_dataclass(thing):
        raise TypeError(f"a {type(thing).__name__} is none of the things that calls answer")
    row: dict[str, Any] = {}
    for field in dataclasses.fields(thing):
        value = getattr(thing, field.name)
        if field.name in ("parameters", "item", "run_metadata", "labels") and isinstance(value, Mapping):
            row.update({f"{field.name}.{key}": one for key, one in value.items()})
        elif not isinstance(value, (Mapping, tuple)):
            row[field.name] = value
    start, end = row.get("start_time"), row.get("end_time")
    if "start_time" in row:
        row["seconds"] = (end - start).total_seconds() if start and end else None
    row["_index"] = _INDEX.get(type(thing).__name__, "")
    return row

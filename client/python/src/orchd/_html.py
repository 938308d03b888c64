"""A run in a notebook: its graph with states, in one piece of HTML without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Protocol

from ._graph import producer_of
from .errors import OrchdError
from .types import Run, Step

if TYPE_CHECKING:
    from .client import Client

_COLORS = {
    "SUCCEEDED": "#2e7d32", "CACHED": "#00838f", "FAILED": "#c62828", "CANCELLED": "#ef6c00", "SKIPPED": "#9e9e9e",
    "RUNNING": "#1565c0", "BACKOFF": "#f9a825", "STOPPING": "#ef6c00",
}  # fmt: skip
_IDLE = "#bdbdbd"
_MOST_STEPS = 300
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 150, 34, 50, 14


class Shown(Protocol):
    """What is asked of a run."""

    client: Client

    @property
    def id(self) -> str: ...

    @property
    def info(self) -> Run: ...

    @property
    def url(self) -> str: ...


def _levels(names: list[str], edges: list[tuple[str, str]]) -> dict[str, int]:
    """The longest way from a step that needs nothing."""
    level = dict.fromkeys(names, 0)
    for _ in names:
        changed = False
        for before, after in edges:
            if level[after] < level[before] + 1 <= len(names):
                level[after] = level[before] + 1
                changed = True
        if not changed:
            break
    return level


def _edges(run: Shown, names: list[str]) -> list[tuple[str, str]]:
    """From the pipeline as the daemon has it."""
    client, info = run.client, run.info
    request = client._request("GetPipelineRequest", name=info.pipeline, version=info.pipeline_version)
    try:
        steps = client._call("PipelineService.GetPipeline", request).pipeline.steps
    except OrchdError:
        return []
    known = set(names)
    found: dict[tuple[str, str], None] = {}
    for step in steps:
        sources = [getattr(one, "from") for one in [*step.inputs.values(), *step.foreach] if one.HasField("from")]
        for source in [*map(producer_of, sources), *step.after]:
            if {source, step.name} <= known:
                found[source, step.name] = None
    return list(found)


def _graph(run: Shown, names: list[str], states: dict[str, str]) -> str:
    edges = _edges(run, names)
    levels = _levels(names, edges)
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for name in names:
        column = levels[name]
        row = rows[column] = rows.get(column, -1) + 1
        place[name] = (10 + column * (_WIDTH + _GAP_X), 10 + row * (_HEIGHT + _GAP_Y))
    width = 20 + (max(rows, default=0) + 1) * (_WIDTH + _GAP_X) - _GAP_X
    height = 20 + (max(rows.values(), default=0) + 1) * (_HEIGHT + _GAP_Y) - _GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
    ]
    for before, after in edges:
        (x1, y1), (x2, y2) = place[before], place[after]
        x1, y1, y2 = x1 + _WIDTH, y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
        bend = (x2 - x1) // 2
        parts.append(
            f'<path d="M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}" '
            'fill="none" stroke="#888" stroke-width="1.2"/>'
        )
    for name in names:
        x, y = place[name]
        color = _COLORS.get(states[name].split(" ")[0], _IDLE)
        short = name if len(name) <= 20 else name[:19] + "…"
        parts.append(
            f'<g><title>{escape(name)}: {escape(states[name])}</title><rect x="{x}" y="{y}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" rx="6" fill="white" stroke="{color}" stroke-width="2"/>'
            f'<circle cx="{x + 14}" cy="{y + _HEIGHT // 2}" r="5" fill="{color}"/>'
            f'<text x="{x + 26}" y="{y + _HEIGHT // 2 + 4}" fill="#333">{escape(short)}</text></g>'
        )
    return "".join(parts) + "</svg>"


def _state_of(steps: list[Step], name: str) -> str:
    instances = [step for step in steps if step.name != name] or steps
    counts: dict[str, int] = {}
    for step in instances:
        counts[step.state] = counts.get(step.state, 0) + 1
    worst = next((s for s in ("FAILED", "CANCELLED", "RUNNING", "BACKOFF") if s in counts), instances[0].state)
    return worst if len(instances) == 1 else f"{worst} ({', '.join(f'{n} {s}' for s, n in counts.items())})"


def page_of(run: Shown) -> str:
    """Escaped: names and messages are other people's."""
    info = run.info
    steps = run.client.list_steps(run.id)
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(step.template_name or step.name, []).append(step)
    names = list(groups)[:_MOST_STEPS]
    states = {name: _state_of(groups[name], name) for name in names}
    color = _COLORS.get(info.state, _IDLE)
    name = escape(info.name)
    link = (
        f'<a href="{escape(run.url)}" target="_blank">{name}</a>'
        if run.url.startswith(("http://", "https://"))
        else name
    )
    more = f"<p>and {len(groups) - len(names)} more steps</p>" if len(groups) > len(names) else ""
    message = f"<p>{escape(info.message)}</p>" if info.message else ""
    return (
        f'<div><b>{link}</b> <span style="color:{color}">{escape(info.state)}</span>{message}'
        f'<div style="overflow:auto">{_graph(run, names, states)}</div>{more}</div>'
    )

"""What a pipeline's function makes while it runs: calls of steps, and handles of what they will have."""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from . import _cells
from ._plain import NoPlainData, to_plain
from .errors import Refused
from .serializers import Kind

_HERE = os.path.dirname(os.path.abspath(__file__))
MOST_ARGUMENT_BYTES = 100_000  # of one step, as written into its command; the kernel takes 128 KiB


def call_site() -> tuple[str, int]:
    """The file and line of the first frame that is not this package's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == _HERE:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _jq_name(name: str) -> str:
    return f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f".{json.dumps(name)}"


class Expression:
    """Something whose value is known only while the run goes on. Comparing it makes a condition for `when`."""

    __slots__ = ()
    _what = "this"

    def jq(self) -> str:
        raise NotImplementedError

    def sources(self) -> list[Output]:
        """The outputs that it looks at."""
        return []

    def _compare(self, operator: str, other: Any) -> Condition:
        return Condition(f"{self.jq()} {operator} {_jq(other)}", [*self.sources(), *_sources(other)])

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Condition:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Condition:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Condition:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Condition:
        return self._compare(">=", other)

    def __hash__(self) -> int:
        return id(self)

    def _not_yet(self, use: str) -> NoReturn:
        raise TypeError(
            f"{self._what} has no value while the pipeline is built, so {use}: give it to a step, "
            "or compare it in `when`"
        )

    def __bool__(self) -> bool:  # noqa: PLE0304
        self._not_yet("`if`, `and`, `or` and `not` cannot look at it")

    def __len__(self) -> int:  # noqa: PLE0303
        self._not_yet("its length is not known")

    def __index__(self) -> int:  # noqa: PLE0305
        self._not_yet("`range` cannot count to it")

    def __str__(self) -> str:  # noqa: PLE0307
        self._not_yet("it cannot become text")

    def __format__(self, spec: str) -> str:
        self._not_yet("it cannot become text")


def _jq(value: Any) -> str:
    if isinstance(value, Call):
        value = value.output
    if isinstance(value, Expression):
        return value.jq()
    try:
        return json.dumps(to_plain(value))
    except NoPlainData as fault:
        raise TypeError(f"cannot compare with this: {fault}") from None


def _sources(value: Any) -> list[Output]:
    if isinstance(value, Call):
        value = value.output
    return value.sources() if isinstance(value, Expression) else []


class Condition:
    """For `when`. Conditions are joined with `&` and `|` and turned round with `~`."""

    __slots__ = ("outputs", "text")

    def __init__(self, text: str, outputs: list[Output]) -> None:
        self.text = text
        self.outputs = outputs

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"({self.text}) and ({other.text})", self.outputs + other.outputs)

    def __or__(self, other: Condition) -> Condition:
        return Condition(f"({self.text}) or ({other.text})", self.outputs + other.outputs)

    def __invert__(self) -> Condition:
        return Condition(f"({self.text}) | not", self.outputs)

    def __bool__(self) -> bool:
        raise TypeError(
            "a condition is decided while the run goes on: give it to a step as `when`, and join two with `&`, `|`, `~`"
        )

    def __repr__(self) -> str:
        return f"<condition {self.text}>"


class Parameter(Expression):
    """A parameter of the pipeline, inside its function."""

    __slots__ = ("hint", "name")

    def __init__(self, name: str, hint: Any) -> None:
        self.name = name
        self.hint = hint

    @property
    def _what(self) -> str:  # type: ignore[override]
        return f"the parameter `{self.name}`"

    def jq(self) -> str:
        return f".params{_jq_name(self.name)}"

    def __iter__(self) -> Iterator[Any]:
        self._not_yet("it cannot be gone through")

    def __str__(self) -> str:  # noqa: PLE0307
        self._not_yet(f"it cannot become text (in a command write `${{params.{self.name}}}`)")

    def __format__(self, spec: str) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<parameter {self.name}>"


class Output(Expression):
    """What a step will have made."""

    __slots__ = ("call", "kind", "name", "path")

    def __init__(self, call: Call, name: str, kind: Kind, path: tuple[Any, ...] = ()) -> None:
        self.call = call
        self.name = name
        self.kind = kind
        self.path = path  # into its JSON

    @property
    def _what(self) -> str:  # type: ignore[override]
        return f"the output `{self.name}` of the step `{self.call.name}`"

    def __getitem__(self, key: str | int) -> Output:
        if not isinstance(key, (str, int)):
            raise TypeError(f"{self._what} has parts by name or number, not by {key!r}")
        return Output(self.call, self.name, self.kind, (*self.path, key))

    def __iter__(self) -> Iterator[Any]:
        self._not_yet("it cannot be gone through: `step.map(...)` makes a step of each item")

    def jq(self) -> str:
        if self.call.mapped:
            raise TypeError(
                f"{self._what} is a list of all items' values: write the condition as text, such as "
                f"'[.{self.call.name}[].{self.name}] | max > 0.9'"
            )
        parts = "".join(_jq_name(key) if isinstance(key, str) else f"[{key}]" for key in self.path)
        return _jq_name(self.call.name) + _jq_name(self.name) + parts

    def sources(self) -> list[Output]:
        return [self]

    def __repr__(self) -> str:
        return f"<output {self.name} of step {self.call.name}>"


class Call:
    """A step as it was called inside a pipeline. Of a step with one output it can be used as that output; else
    outputs are `call["name"]` or `call.name`, and `a, b = call`."""

    def __init__(self, graph: Graph, name: str, outputs: Mapping[str, Kind], mapped: bool) -> None:
        self.graph = graph
        self.name = name
        self.mapped = mapped
        self.place = call_site()
        self.kinds: dict[str, Kind] = dict(outputs)
        self.indexed: set[str] = set()  # outputs of which the numbers of the items are wanted as a value too
        self.inputs: dict[str, str | dict[str, Any]] = {}
        self.foreach: dict[str, Any] = {}
        self.params: list[str] = []
        self.order: list[str] = []
        self.options: dict[str, Any] = {}
        self.in_cell: Any = None  # its function, if that is in no file
        self.command: Any = None  # words, or a function that makes them

    @property
    def output(self) -> Output:
        if len(self.kinds) != 1:
            names = ", ".join(self.kinds) or "none"
            raise TypeError(f"the step `{self.name}` has not one output (it has: {names}); name the one that is meant")
        name = next(iter(self.kinds))
        return Output(self, name, self.kinds[name])

    def __getitem__(self, key: str | int) -> Output:
        if isinstance(key, str) and key in self.kinds:
            return Output(self, key, self.kinds[key])
        return self.output[key]

    def __getattr__(self, name: str) -> Output:
        if not name.startswith("_") and name in self.__dict__.get("kinds", {}):
            return self[name]
        raise AttributeError(f"the step `{self.__dict__.get('name', '')}` has no output `{name}`")

    def __iter__(self) -> Iterator[Output]:
        if len(self.kinds) == 1:
            return iter(self.output)
        return iter([self[name] for name in self.kinds])

    def after(self, *others: Any) -> Call:
        """It starts after these have ended, without data."""
        self.order += [name for name in map(step_name, others) if name not in self.order]
        return self

    def __eq__(self, other: object) -> Any:
        return self.output == other

    def __ne__(self, other: object) -> Any:
        return self.output != other

    def __lt__(self, other: Any) -> Condition:
        return self.output._compare("<", other)

    def __le__(self, other: Any) -> Condition:
        return self.output._compare("<=", other)

    def __gt__(self, other: Any) -> Condition:
        return self.output._compare(">", other)

    def __ge__(self, other: Any) -> Condition:
        return self.output._compare(">=", other)

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        raise TypeError(f"the step `{self.name}` has not run while the pipeline is built: compare its output in `when`")

    def __str__(self) -> str:
        raise TypeError(f"the step `{self.name}` has no value while the pipeline is built: give it to a step")

    def __format__(self, spec: str) -> str:
        return str(self)  # which refuses

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    # What becomes of it

    def want_value(self, output: str, why: str) -> None:
        """The daemon has to see it."""
        kind = self.kinds[output].as_value()
        if kind is None:
            raise Refused(
                "VALUE_NEEDED",
                f"the output `{output}` of the step `{self.name}` is kept as `{self.kinds[output].word}`, which {why} "
                "cannot look at: return a number, text, list or mapping beside it",
            )
        self.kinds[output] = kind

    def spec(self) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        publish = self.options.get("publish") or {}
        if isinstance(publish, str):
            publish = {self.output.name: publish}
        for name in publish:
            if name not in self.kinds:
                raise Refused("PUBLISH_INVALID", f"the step `{self.name}` has no output `{name}` to publish")
        for name, kind in self.kinds.items():
            outputs[name] = {"type": kind.type} | ({"value": True} if kind.value else {})
            if name in publish:
                outputs[name]["as"] = publish[name]
            if name in self.indexed:
                outputs[f"{name}-items"] = {"value": True}
        out = {"name": self.name, "command": self.command() if callable(self.command) else self.command}
        parts = {"inputs": self.inputs, "outputs": outputs, "foreach": self.foreach, "params": self.params}
        out.update({field: value for field, value in parts.items() if value})
        if self.order:
            out["after"] = self.order
        out.update({field: value for field, value in self.options.items() if field not in ("publish", "isolation")})
        return out


def step_name(value: Any) -> str:
    if isinstance(value, Call):
        return value.name
    if isinstance(value, Output):
        return value.call.name
    raise TypeError(f"{value!r} is no call of a step of this pipeline")


class Graph:
    """The steps of one pipeline while its function runs."""

    def __init__(self, name: str, root: str) -> None:
        self.name = name
        self.root = root  # the folder of code
        self.calls: list[Call] = []
        self.by_name: dict[str, Call] = {}
        self._cells: dict[str, _cells.Gathered] = {}  # by the call's name
        self._gathered: dict[Any, _cells.Gathered] = {}
        self.keys: dict[str, str] = {}  # what is mapped over, by the fan-out's key

    def cells_of(self, call: Call) -> _cells.Gathered:
        """The code of a step that is in no file, with the classes of those before it: it may read their objects."""
        if call.name not in self._cells:
            before = {producer_of(source) for source in call.inputs.values()}
            before |= {producer_of(source) for source in call.foreach.values() if isinstance(source, dict)}
            calls = [self.by_name[name] for name in sorted(before) if name in self.by_name]
            classes = frozenset().union(*(self.cells_of(one).classes for one in calls if one.in_cell is not None))
            assert call.in_cell is not None
            same = call.in_cell, classes
            self._gathered[same] = self._gathered.get(same) or _cells.gather(call.in_cell, classes)
            self._cells[call.name] = self._gathered[same]
        return self._cells[call.name]

    def free_name(self, wanted: str) -> str:
        wanted = wanted.strip("_") or "step"
        number, name = 1, wanted
        while name in self.by_name or name == "params":
            number += 1
            name = f"{wanted}-{number}"
        return name

    def add(self, name: str, outputs: Mapping[str, Kind], mapped: bool = False) -> Call:
        call = Call(self, name, outputs, mapped)
        self.calls.append(call)
        self.by_name[name] = call
        return call

    def key(self, wanted: str, content: Any) -> str:
        """The key of a fan-out: two over the same list have the same one, so that their items belong together."""
        text = json.dumps(content, sort_keys=True)
        number, name = 1, wanted
        while self.keys.setdefault(name, text) != text:
            number += 1
            name = f"{wanted}-{number}"
        return name

    def own(self, output: Output) -> Output:
        if output.call.graph is not self:
            raise Refused(
                "OTHER_PIPELINE", f"{output!r} was made for another pipeline: call the step in this one's function"
            )
        return output

    def apply_when(self, call: Call, when: Any) -> None:
        if isinstance(when, Condition):
            text, outputs = when.text, when.outputs
        elif isinstance(when, Expression):
            text, outputs = when.jq(), when.sources()
        elif isinstance(when, Call):
            text, outputs = when.output.jq(), [when.output]
        elif isinstance(when, str):
            text, outputs = when, self._named_in(when, call)
        else:
            raise Refused("WHEN_INVALID", f"`when` of the step `{call.name}` is {when!r}: compare outputs, or give jq")
        feeding = {producer_of(source) for source in call.inputs.values()}
        for output in outputs:
            self.own(output).call.want_value(output.name, "a condition")
            if output.call.name not in feeding:
                call.after(output.call)
        call.options["when"] = text

    def _named_in(self, text: str, but: Call) -> list[Output]:
        found = []
        for other in self.calls:
            for output in other.kinds:
                path = re.escape(_jq_name(other.name)) + r"(\[[^\]]*\])?" + re.escape(_jq_name(output)) + r"(?![\w-])"
                if other is not but and re.search(path, text):
                    found.append(Output(other, output, other.kinds[output]))
        return found


def producer_of(source: str | dict[str, Any]) -> str:
    text = source if isinstance(source, str) else str(source.get("from", ""))
    return text.split(".", 1)[0].split("[", 1)[0]


_current: contextvars.ContextVar[Graph | None] = contextvars.ContextVar("orchd_graph", default=None)


def current_graph() -> Graph | None:
    return _current.get()


@contextlib.contextmanager
def building(graph: Graph) -> Iterator[Graph]:
    token = _current.set(graph)
    try:
        yield graph
    finally:
        _current.reset(token)

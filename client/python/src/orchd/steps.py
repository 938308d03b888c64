"""`@step`: a function with type hints as a step of pipelines; and commands as steps."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Callable, Union, overload

from . import _builtin_steps, _cells, _places
from ._graph import MOST_ARGUMENT_BYTES, Call, Graph, Output, Parameter, current_graph
from ._plain import NoPlainData, is_class, stays_the_same, strip, to_plain
from .errors import Refused
from .serializers import CannotSerialise, Kind, kind_of

_RESOURCES = ("cpu", "memory", "disk", "gpu", "custom")
# As the fields of a step in YAML; what they hold is checked with all others when the pipeline is read.
_FIELDS = frozenset({
    "trigger_rule", "retry", "timeout", "resources", "cache", "image", "working_dir", "env", "secrets", "priority",
    "pools", "orchestrator", "settings", "labels", "hooks", "heartbeat",
})  # fmt: skip
_MERGED = ("resources", "retry", "env", "labels")  # an option of these adds to what the step has
_OWN = frozenset({"name", "retries", "when", "after", "publish", "isolation", *_RESOURCES})
_ISOLATIONS = ("worker", "process")


class Fixed:
    """The same for every item of a `map`."""

    def __init__(self, value: Any) -> None:
        self.value = value


def fixed(value: Any) -> Any:
    """In `step.map(...)`: a list, or a step's result, that every item gets whole instead of being mapped over."""
    return Fixed(value)


def normal_options(options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The short forms resolved. Raises Refused for a word that is none."""
    unknown = sorted(set(options) - _FIELDS - _OWN)
    if unknown:
        known = ", ".join(sorted(_FIELDS | _OWN))
        raise Refused("OPTION_UNKNOWN", f"{what} has no option `{unknown[0]}`; there are: {known}")
    out = {name: value for name, value in options.items() if value is not None}
    if out.get("isolation", "worker") not in _ISOLATIONS:
        raise Refused(
            "ISOLATION_INVALID",
            f"{what} has the isolation {out['isolation']!r}; there are: worker (a fork of a process that has imported "
            "its file, where that is as good as a fresh one) and process (a fresh one)",
        )
    if "retries" in out:
        out["retry"] = {"max_attempts": out.pop("retries") + 1, **out.get("retry", {})}
    if isinstance(out.get("cache"), bool):
        out["cache"] = {"enabled": out["cache"]}
    if isinstance(out.get("timeout"), timedelta):
        out["timeout"] = f"{round(out['timeout'].total_seconds() * 1000)}ms"
    elif isinstance(out.get("timeout"), (int, float)):
        out["timeout"] = f"{round(out['timeout'] * 1000)}ms"
    needs = {name: out.pop(name) for name in _RESOURCES if name in out}
    if needs:
        out["resources"] = {**out.get("resources", {}), **needs}
    return out


def _apply(graph: Graph, call: Call, options: Mapping[str, Any]) -> None:
    plain = dict(options)
    after, when = plain.pop("after", ()), plain.pop("when", None)
    plain.pop("name", None)
    call.options.update(plain)
    call.after(*([after] if isinstance(after, (Call, Output)) else after))
    if when is not None:
        graph.apply_when(call, when)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations; one that cannot be found out (a name only for type checkers) says nothing."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        found = {}
        for name, hint in getattr(function, "__annotations__", {}).items():
            try:
                found[name] = eval(hint, function.__globals__) if isinstance(hint, str) else hint  # noqa: S307  their own
            except Exception:
                found[name] = Any
        return found


def _named(hint: Any) -> str:
    return next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, str)), "")


class StepFunction:
    """A function that is a step where it is called inside a pipeline, and itself anywhere else."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any], outputs: Sequence[str] = ()) -> None:
        what = f"the step `{getattr(function, '__name__', function)}`"
        if not callable(function) or isinstance(function, type) or not hasattr(function, "__code__"):
            raise Refused("STEP_INVALID", f"{what} is no function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise Refused("STEP_INVALID", f"{what} is a generator: return a list of what it yields instead")
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = inspect.signature(function)
        for parameter in self.signature.parameters.values():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise Refused("STEP_INVALID", f"{what} takes `{parameter.name}` by position only: take out the `/`")
        self._options = normal_options(options, what)
        self._output_names = tuple(outputs)

    def options(self, **options: Any) -> StepFunction:
        """The same step with other options: `train.options(retries=3, when=score > 0.9)(data)`."""
        given = normal_options(options, f"the step `{self.function.__name__}`")
        for name in _MERGED:
            if name in given and name in self._options:
                given[name] = {**self._options[name], **given[name]}
        return StepFunction(self.function, {**self._options, **given}, self._output_names)

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        return _hints(self.function)

    @functools.cached_property
    def outputs(self) -> dict[str, Kind]:
        """By name, in the order of what the function returns."""
        hint = self.hints.get("return", Any)
        plain, marks = strip(hint), _named(hint)
        if is_class(plain) and issubclass(plain, tuple) and hasattr(plain, "_fields"):
            fields = _hints(plain)
            return self._kinds([(name, fields.get(name, Any)) for name in plain._fields])
        parts = typing.get_args(plain) if typing.get_origin(plain) is tuple else ()
        if parts and parts[-1] is not ...:
            names = self._output_names or tuple(map(_named, parts))
            if len(names) == len(parts) and all(names):
                return self._kinds(list(zip(names, parts)))
        if len(self._output_names) > 1 or (self._output_names and parts):
            if parts:
                raise Refused(
                    "STEP_INVALID",
                    f"the step `{self.function.__name__}` names {len(self._output_names)} outputs "
                    f"and returns {len(parts)}",
                )
            return self._kinds([(name, Any) for name in self._output_names])
        return self._kinds([((self._output_names or (marks or "output",))[0], hint)])

    def _kinds(self, parts: list[tuple[str, Any]]) -> dict[str, Kind]:
        kinds = {name: kind_of(hint) for name, hint in parts}
        if len(kinds) == 1:
            return {name: kind for name, kind in kinds.items() if kind is not None}
        return {name: kind or Kind("json") for name, kind in kinds.items()}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graph = current_graph()
        if graph is None:
            return self.function(*args, **kwargs)
        return _StepBuilder(self, graph, self._options).build(self._bind(args, kwargs), frozenset())

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """One instance for each item: of a list (several: of each combination), of the list that a step makes, or of
        another `map` (item by item). Single values, texts and mappings are the same for all, as are results that are
        annotated as something other than a list, and what is `fixed`.

        Outside a pipeline it is a list of the function's results."""
        graph = current_graph()
        bound = self._bind(args, kwargs)
        if graph is None:
            return self._map_here(bound)
        bound = {name: _items_of(graph, value) if _is_list(value) else value for name, value in bound.items()}
        mapped = frozenset(name for name, value in bound.items() if _is_mapped(value))
        if not mapped:
            raise TypeError(
                f"`{self.function.__name__}.map` has no list to go over; a parameter or a result that is one is "
                "annotated so"
            )
        plain = {name: value.value if isinstance(value, Fixed) else value for name, value in bound.items()}
        return _StepBuilder(self, graph, self._options).build(plain, mapped)

    def _map_here(self, bound: Mapping[str, Any]) -> list[Any]:
        import itertools

        lists = {name: list(value) for name, value in bound.items() if _is_mapped(value)}
        same = {name: v.value if isinstance(v, Fixed) else v for name, v in bound.items() if name not in lists}
        return [self.function(**same, **dict(zip(lists, one))) for one in itertools.product(*lists.values())]

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as fault:
            raise TypeError(f"step `{self.function.__name__}`: {fault}") from None
        flat: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                flat.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                raise TypeError(f"step `{self.function.__name__}`: `*{name}` cannot be given; take a list instead")
            else:
                flat[name] = value
        return flat

    def __repr__(self) -> str:
        return f"<step function {self.function.__module__}.{self.function.__qualname__}>"


def _is_mapped(value: Any) -> bool:
    if isinstance(value, Call) and not value.mapped and len(value.kinds) == 1:
        value = value.output
    if isinstance(value, Output):
        return value.call.mapped or bool(value.path) or _may_be_list(value.kind.hint)
    return isinstance(value, (list, tuple, range, set, frozenset, Call))


def _may_be_list(hint: Any) -> bool:
    hint = strip(hint)
    made_of = typing.get_origin(hint) or hint
    if made_of is Any or not isinstance(made_of, type):  # `Any` is a class from Python 3.11 on
        return True
    return issubclass(made_of, (list, tuple, set, frozenset)) or issubclass(list, made_of)


def _is_list(value: Any) -> bool:
    hint = strip(value.hint) if isinstance(value, Parameter) else None
    return (typing.get_origin(hint) or hint) in (list, tuple, set)


def _items_of(graph: Graph, parameter: Parameter) -> Call:
    """A step that makes an output of a parameter, since a fan-out reads only those; one for each."""
    name = f"items-of-{parameter.name}"
    call = graph.by_name.get(name)
    if call is None:
        call = StepFunction(_builtin_steps.items, {"name": name})(parameter)
        inner = typing.get_args(strip(parameter.hint))
        call.kinds["output"] = Kind("json", hint=list[inner[0]] if inner else list)  # type: ignore[valid-type]
    return call


class _StepBuilder:
    """Makes one call: where each argument comes from, as the step's process will read it."""

    def __init__(self, step: StepFunction, graph: Graph, options: Mapping[str, Any]) -> None:
        self.step = step
        self.graph = graph
        self.options = options
        self.items: dict[str, str] = {}  # by key: how an item is written into the command
        self.call: Call

    def build(self, bound: Mapping[str, Any], mapped: frozenset[str]) -> Call:
        step = self.step
        name = self.graph.free_name(self.options.get("name") or step.function.__name__)
        self.call = self.graph.add(name, step.outputs, mapped=bool(mapped))
        arguments = {
            name: self._mapped(name, value) if name in mapped else self.template(value, name, name)
            for name, value in bound.items()
        }
        _apply(self.graph, self.call, self.options)
        target = _places.relative(_places.target_of(step.function), self.graph.root)
        if target.startswith(_cells.PLACE):
            self.call.in_cell = step.function
        self.call.command = lambda: self._command(target, arguments)
        return self.call

    def _command(self, target: str, arguments: dict[str, Any]) -> list[str]:
        call = self.call
        payload: dict[str, Any] = {
            "args": arguments,
            "outputs": {name: kind.to_json() for name, kind in call.kinds.items()},
        }
        if self.items:
            payload["items"] = self.items
        if target.startswith(_cells.PLACE):
            payload["cells"] = self.graph.cells_of(call).text
        if call.indexed:
            payload["indexed"] = sorted(call.indexed)
        self._final_kinds(arguments)
        text = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).replace("$", "$$")
        if len(text.encode()) > MOST_ARGUMENT_BYTES:
            of_cells = " and cells" if "cells" in payload else ""
            raise Refused(
                "ARGUMENTS_TOO_LARGE",
                f"the arguments{of_cells} of the step `{call.name}` take {len(text.encode())} bytes, at most "
                f"{MOST_ARGUMENT_BYTES} are written into a pipeline: make the large one in a step, or read a file",
            )
        return [
            sys.executable or "python3",
            "-m",
            "orchd.run_step",
            target,
            text,
            *(f"{key}=${{item.{key}}}" for key in self.items),
        ]

    def _final_kinds(self, arguments: Any) -> None:
        """What an input is kept as is known only when all calls have been made."""
        if isinstance(arguments, dict):
            source = arguments.get("of")
            if isinstance(source, list):
                arguments["t"] = self.graph.by_name[source[0]].kinds[source[1]].to_json()
                del arguments["of"]
            for value in arguments.values():
                self._final_kinds(value)
        elif isinstance(arguments, list):
            for value in arguments:
                self._final_kinds(value)

    # Arguments

    def template(self, value: Any, where: str, name: str) -> Any:
        if isinstance(value, Call):
            value = value.output
        if isinstance(value, Output):
            return self._input(value, name)
        if isinstance(value, Parameter):
            if value.name not in self.call.params:
                self.call.params.append(value.name)
            return {"p": value.name}
        if isinstance(value, Fixed):
            return self.template(value.value, where, name)
        if isinstance(value, (list, tuple)) and _has_handles(value):
            return {"l": [self.template(item, f"{where}[{n}]", f"{name}-{n}") for n, item in enumerate(value)]}
        if isinstance(value, Mapping) and _has_handles(value):
            return {
                "d": {
                    str(key): self.template(item, f"{where}[{key!r}]", f"{name}-{n}")
                    for n, (key, item) in enumerate(value.items())
                }
            }
        return {"c": self._plain(value, where)}

    def _plain(self, value: Any, where: str) -> Any:
        if inspect.isgenerator(value):
            raise self._cannot(where, "is a generator: give a list")
        try:
            return to_plain(value)
        except NoPlainData as fault:
            raise self._cannot(where + fault.where, fault.why) from None

    def _cannot(self, where: str, why: str) -> CannotSerialise:
        return CannotSerialise(
            "CANNOT_SERIALISE",
            f"the argument `{where}` of the step `{self.call.name}` {why}; it cannot be written into a pipeline: "
            "make it in a step and hand over that step's result",
        )

    def _input(self, output: Output, name: str, item: str = "") -> dict[str, Any]:
        self.graph.own(output)
        call, path = output.call, output.path
        many = "[*]" if call.mapped and not item else item
        source = f"{call.name}{many}.{output.name}"
        known = {text if isinstance(text, str) else "": key for key, text in self.call.inputs.items()}
        key = known.get(source) or self._free_input(name)
        self.call.inputs[key] = source
        out: dict[str, Any] = {"f" if many == "[*]" else "i": key, "of": [call.name, output.name]}
        if path:
            out["g"] = list(path)
        return out

    def _free_input(self, name: str) -> str:
        taken = {key.upper().replace("-", "_") for key in self.call.inputs}
        number, key = 1, name.strip("_") or "value"
        while key.upper().replace("-", "_") in taken:
            number += 1
            key = f"{name}-{number}"
        return key

    # Fan-outs

    def _mapped(self, name: str, value: Any) -> Any:
        if isinstance(value, Call):
            value = value.output
        if not isinstance(value, Output):
            return self._over_list(name, list(value))
        self.graph.own(value)
        if value.call.mapped:
            self._join(value.call)
            return self._input(value, name, item="[item]")
        if value.path:
            raise TypeError(
                f"cannot map over a part of {value!r}: return that list from a step of its own, or give it as "
                "`fixed(...)` if it is the same for all"
            )
        return self._over_output(name, value)

    def _join(self, other: Call) -> None:
        for key, values in other.foreach.items():
            self.call.foreach[key] = values

    def _over_list(self, name: str, values: list[Any]) -> Any:
        if _has_handles(values):
            raise TypeError(
                f"`{name}` maps over a list with results of steps: "
                "collect them in a step that returns a list, and map over that"
            )
        plain = [self._plain(item, f"{name}[{number}]") for number, item in enumerate(values)]
        form = "text" if plain and all(isinstance(item, str) for item in plain) else "json"
        if form == "json" and any(isinstance(item, str) for item in plain):
            form, plain = "wrapped", [{"value": item} for item in plain]
        key = self.graph.key(name.strip("_") or "item", plain)
        self.call.foreach[key] = plain
        self.items[key] = form
        return {"x": key}

    def _over_output(self, name: str, output: Output) -> Any:
        hint = strip(output.kind.hint)
        inner = (typing.get_args(hint) or (Any,))[0] if typing.get_origin(hint) is list else Any
        inner = strip(inner)
        if inner is str or (inner not in (Any, None, type(None)) and not _may_be_text(inner) and stays_the_same(inner)):
            output.call.want_value(output.name, "`map`")
            key = self.graph.key(name.strip("_") or "item", ["from", output.call.name, output.name])
            self.call.foreach[key] = {"from": f"{output.call.name}.{output.name}"}
            self.items[key] = "text" if inner is str else "json"
            return {"x": key}
        if output.kind.word not in ("list", "object", "json"):
            raise TypeError(
                f"{output!r} is kept as `{output.kind.word}`, which is no list: `map` needs `-> list[...]`; what is "
                "the same for all is given as `fixed(...)`"
            )
        output.call.indexed.add(output.name)
        items = f"{output.name}-items"
        key = self.graph.key(name.strip("_") or "item", ["from", output.call.name, items])
        self.call.foreach[key] = {"from": f"{output.call.name}.{items}"}
        self.items[key] = "json"
        return {**self._input(output, name), "n": key}


def _may_be_text(hint: Any) -> bool:
    """A text is written into the command without quotes, which must not meet JSON of the same look."""
    return hint is str or any(
        inner is str
        for inner in typing.get_args(hint)
        if typing.get_origin(hint) is not dict and typing.get_origin(hint) is not list
    )


def _has_handles(value: Any) -> bool:
    if isinstance(value, (Call, Output, Parameter, Fixed)):
        return True
    if isinstance(value, Mapping):
        return any(map(_has_handles, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_handles, value))


@overload
def step(function: Callable[..., Any]) -> StepFunction: ...
@overload
def step(*, outputs: Sequence[str] = ..., **options: Any) -> Callable[[Callable[..., Any]], StepFunction]: ...
def step(
    function: Callable[..., Any] | None = None, *, outputs: Sequence[str] = (), **options: Any
) -> StepFunction | Callable[[Callable[..., Any]], StepFunction]:
    """Makes a function a step: `@step` or `@step(cache=True, retries=2, cpu=2, memory="1Gi")`.

    Options: `name`; `retries` (or `retry` as in YAML), `timeout`, `cache`; `cpu` `memory` `disk` `gpu` `custom`;
    `when`, `after`, `trigger_rule`; `orchestrator`, `image`, `env`, `secrets`, `pools`, `priority`, `settings`,
    `labels`, `hooks`, `heartbeat`, `working_dir`; `isolation="process"` asks for a fresh process instead of
    a fork of a warm one; `publish` gives outputs names that outlive their runs. `outputs`
    names what a function with `-> tuple[...]` returns. Raises Refused.
    """
    if function is not None:
        return StepFunction(function, options, outputs)
    return lambda inner: StepFunction(inner, options, outputs)


def shell(
    name: str,
    command: str | Sequence[str],
    *,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | Iterable[str] = (),
    params: Sequence[Any] = (),
    **options: Any,
) -> Call:
    """A command as a step: a list of words, or a text for `sh`, with the templates of YAML (`${inputs.table}`,
    `${outputs.count}`, `${params.n}`). `inputs` are results of steps; `outputs` says of each what it
    will be: a type (`int`: the command writes JSON), or a word (`csv`, or `dir` for a folder)."""
    graph = current_graph()
    if graph is None:
        raise Refused("NOT_IN_A_PIPELINE", f"the command `{name}` is a step only inside a pipeline's function")
    given = outputs if isinstance(outputs, Mapping) else dict.fromkeys(outputs, "file")
    kinds = {
        key: (Kind(what, folder=what == "dir") if isinstance(what, str) else kind_of(what)) or Kind("json")
        for key, what in given.items()
    }
    for key, kind in kinds.items():
        if kind.word in ("object", "pickle", "list"):
            raise Refused(
                "OUTPUT_INVALID", f"no command can write the output `{key}` as {given[key]!r}: name its format"
            )
    call = graph.add(graph.free_name(name), kinds)
    for key, value in (inputs or {}).items():
        output = value.output if isinstance(value, Call) else value
        if not isinstance(output, Output) or output.path:
            raise TypeError(f"the input `{key}` of the command `{name}` is {value!r}, and no result of a step")
        many = "[*]" if graph.own(output).call.mapped else ""
        call.inputs[key] = f"{output.call.name}{many}.{output.name}"
    call.params = [value.name if isinstance(value, Parameter) else str(value) for value in params]
    call.command = ["sh", "-euc", command] if isinstance(command, str) else [os.fspath(word) for word in command]
    _apply(graph, call, normal_options(options, f"the command `{name}`"))
    return call


StepLike = Union[StepFunction, Call]

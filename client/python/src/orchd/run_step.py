"""A step's process: `python -m orchd.run_step TARGET PAYLOAD KEY=ITEM…`.

Finds the function, reads its arguments, calls it, and writes what it returns to the places that the daemon named. A
failure shows the user's own frames and exits with 1. Nothing here needs the daemon, gRPC or protobuf.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import inspect
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import serializers
from ._marks import FAILED, IN_STEP
from ._plain import from_plain
from .errors import OrchdError
from .serializers import Kind
from .steps import StepFunction

if TYPE_CHECKING:
    import traceback

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_ABSENT = object()


class StepFault(Exception):
    """What is wrong with the step rather than in its function; told without a traceback."""


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    name = os.path.splitext(os.path.basename(place))[0]
    path = os.path.abspath(place)
    folder = os.path.dirname(path)
    if folder not in sys.path:  # as when the file is run itself
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise StepFault(f"there is no file {place} in {os.getcwd()}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for what is pickled, and for files that import it
    spec.loader.exec_module(module)
    return module


def _find(target: str, payload: dict[str, Any]) -> StepFunction:
    place, _, name = target.rpartition(":")
    found: Any
    if "cells" in payload:
        from . import _cells

        found = _cells.load(payload["cells"])
    else:
        found = _module(place)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise StepFault(f"{place} has no function `{name}` (any more)")
    if isinstance(found, StepFunction):
        return found
    return StepFunction(found, {})


class _Arguments:
    """What the payload says, as values."""

    def __init__(self, payload: dict[str, Any], items: Sequence[str]) -> None:
        self._items: dict[str, Any] = {}
        forms = payload.get("items", {})
        for word in items:
            key, _, text = word.partition("=")
            self._items[key] = text if forms[key] == "text" else json.loads(text)
            if forms[key] == "wrapped":
                self._items[key] = self._items[key]["value"]
        self._parameters: dict[str, Any] | None = None

    def value(self, template: dict[str, Any], hint: Any) -> Any:
        if "c" in template:
            return from_plain(template["c"], hint)
        if "p" in template:
            return from_plain(self._parameter(template["p"]), hint)
        if "n" in template:
            path = _input_path(template["i"])
            if path is None:
                return _ABSENT
            word = Kind.from_json(template["t"]).type
            return serializers.load_item(word, path, self._items[template["n"]], hint)
        if "x" in template:
            return from_plain(self._items[template["x"]], hint)
        if "l" in template:
            values = [self.value(item, Any) for item in template["l"]]
            return [value for value in values if value is not _ABSENT]
        if "d" in template:
            pairs = {key: self.value(item, Any) for key, item in template["d"].items()}
            return {key: value for key, value in pairs.items() if value is not _ABSENT}
        return self._input(template, hint)

    def _parameter(self, name: str) -> Any:
        if self._parameters is None:
            with open(os.environ["ORCH_PARAMS"], encoding="utf-8") as file:
                self._parameters = json.load(file)
        return self._parameters[name]

    def _input(self, template: dict[str, Any], hint: Any) -> Any:
        many = "f" in template
        path = _input_path(template["f" if many else "i"])
        if path is None:
            return _ABSENT
        kind = Kind.from_json(template["t"])
        parts = template.get("g", [])
        if many:
            inner = _inner(hint)
            values = _fan_in(kind, path, inner if not parts else Any)
            return from_plain([_part(value, parts) for value in values], hint) if parts or kind.value else values
        if not parts:
            return serializers.load(kind.type if kind.folder else kind.word, path, hint)
        return from_plain(_part(serializers.load(kind.word, path), parts), hint)


def _inner(hint: Any) -> Any:
    arguments = getattr(hint, "__args__", ())
    return arguments[0] if arguments else Any


def _fan_in(kind: Kind, path: str, hint: Any) -> list[Any]:
    if kind.value:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        plain = {"int": int, "float": float, "bool": bool}.get(kind.word, hint)
        return [from_plain(value, plain) for value in values]
    with open(os.path.join(path, "index.json"), encoding="utf-8") as file:
        index = json.load(file)
    return [serializers.load(kind.type, os.path.join(path, entry["path"]), hint) for entry in index]


def _part(value: Any, parts: Sequence[Any]) -> Any:
    for part in parts:
        value = value[part]
    return value


def _variable(prefix: str, name: str) -> str:
    return prefix + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()


def _input_path(name: str) -> str | None:
    return os.environ.get(_variable("ORCH_INPUT_", name))


def _returned(step: StepFunction, outputs: dict[str, Any], value: Any) -> dict[str, Any]:
    """The value of each output."""
    name = step.function.__name__
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise StepFault(
            f"`{name}` returned a generator, of which nothing could be kept: return a list of what it yields"
        )
    if not outputs:
        if value is not None:
            raise StepFault(f"`{name}` is declared to return None, but returned a {type(value).__name__}")
        return {}
    if len(outputs) == 1:
        return {next(iter(outputs)): value}
    if isinstance(value, dict) and set(value) == set(outputs):
        return value
    if not isinstance(value, (tuple, list)) or len(value) != len(outputs):
        what = f"{len(value)} values" if isinstance(value, (tuple, list)) else f"a {type(value).__name__}"
        names = ", ".join(outputs)
        raise StepFault(f"`{name}` returned {what}, and has the outputs {names}")
    return dict(zip(outputs, value))


def _store(step: StepFunction, payload: dict[str, Any], value: Any) -> None:
    declared = payload["outputs"]
    for name, one in _returned(step, declared, value).items():
        kind = Kind.from_json(declared[name])
        own = step.outputs.get(name)
        if own is not None:
            kind = Kind(kind.word, kind.value, kind.folder, kind.item, own.hint)
        what = f"the output `{name}`"
        serializers.save(kind, one, os.environ[_variable("ORCH_OUTPUT_", name)], what)
        if name in payload.get("indexed", ()):
            if not isinstance(one, (list, tuple)):
                raise StepFault(f"{what} is mapped over, but is a {type(one).__name__} and no list")
            with open(os.environ[_variable("ORCH_OUTPUT_", f"{name}-items")], "w", encoding="utf-8") as file:
                json.dump(list(range(len(one))), file)


def _call(step: StepFunction, payload: dict[str, Any], items: Sequence[str]) -> Any:
    arguments = _Arguments(payload, items)
    given = {}
    for name, template in payload["args"].items():
        value = arguments.value(template, step.hints.get(name, Any))
        if value is _ABSENT:  # its producer was skipped, and the trigger rule lets the step run without
            parameter = step.signature.parameters.get(name)
            if parameter is not None and parameter.default is not parameter.empty:
                continue
            value = None
        given[name] = value
    function: Callable[..., Any] = step.function
    if inspect.iscoroutinefunction(function):
        import asyncio  # 60 ms, which most steps do without

        return asyncio.run(function(**given))
    return function(**given)


def _is_ours(file: str) -> bool:
    folder = os.path.dirname(os.path.abspath(file))
    return folder == _PACKAGE or file.startswith("<frozen ") or file == importlib.__file__


def _strip(told: traceback.TracebackException) -> None:
    """Leaves the user's frames, of causes too."""
    told.stack[:] = [frame for frame in told.stack if not _is_ours(frame.filename)]
    for inner in (told.__cause__, told.__context__):
        if inner is not None:
            _strip(inner)


def _tell(error: BaseException) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if isinstance(error, (StepFault, serializers.CannotSerialise)) and not isinstance(error.__cause__, Exception):
        text = f"{error}\n"
    else:
        import traceback

        told = traceback.TracebackException.from_exception(error)
        _strip(told)
        text = "".join(told.format())
    sys.stderr.write(f"{FAILED}{type(error).__name__}\n{text}")
    sys.stderr.flush()


def run(target: str, payload: dict[str, Any], items: Sequence[str]) -> None:
    """One step, in this process. What it raises is the user's, or a StepFault."""
    own = os.getpid()
    step = _find(target, payload)
    value = _call(step, payload, items)
    if os.getpid() != own:  # a fork of the function's came back: what it made is not the step's result
        os._exit(0)
    _store(step, payload, value)


def main(words: Sequence[str]) -> int:
    faulthandler.enable()  # a crash of native code shows where Python was
    os.environ[IN_STEP] = words[0]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # logs are read while it runs
    own = os.getpid()
    try:
        run(words[0], json.loads(words[1]), words[2:])
    except SystemExit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if os.getpid() == own:
            _tell(error)
        return 1
    return 0


__all__ = ["OrchdError", "StepFault", "main", "run"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Functions that are in no file, as those of a notebook: what of its cells a step needs, as data that travels.

A step gets the source of its function, of the functions and classes that this one uses, and of those in turn; imports;
and other globals by value, as pickle writes them. In the step's process all of that is the module `__main__`, as it is
in the notebook, so that pickled objects of its classes are the same here and there.

What cannot travel is refused with its name: values that pickle cannot write, and functions without a source.
"""

from __future__ import annotations

import ast
import base64
import builtins
import io
import json
import linecache
import os
import pickle
import symtable
import sys
import types
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._plain import type_name
from .errors import Refused

PLACE = "<cells>"  # where a file's path stands in a step's target
MOST_VALUE_BYTES = 64 << 10  # of one global, pickled
_FUTURE_ANNOTATIONS = 0x1000000
_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")


def is_in_cell(function: Callable[..., Any]) -> bool:
    """Whether the function is in no file, but its source is known."""
    file = function.__code__.co_filename
    return function.__module__ == "__main__" and not os.path.exists(file) and bool(linecache.getlines(file))


@dataclass(frozen=True)
class Gathered:
    text: str  # what `load` makes a module of
    modules: tuple[str, ...]  # that it imports
    classes: frozenset[str]  # of cells, whose objects the step may make


def gather(function: Callable[..., Any], classes: frozenset[str] = frozenset()) -> Gathered:
    """With `classes`, whose objects it may be given. Raises Refused, which names what cannot travel."""
    found = _Gatherer(function)
    found.definition(function.__name__, function)
    for name in sorted(classes):
        found.need(name)
    text = json.dumps({"parts": found.parts, "values": found.values}, separators=(",", ":"))
    own = {name for kind, name, *_ in found.parts if kind == "definition"}
    return Gathered(
        base64.b85encode(zlib.compress(text.encode(), 9)).decode(),
        tuple(sorted(found.modules)),
        frozenset(name for name in own if isinstance(function.__globals__.get(name), type)),
    )


def load(text: str) -> types.ModuleType:
    """The module `__main__` of a step."""
    content = json.loads(zlib.decompress(base64.b85decode(text)))
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    for kind, name, line, source, flags in content["parts"]:
        if kind == "value":
            module.__dict__[name] = pickle.loads(base64.b64decode(content["values"][name]))  # noqa: S301  the user's own
            continue
        file = f"<cell of {name}>" if kind == "definition" else f"<import of {name}>"
        linecache.cache[file] = (len(source), None, ["\n"] * (line - 1) + source.splitlines(True), file)
        code = compile("\n" * (line - 1) + source, file, "exec", flags, dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102  the user's own
    return module


class _Gatherer:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._globals = function.__globals__
        self._flags = function.__code__.co_flags & _FUTURE_ANNOTATIONS
        self._step = function.__name__
        self._seen: set[str] = set()
        self._trees: dict[str, ast.Module] = {}
        self.parts: list[tuple[str, str, int, str, int]] = []  # kind, name, line, source, flags of the compiler
        self.values: dict[str, str] = {}
        self.modules: set[str] = set()

    # Where things are written

    def _statements(self, file: str) -> list[ast.stmt]:
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse("".join(linecache.getlines(file)))
            except (SyntaxError, ValueError):
                self._trees[file] = ast.Module([], [])
        return self._trees[file].body

    def _cells(self) -> list[str]:
        """The newest first."""
        order = {file: number for number, file in enumerate(linecache.cache)}
        shell = getattr(builtins, "get_ipython", lambda: None)() if "IPython" in sys.modules else None
        counts = getattr(getattr(shell, "compile", None), "_filename_map", {})  # by which execution
        own = [file for file in order if not os.path.exists(file) and not file.startswith("<frozen ")]
        return sorted(own, key=lambda file: (counts.get(file, -1), order[file]), reverse=True)

    def _find(self, name: str, value: Any) -> tuple[str, Any] | None:
        """The cell and the statement that made a function or class."""
        function = _function_of(value)
        line = 0
        if function is not None:
            files, line = [function.__code__.co_filename], function.__code__.co_firstlineno
        elif isinstance(value, type):
            inner = [one.__code__.co_filename for one in map(_function_of, vars(value).values()) if one is not None]
            files = [file for file in inner if not file.startswith("<string")][:1] or self._cells()
        else:
            files = self._cells()
        wanted = getattr(function if function is not None else value, "__name__", name)
        for file in files:
            for node in reversed(self._statements(file)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == wanted:
                    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                    if not line or first <= line <= (node.end_lineno or line):
                        return file, node
                if isinstance(node, ast.Assign) and wanted in ("<lambda>", name) and isinstance(node.value, ast.Lambda):
                    targets = [one.id for one in node.targets if isinstance(one, ast.Name)]
                    if targets == [name]:
                        return file, node
        return None

    # What is needed

    def definition(self, name: str, value: Any) -> None:
        found = self._find(name, value)
        if found is None:
            raise self._refuse(name, value, "whose source is in no cell")
        file, node = found
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
        source = "".join(linecache.getlines(file)[first - 1 : node.end_lineno])
        self._seen.add(name)
        at_once, later = _names(node)
        for other in at_once:  # those that must be there when the definition is made
            self.need(other)
        self.parts.append(("definition", name, first, source if source.endswith("\n") else source + "\n", self._flags))
        for other in later:
            self.need(other)

    def need(self, name: str) -> None:
        if name in self._seen or name not in self._globals:  # a builtin, or an error in the step as it is here
            return
        self._seen.add(name)
        value = self._globals[name]
        if isinstance(value, types.ModuleType):
            self._module(name, value)
            return
        module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if isinstance(module, str) and isinstance(qualified, str) and _importable(module, qualified, value):
            self._import(name, module, f"from {module} import {qualified} as {name}")
        elif isinstance(value, (type, types.FunctionType)) or (callable(value) and self._find(name, value)):
            self.definition(name, value)
        else:
            self._value(name, value)

    def _module(self, name: str, value: types.ModuleType) -> None:
        written = [
            alias
            for file in self._cells()
            for node in self._statements(file)
            if isinstance(node, ast.Import)
            for alias in node.names
            if (alias.asname or alias.name.partition(".")[0]) == name
        ]
        # `import a.b` binds a, and makes a.b known.
        lines = {f"import {one.name}" for one in written if one.asname is None and value.__name__ == name}
        if not lines and getattr(value, "__spec__", None) is None:
            raise self._refuse(name, value, "which cannot be imported")
        for line in sorted(lines) or [f"import {value.__name__} as {name}"]:
            self._import(name, line.split()[1], line)

    def _import(self, name: str, module: str, line: str) -> None:
        self.modules.add(module)
        self.parts.append(("import", name, 1, line + "\n", 0))

    def _value(self, name: str, value: Any) -> None:
        try:
            data = self._pickled(value)
        except Refused:
            raise
        except Exception as fault:
            raise self._refuse(name, value, f"which cannot be pickled ({fault})") from None
        if len(data) > MOST_VALUE_BYTES:
            raise self._refuse(name, value, f"which takes {len(data)} bytes, at most {MOST_VALUE_BYTES} travel")
        self.values[name] = base64.b64encode(data).decode()
        self.parts.append(("value", name, 0, "", 0))

    def _pickled(self, value: Any) -> bytes:
        gatherer = self

        class Pickler(pickle.Pickler):
            def reducer_override(self, what: Any) -> Any:  # classes and functions of cells are found there by name
                if isinstance(what, (type, types.FunctionType)) and what.__module__ == "__main__":
                    name = what.__qualname__.partition(".")[0]
                    if gatherer._globals.get(name) is None:
                        raise pickle.PicklingError(f"`{what.__qualname__}` is not at the top of a cell")
                    gatherer.need(name)
                return NotImplemented

        out = io.BytesIO()
        Pickler(out, protocol=4).dump(value)
        return out.getvalue()

    def _refuse(self, name: str, value: Any, why: str) -> Refused:
        return Refused(
            "NOT_IN_A_FILE",
            f"the step `{self._step}` uses `{name}` of the notebook, a {type_name(type(value))}, {why}: make it inside "
            "the step, hand it over as the result of another step, or put it into a file and import that",
        )


def _function_of(value: Any) -> Any:
    """The function that was written, of what decorators made of it."""
    for _ in range(20):
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        inner = getattr(value, "__wrapped__", None) or getattr(value, "function", None)
        if inner is None or not callable(inner):
            break
        value = inner
    return value if isinstance(value, types.FunctionType) and value.__module__ == "__main__" else None


def _importable(module: str, qualified: str, value: Any) -> bool:
    if module in ("__main__", "builtins") or "." in qualified:
        return False
    return getattr(sys.modules.get(module), qualified, None) is value


def _names(node: Any) -> tuple[list[str], list[str]]:
    """The globals that a statement looks at: when it is executed, and when what it defines is called."""
    text = ast.unparse(node)
    at_once: dict[str, None] = {}
    later: dict[str, None] = {}

    def look(table: symtable.SymbolTable, known: dict[str, None]) -> None:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                known[symbol.get_name()] = None
        for inner in table.get_children():
            waits = inner.get_type() == "function" and inner.get_name() not in _COMPREHENSIONS
            look(inner, later if waits else known)

    look(symtable.symtable(text, "<cell>", "exec"), at_once)
    for one in ast.walk(node):  # also where `from __future__ import annotations` leaves them as text
        hints = [getattr(one, field, None) for field in ("annotation", "returns")]
        for hint in hints:
            if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
                try:
                    hint = ast.parse(hint.value, mode="eval")
                except SyntaxError:
                    continue
            if isinstance(hint, ast.AST):
                at_once.update({name.id: None for name in ast.walk(hint) if isinstance(name, ast.Name)})
    return list(at_once), [name for name in later if name not in at_once]

"""Reads the tree of a pipeline file: kinds, scalars, merged mappings, faults with their paths and places."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple

from ._scalars import MAX_EXACT, read_duration, read_float, read_int, read_size, type_of
from ._tree import Node
from .errors import Violation


class _Skip:
    """What a faulty value is read as."""


SKIP: Any = _Skip()
MOST_ENTRIES = 1000


class Ref(NamedTuple):
    """A value, and the one of `defaults` that it is merged over."""

    node: Node
    base: Node | None = None


class Entry(NamedTuple):
    key: Node
    value: Ref


Read = Callable[[Ref], Any]


def quote(text: str) -> str:
    cut = text[:60] + ("…" if len(text) > 60 else "")
    return "`" + "".join(" " if char < " " or char == "\x7f" else char for char in cut) + "`"


def is_name(text: str, dots: bool = False) -> bool:
    return (
        len(text) <= 200 and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text) is not None and (dots or "." not in text)
    )


def _name_rule(dots: bool) -> str:
    signs = "`_`, `-` and `.`" if dots else "`_` and `-`"
    return f"letters, digits, {signs}, a letter or digit first, at most 200 bytes"


def suggest(word: str, known: list[str]) -> str:
    import difflib  # only when something is wrong

    near = difflib.get_close_matches(word[:64].lower(), known, n=1, cutoff=0.7)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"


def variable_name(name: str) -> str:
    return re.sub("[^A-Z0-9]", "_", name.upper() if name.isascii() else name)


class Reader:
    """Reads values and collects faults, with the path of where it is. Readers answer SKIP for what they refuse."""

    def __init__(self) -> None:
        self._path = ""
        self._faults: dict[tuple[int, int, str, str], Violation] = {}

    @contextlib.contextmanager
    def at(self, part: str | int) -> Iterator[None]:
        before = self._path
        self._path += f"[{part}]" if isinstance(part, int) else f".{part}" if before else part
        yield
        self._path = before

    def add(self, node: Node, description: str, reason: str, below: str = "") -> Any:
        path = f"{self._path}.{below}".strip(".") if below else self._path
        # Steps inherit a fault of `defaults` under paths that differ in their beginning.
        key = (node.line, node.column, description, path.rpartition(".")[2] if node.line else path)
        self._faults.setdefault(key, Violation(path, description, reason, "", node.line, node.column))
        return SKIP

    def violations(self) -> list[Violation]:
        return sorted(self._faults.values(), key=lambda v: (v.line, v.column, v.field, v.description))

    # Kinds

    def is_null(self, node: Node) -> bool:
        return node.kind == "scalar" and type_of(node.text, node.tag) == "null"

    def describe(self, node: Node) -> str:
        if node.kind != "scalar":
            return {"map": "a mapping", "list": "a list"}[node.kind]
        return "empty" if self.is_null(node) else quote(node.text)

    def wrong(self, node: Node, wanted: str) -> Any:
        return self.add(node, f"must be {wanted}, is {self.describe(node)}", "WRONG_TYPE")

    # Mappings and lists

    def _own_entries(self, node: Node) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for key, value in node.pairs:
            if key.kind != "scalar" or self.is_null(key):
                self.add(key, f"a key must be text, is {self.describe(key)}", "WRONG_TYPE")
            elif key.text == "<<" and key.tag == "plain":
                self.add(key, "merge keys are not read; use `defaults`, or write the keys out", "UNKNOWN_FIELD", "<<")
            elif key.text in entries:
                first = entries[key.text].key.line
                place = f", first in line {first}" if first else ""
                self.add(key, f"the key is there twice{place}", "DUPLICATE_KEY", key.text)
            else:
                entries[key.text] = Entry(key, Ref(value))
        return entries

    def entries(self, ref: Ref, wanted: str, choice: tuple[str, ...] = ()) -> dict[str, Entry] | None:
        """None: no mapping. A mapping that chooses another word of `choice` than its default replaces it."""
        if ref.node.kind != "map":
            self.wrong(ref.node, wanted)
            return None
        own = self._own_entries(ref.node)
        if ref.base is None or ref.base.kind != "map":
            return own
        merged = self._own_entries(ref.base)
        if any(word in own for word in choice) and any(word in merged and word not in own for word in choice):
            merged = {}
        for key, entry in own.items():
            base = merged[key].value.node if key in merged else None
            both = base is not None and base.kind == "map" and entry.value.node.kind == "map"
            merged[key] = Entry(entry.key, Ref(entry.value.node, base if both else None))
        return merged

    def fields(
        self,
        ref: Ref,
        readers: Mapping[str, Read],
        wanted: str,
        choice: tuple[str, ...] = (),
        even_null: tuple[str, ...] = (),
    ) -> Any:
        """A mapping with known keys."""
        entries = self.entries(ref, wanted, choice)
        if entries is None:
            return SKIP
        out = {}
        for key, entry in entries.items():
            with self.at(key):
                if key not in readers:
                    self.add(entry.key, f"unknown key; {suggest(key, list(readers))}", "UNKNOWN_FIELD")
                elif not self.is_null(entry.value.node) or key in even_null:
                    value = readers[key](entry.value)
                    if value is not SKIP:
                        out[key] = value
        return out

    def mapping(self, ref: Ref, read: Callable[[Entry], Any], wanted: str) -> Any:
        """A mapping with keys of the author's."""
        entries = self.entries(ref, wanted)
        if entries is None:
            return SKIP
        out = {}
        for key, entry in entries.items():
            with self.at(key):
                if self.is_null(entry.value.node):
                    self.add(entry.value.node, "must not be empty", "REQUIRED")
                    continue
                value = read(entry)
                if value is not SKIP:
                    out[key] = value
        return out

    def items(self, ref: Ref, read: Read, wanted: str) -> Any:
        if ref.node.kind != "list":
            return self.wrong(ref.node, wanted)
        out = []
        for index, item in enumerate(ref.node.items):
            with self.at(index):
                value = read(Ref(item))
                if value is not SKIP:
                    out.append(value)
        return out

    # Scalars

    def scalar_type(self, ref: Ref, wanted: str) -> Any:
        if ref.node.kind != "scalar":
            return self.wrong(ref.node, wanted)
        kind = type_of(ref.node.text, ref.node.tag)
        if kind is None:
            return self.add(ref.node, f"{quote(ref.node.text)} is not what its tag says", "WRONG_TYPE")
        return kind

    def text(self, ref: Ref, wanted: str = "text", filled: bool = False) -> Any:
        kind = self.scalar_type(ref, wanted)
        if kind is SKIP:
            return SKIP
        if kind == "null":
            return self.wrong(ref.node, wanted)
        if filled and not ref.node.text:
            return self.add(ref.node, "must not be empty", "REQUIRED")
        return ref.node.text

    def filled(self, ref: Ref) -> Any:
        return self.text(ref, filled=True)

    def texts(self, ref: Ref) -> Any:
        return self.items(ref, self.text, "a list of words")

    def boolean(self, ref: Ref) -> Any:
        kind = self.scalar_type(ref, "true or false")
        if kind is SKIP:
            return SKIP
        return ref.node.text[0] in "tT" if kind == "bool" else self.wrong(ref.node, "true or false")

    def integer(self, low: int, high: int, quoted: bool = False) -> Read:
        def read(ref: Ref) -> Any:
            kind = self.scalar_type(ref, "a whole number")
            if kind is SKIP:
                return SKIP
            if quoted and kind == "text":  # JSON of the message writes 64-bit numbers so
                kind = type_of(ref.node.text, "plain")
            if kind != "int":
                return self.wrong(ref.node, "a whole number")
            value = read_int(ref.node.text)
            if value is None or not low <= value <= high:
                return self.add(ref.node, f"must be from {low} to {high}, is {quote(ref.node.text)}", "OUT_OF_RANGE")
            return value

        return read

    def number(self, low: float, high: float) -> Read:
        def read(ref: Ref) -> Any:
            kind = self.scalar_type(ref, "a number")
            if kind is SKIP:
                return SKIP
            if kind not in ("int", "float"):
                return self.wrong(ref.node, "a number")
            value = read_float(ref.node.text)
            if not low <= value <= high:  # also nan
                return self.add(ref.node, f"must be from {low} to {high}, is {quote(ref.node.text)}", "OUT_OF_RANGE")
            return value

        return read

    def duration(self, ref: Ref, zero_allowed: bool = False) -> Any:
        wanted = "a duration such as 500ms, 10s, 5m, 2h or 1d"
        if self.scalar_type(ref, wanted) is SKIP:
            return SKIP
        value = read_duration(ref.node.text)
        if value is None:
            return self.wrong(ref.node, wanted)
        if value < (0, 1_000_000) and not (zero_allowed and value == (0, 0)):
            return self.add(ref.node, f"must be at least 1ms, is {quote(ref.node.text)}", "OUT_OF_RANGE")
        return value

    def size(self, ref: Ref) -> Any:
        wanted = "a size such as 512Mi, 2Gi, 1G or a number of bytes"
        if self.scalar_type(ref, wanted) is SKIP:
            return SKIP
        value = read_size(ref.node.text)
        if value is None:
            return self.wrong(ref.node, wanted)
        if value > MAX_EXACT:
            return self.add(ref.node, f"must be at most 2^53 bytes, is {quote(ref.node.text)}", "OUT_OF_RANGE")
        return value

    def word(self, descriptor: Any) -> Read:
        """A word of an enum, in its own case or in small letters."""

        def read(ref: Ref) -> Any:
            text = self.text(ref, "a word")
            if text is SKIP:
                return SKIP
            words = {value.name: value.name for value in descriptor.values if value.number}
            words.update({name.lower(): name for name in words})
            if text not in words:
                known = [name.lower() for name in words if name.isupper()]
                return self.add(ref.node, f"{quote(text)} is not known here; {suggest(text, known)}", "UNKNOWN_WORD")
            return words[text]

        return read

    def name(self, ref: Ref, dots: bool = False) -> Any:
        text = self.text(ref, "a name", filled=True)
        if text is not SKIP and not is_name(text, dots):
            return self.add(ref.node, f"{quote(text)} is no name: {_name_rule(dots)}", "INVALID_NAME")
        return text

    def key_name(self, entry: Entry) -> None:
        if not is_name(entry.key.text):
            self.add(entry.key, f"{quote(entry.key.text)} is no name: {_name_rule(False)}", "INVALID_NAME")

    # JSON values

    def value(self, ref: Ref) -> Any:
        node = ref.node
        if node.kind == "map":
            return self.struct(ref)
        if node.kind == "list":
            return self.list_value(ref)
        kind = self.scalar_type(ref, "a value")
        if kind is SKIP or kind == "null":
            return SKIP if kind is SKIP else None
        if kind == "bool":
            return node.text[0] in "tT"
        if kind == "text":
            return node.text
        if kind == "int":
            whole = read_int(node.text)
            if whole is None or abs(whole) > MAX_EXACT:
                hint = "integers are exact only up to 2^53; write it in quotes"
                return self.add(node, f"{quote(node.text)}: {hint}", "OUT_OF_RANGE")
            return whole
        real = read_float(node.text)
        if not math.isfinite(real):
            return self.add(node, f"{quote(node.text)}: the number must be finite", "OUT_OF_RANGE")
        return real

    def list_value(self, ref: Ref) -> Any:
        return self.items(ref, self.value, "a list")

    def struct(self, ref: Ref) -> Any:
        entries = self.entries(ref, "a mapping")
        if entries is None:
            return SKIP
        out = {}
        for key, entry in entries.items():
            with self.at(key):
                value = self.value(entry.value)
                if value is not SKIP:
                    out[key] = value
        return out

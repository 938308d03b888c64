"""Text or plain Python data to a tree of nodes with places. Syntax and size are judged here, meaning is not.

YAML is read as events, so that its 1.2 core schema and double keys can be judged by us: PyYAML itself knows 1.1, where
`no` is false, and takes the last of two equal keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import Refused, Violation

MAX_BYTES = 32 << 20
MAX_DEPTH = 64
MAX_NODES = 20_000_000
MAX_ALIAS_NODES = 100_000

_TAGS = "tag:yaml.org,2002:"
# Control characters that YAML forbids, what YAML 1.1 takes for a line end; a byte order mark is good only at the start.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ufeff]")
# JSON writes characters beyond U+FFFF as two escapes; the backslash must not be escaped itself.
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass
class Node:
    kind: str  # `map`, `list` or `scalar`
    text: str = ""  # of a scalar
    tag: str = "plain"  # of a scalar: `plain`, `text`, or a demand: `null`, `bool`, `int`, `float`
    line: int = 0  # from 1; 0: unknown
    column: int = 0
    items: list[Node] = field(default_factory=list)  # of a list
    pairs: list[tuple[Node, Node]] = field(default_factory=list)  # of a map, as written
    size: int = 1  # nodes, aliases expanded
    height: int = 0  # levels of lists and maps

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.pairs if name.kind == "scalar" and name.text == key), None)

    def add(self, child: Node) -> None:
        self.size += child.size
        self.height = max(self.height, 1 + child.height)


class Fault(Exception):
    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


def _fault(description: str, reason: str, line: int = 0, column: int = 0) -> Fault:
    return Fault(Violation("", description, reason, "", line, column))


def _check_encoding(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _fault(f"the file has {len(data)} bytes; at most {MAX_BYTES} are read", "TOO_LARGE")

    def place(before: str) -> tuple[int, int]:
        lines = re.split("\r\n|\r|\n", before)
        return len(lines), len(lines[-1]) + 1

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = place(data[: error.start].decode("utf-8"))
        raise _fault(f"byte 0x{data[error.start]:02X}: the text is not UTF-8", "INVALID_ENCODING", *where) from None
    text = text[1:] if text.startswith("\ufeff") else text
    found = _FORBIDDEN.search(text)
    if found is not None:
        byte = found.group().encode("utf-8")[0]
        raise _fault(
            f"byte 0x{byte:02X} begins a control character or line separator; in double quotes write an escape",
            "INVALID_ENCODING",
            *place(text[: found.start()]),
        )
    return text


def from_text(data: bytes) -> Node:
    """Raises Fault; Refused if YAML cannot be read here."""
    text = _check_encoding(data)
    try:
        import yaml
    except ImportError:
        if text.lstrip()[:1] not in ("{", "["):
            raise Refused(
                "PYYAML_MISSING", "PyYAML is missing, which reads YAML: apt-get install python3-yaml"
            ) from None
        return _from_json(text)
    try:
        return _from_yaml(yaml, text)
    except Fault as fault:
        if "escape code" not in fault.violation.description:
            raise
        pairs = _Surrogates(text)
        if not pairs.found:
            raise
        return _from_yaml(yaml, pairs.text, pairs)


class _Surrogates:
    """Escapes in UTF-16 pairs, which YAML has not. Each half is replaced by an escape of the same length for a
    private-use character that occurs nowhere else, so that all marks stay true, and restored in what was parsed."""

    def __init__(self, text: str) -> None:
        self.found: list[tuple[int, str]] = []  # where, and the original
        self.text = text
        for base in (0xE000, 0xE800, 0xF000):
            taken = re.compile(
                f"[{chr(base)}-{chr(base + 0x7FF)}]|\\\\[uU]0*{base >> 12:x}[{'89a-f' if base & 0x800 else '0-7'}]",
                re.I,
            )
            if not taken.search(text):
                self._base = base
                self.text = _PAIR.sub(self._replace, text)
                return

    def _replace(self, pair: re.Match[str]) -> str:
        shift = self._base - 0xD800
        begin = pair.end(1)
        self.found.append((begin, pair.group()[begin - pair.start() :]))
        return pair.group(1) + "".join(f"\\u{int(half, 16) + shift:04X}" for half in pair.group(2, 3))

    def restore(self, event: Any) -> str:
        text: str = event.value
        shift = self._base - 0xD800
        if event.style == '"':
            halves = f"[{chr(self._base)}-{chr(self._base + 0x7FF)}]{{2}}"
            return re.sub(
                halves,
                lambda pair: (
                    "".join(chr(ord(half) - shift) for half in pair.group())
                    .encode("utf-16", "surrogatepass")
                    .decode("utf-16")
                ),
                text,
            )
        inside = iter(
            original for begin, original in self.found if event.start_mark.index <= begin < event.end_mark.index
        )
        escapes = re.compile(f"(?:\\\\u[{self._base >> 12:X}][0-9A-F]{{3}}){{2}}")
        return escapes.sub(lambda pair: next(inside, pair.group()), text)


def _from_yaml(yaml: Any, text: str, pairs: _Surrogates | None = None) -> Node:
    root: Node | None = None
    open_nodes: list[tuple[Node, list[Node], str]] = []  # with the children so far, and the anchor
    anchors: dict[str, Node | None] = {}  # None: still open
    documents = count = alias_nodes = 0

    def attach(node: Node) -> None:
        nonlocal root, count
        count += 1
        if count > MAX_NODES:
            raise _fault(f"more than {MAX_NODES} values in one file", "TOO_LARGE", node.line, node.column)
        if len(open_nodes) + node.height > MAX_DEPTH:
            raise _fault(f"nested deeper than {MAX_DEPTH} levels", "TOO_LARGE", node.line, node.column)
        if open_nodes:
            open_nodes[-1][1].append(node)
        else:
            root = node

    def bad_tag(tag: str, line: int, column: int) -> Fault:
        tag = tag[len(_TAGS) :] if tag.startswith(_TAGS) else tag
        return _fault(f"the tag `{tag}` is not known here; leave it out", "SYNTAX", line, column)

    scalar_tags = {_TAGS + "str": "text", **{_TAGS + word: word for word in ("null", "bool", "int", "float")}}
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CLoader", yaml.Loader)):
            line, column = event.start_mark.line + 1, event.start_mark.column + 1
            if isinstance(event, yaml.ScalarEvent):
                tag = "plain" if event.style in (None, "") else "text"
                if event.tag == "!":
                    tag = "text"
                elif event.tag:
                    if event.tag not in scalar_tags:
                        raise bad_tag(event.tag, line, column)
                    tag = scalar_tags[event.tag]
                value = event.value if pairs is None else pairs.restore(event)
                node = Node("scalar", value, tag, line, column)
                if event.anchor:
                    anchors[event.anchor] = node
                attach(node)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                kind, word = ("map", "map") if isinstance(event, yaml.MappingStartEvent) else ("list", "seq")
                if event.tag not in (None, "!", _TAGS + word):
                    raise bad_tag(event.tag, line, column)
                node = Node(kind, line=line, column=column, height=1)
                attach(node)
                if event.anchor:
                    anchors[event.anchor] = None
                open_nodes.append((node, [], event.anchor))
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                node, children, anchor = open_nodes.pop()
                for child in children:
                    node.add(child)
                if node.kind == "map":
                    node.pairs = list(zip(children[::2], children[1::2]))
                else:
                    node.items = children
                if anchor and anchors[anchor] is None:
                    anchors[anchor] = node
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchors:
                    raise _fault(f"no anchor `&{event.anchor}` before this", "SYNTAX", line, column)
                target = anchors[event.anchor]
                if target is None:
                    raise _fault(f"`*{event.anchor}` stands inside what it means", "SYNTAX", line, column)
                alias_nodes += target.size
                if alias_nodes > MAX_ALIAS_NODES:
                    raise _fault(f"aliases expand to more than {MAX_ALIAS_NODES} values", "TOO_LARGE", line, column)
                attach(
                    Node(
                        target.kind, target.text, target.tag, line, column,
                        target.items, target.pairs, target.size, target.height,
                    )
                )  # fmt: skip
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _fault("a second document begins here; put it into a file of its own", "SYNTAX", line, column)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        raise _fault(f"not YAML: {error.problem or error.context}", "SYNTAX", *where) from None
    except yaml.YAMLError as error:
        raise _fault(f"not YAML: {error}", "SYNTAX") from None
    if root is None:
        raise _fault("the file is empty", "REQUIRED", 1, 1)
    return root


class _Pairs(list):  # type: ignore[type-arg]
    """A JSON object as written, so that double keys are seen."""


class _Number(str):
    """A JSON number as written."""


def _from_json(text: str) -> Node:
    def refuse(word: str) -> Any:
        raise _fault(f"`{word}` is no JSON", "SYNTAX")

    try:
        data = json.loads(text, object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise _fault(f"not JSON: {error.msg}", "SYNTAX", error.lineno, error.colno) from None
    except RecursionError:
        raise _fault(f"nested deeper than {MAX_DEPTH} levels", "TOO_LARGE") from None
    return from_python(data)


def from_python(data: Any, depth: int = 0) -> Node:
    """Of what JSON knows: None, bool, int, float, str, lists, tuples, mappings with text keys. Raises Fault."""
    if depth > MAX_DEPTH:
        raise _fault(f"nested deeper than {MAX_DEPTH} levels", "TOO_LARGE")
    if data is None:
        return Node("scalar", "", "null")
    if isinstance(data, _Number):
        return Node("scalar", str(data))
    if isinstance(data, bool):
        return Node("scalar", "true" if data else "false")
    if isinstance(data, int):
        return Node("scalar", str(data))
    if isinstance(data, float):
        return Node("scalar", {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(data), repr(data)))
    if isinstance(data, str):
        return Node("scalar", data, "text")
    if isinstance(data, (Mapping, _Pairs)):
        node = Node("map", height=1)
        for key, value in data.items() if isinstance(data, Mapping) else data:
            if not isinstance(key, str):
                raise _fault(f"a key must be text, is {key!r}", "WRONG_TYPE")
            node.pairs.append((Node("scalar", key, "text"), from_python(value, depth + 1)))
        return node
    if isinstance(data, (list, tuple)):
        return Node("list", items=[from_python(item, depth + 1) for item in data], height=1)
    raise _fault(f"{type(data).__name__} is no JSON value", "WRONG_TYPE")


def _take(path: str, key: str) -> str | None:
    """What follows `key` in the path; None if the path does not begin with it as a whole."""
    rest = path[len(key) :]
    return rest if path.startswith(key) and (not rest or rest[0] in ".[") else None


def find(root: Node, path: str) -> Node:
    """The node at a field path as the server reports it: short forms are seen through, and what a step took from
    `defaults` is found there. A field that is not in the text: the nearest enclosing one that is."""
    node, base, parent = root, None, ""
    while path:
        path = path.lstrip(".")
        index = re.match(r"\[(\d+)\]", path)
        if index is not None:
            number = int(index.group(1))
            if node.kind == "list" and number < len(node.items):
                node = node.items[number]
                base = root.get("defaults") if parent == "steps" else None
            elif node.kind == "map" and parent.endswith("foreach") and number < len(node.pairs):
                node, base = node.pairs[number][1], None
            else:
                return node
            path = path[index.end() :]
            parent += "[]"
            continue
        for holder in (node, base):
            known = [key.text for key, _ in holder.pairs] if holder is not None and holder.kind == "map" else []
            fits = [key for key in known if key and _take(path, key) is not None]
            if fits:
                key = max(fits, key=len)
                below = base.get(key) if base is not None and base is not holder and base.kind == "map" else None
                assert holder is not None
                value = holder.get(key)
                assert value is not None
                node, base, path = value, below, path[len(key) :]
                parent = key
                break
        else:
            return node
    return node

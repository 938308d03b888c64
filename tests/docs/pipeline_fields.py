#!/usr/bin/python3
"""The table of all that a pipeline can say, in docs/pipelines.md: made from the protos, each field with the test that
exercises it.

A test says what it exercises in a line of its body, by the names of the protos:

    # covers: StepSpec.retry Retry.max_attempts Retry.Condition.FAILED

`//` in C++. It has to mention the field: in its own text, in a constant that it names, or in a file under examples/ or
tests/spec/vectors that it names. `tests/docs/pipeline_fields.py` prints the faults, with `--write` it writes the table.
"""
from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Iterator

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/pipelines.md"
BEGIN, END = "<!-- fields:begin -->\n", "<!-- fields:end -->\n"
PACKAGE = ".orch.v1."
_KINDS = {1: "double", 3: "int64", 5: "int32", 8: "bool", 9: "string"}
_WELL_KNOWN = {"Duration": "duration", "Struct": "mapping", "ListValue": "list", "Value": "any value"}


@dataclass
class Entry:
    """A field, or a value of an enum."""
    owner: str  # `Retry.Backoff`
    name: str
    type: str
    meaning: str
    tests: list["Test"] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.owner}.{self.name}"

    @property
    def written(self) -> str:
        """As people write it."""
        return self.name.lower()


@dataclass
class Test:
    file: Path
    name: str
    text: str  # what it is, with the constants and examples it names, without what it says that it covers
    covers: list[str]


# --- what there is -----------------------------------------------------------------------------------------------------


class Protos:
    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(suffix=".binpb") as out:
            subprocess.run(["protoc", f"--descriptor_set_out={out.name}", "--include_imports", "--include_source_info", "-I",
                            ROOT / "proto", "orch/v1/pipeline.proto"], check=True)
            files = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
        self.messages: dict[str, tuple[descriptor_pb2.DescriptorProto, dict[tuple[int, ...], str], tuple[int, ...]]] = {}
        self.enums: dict[str, tuple[descriptor_pb2.EnumDescriptorProto, dict[tuple[int, ...], str], tuple[int, ...]]] = {}
        for file in files:
            comments = {tuple(place.path): " ".join((place.leading_comments or place.trailing_comments).split())
                        for place in file.source_code_info.location}
            for i, message in enumerate(file.message_type):
                self._add(f".{file.package}.{message.name}", message, comments, (4, i))
            for i, enum in enumerate(file.enum_type):
                self.enums[f".{file.package}.{enum.name}"] = (enum, comments, (5, i))

    def _add(self, name: str, message: descriptor_pb2.DescriptorProto, comments: dict[tuple[int, ...], str],
             path: tuple[int, ...]) -> None:
        self.messages[name] = (message, comments, path)
        for i, inner in enumerate(message.nested_type):
            self._add(f"{name}.{inner.name}", inner, comments, (*path, 3, i))
        for i, enum in enumerate(message.enum_type):
            self.enums[f"{name}.{enum.name}"] = (enum, comments, (*path, 4, i))

    def entries(self) -> list[Entry]:
        """Of all that a Pipeline reaches, in the order in which it is met."""
        out: list[Entry] = []
        waiting, seen = [f"{PACKAGE}Pipeline"], {f"{PACKAGE}Pipeline"}
        while waiting:
            name = waiting.pop(0)
            short = name.removeprefix(PACKAGE)
            if name in self.enums:
                enum, comments, path = self.enums[name]
                out += [Entry(short, value.name, "", comments.get((*path, 2, i), ""))
                        for i, value in enumerate(enum.value) if value.number]
                continue
            message, comments, path = self.messages[name]
            found: list[str] = []
            for i, one in enumerate(message.field):
                kind, reached = self._type(one)
                out.append(Entry(short, one.name, kind, comments.get((*path, 2, i), "")))
                if reached:
                    found.append(reached)
            new = [name for name in dict.fromkeys(found) if name not in seen]
            seen.update(new)
            waiting = new + waiting if name != f"{PACKAGE}Pipeline" else waiting + new
        return out

    def _type(self, one: descriptor_pb2.FieldDescriptorProto) -> tuple[str, str]:
        """In words, and the message or enum of ours that it is of."""
        if one.type_name and one.type_name.startswith(".google.protobuf."):
            word, reached = _WELL_KNOWN[one.type_name.rsplit(".", 1)[1]], ""
        elif one.type_name in self.messages and self.messages[one.type_name][0].options.map_entry:
            word, reached = self._type(self.messages[one.type_name][0].field[1])
            return f"{word} by name", reached
        elif one.type_name:
            word, reached = f"`{one.type_name.removeprefix(PACKAGE)}`", one.type_name
        else:
            word, reached = _KINDS[one.type], ""
        return (f"list of {word}" if one.label == one.LABEL_REPEATED else word), reached


# --- who exercises it --------------------------------------------------------------------------------------------------


def tests() -> Iterator[Test]:
    for file in sorted([*ROOT.glob("tests/*/test_*.py"), *ROOT.glob("tests/*/*_test.cc")]):
        text = file.read_text()
        if "covers:" not in text:
            continue
        python = file.suffix == ".py"
        head = r"^ {0,4}def (test_\w+)\(" if python else r"^TEST(?:_[FP])?\((\w+), ?(\w+)\) \{"
        starts = list(re.finditer(head, text, re.M))
        marks = len(re.findall(r"(?:#|//) covers:", text))
        for found, after in zip(starts, [*starts[1:], None]):
            body = text[found.start():after.start() if after else len(text)]
            if not python:
                body = body[:body.find("\n}\n") + 3]
            covers = [name for line in re.findall(r"(?:#|//) covers: (.*)", body) for name in line.split()]
            marks -= len(re.findall(r"(?:#|//) covers:", body))
            if not covers:
                continue
            body = re.sub(r".*(?:#|//) covers:.*\n", "", body)
            for constant in set(re.findall(r"\b(?:[A-Z][A-Z_]{2,}|k[A-Z]\w+)\b", body)):
                if whole := re.search(rf"^ *(?:const\w* .*)?\b{constant}\b(?:\[\])? = ", text, re.M):
                    body += re.split(r'\n\n|"""\n|\)";', text[whole.start():] + "\n\n")[0]
            for named in set(re.findall(r"examples/[\w-]+(?:/[\w-]+\.yaml)?", body)):
                for example in [ROOT / named] if named.endswith(".yaml") else sorted((ROOT / named).glob("*.yaml")):
                    body += example.read_text()
            for vector in set(re.findall(r'"([\w-]+\.yaml)"', body)) if file.parent.name == "spec" else ():
                body += (file.parent / "vectors" / vector).read_text()
            body = body.replace("\\n", "\n")  # as in "name: p\\ntimeout: 2s"
            yield Test(file, found[1] if python else f"{found[1]}.{found[2]}", body, covers)
        if marks:
            raise SystemExit(f"{file.relative_to(ROOT)}: says `covers:` outside of a test")


def collect(all_tests: Iterable[Test] | None = None) -> tuple[list[Entry], list[str]]:
    """All entries with their tests; the faults."""
    entries = Protos().entries()
    known = {entry.key: entry for entry in entries}
    faults: list[str] = []
    for test in tests() if all_tests is None else all_tests:
        place = f"{test.file.relative_to(ROOT)}, {test.name}"
        for key in test.covers:
            if key not in known:
                faults.append(f"{place}: covers {key}, which is no field of a pipeline")
            elif not re.search(rf"\b{known[key].name}\b", test.text, re.I):
                faults.append(f"{place}: covers {key}, but does not mention it")
            else:
                known[key].tests.append(test)
    faults += [f"{entry.key}: no test says that it covers it" for entry in entries if not entry.tests]
    faults += [f"{entry.key}: the proto has no comment" for entry in entries if not entry.meaning]
    return entries, faults


def table(entries: list[Entry]) -> str:
    lines: list[str] = []
    owner = ""
    for entry in entries:
        if entry.owner != owner:
            owner = entry.owner
            if not entry.type:
                lines += ["", f"### {owner}", "", "| Word | Meaning | Test |", "|---|---|---|"]
            else:
                lines += ["", f"### {owner}", "", "| Field | Type | Meaning | Test |", "|---|---|---|---|"]
        links = " ".join(f"[{test.name}](../{test.file.relative_to(ROOT)})" for test in entry.tests)
        meaning = entry.meaning.replace("|", "\\|")
        kind = f" {entry.type} |" if entry.type else ""
        lines.append(f"| `{entry.written}` |{kind} {meaning} | {links} |")
    return "\n".join(lines).strip("\n") + "\n"


def main() -> int:
    entries, faults = collect()
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    written = before + BEGIN + table(entries) + END + rest.split(END)[1]
    if "--write" in sys.argv[1:]:
        PAGE.write_text(written)
    elif written != page:
        faults.append("docs/pipelines.md: its table is not what is: tests/docs/pipeline_fields.py --write")
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

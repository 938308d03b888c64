"""Pipelines as people write them, read into orch.v1.Pipeline: short forms, units and `defaults` are resolved here.

What is refused is refused with all its faults at once and their places. References between steps, templates and
expressions are judged by the server.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import _tree
from ._messages import message_class
from ._pipeline import read_pipeline
from ._reader import Reader
from ._tree import Fault, Node
from .errors import NotFound, PipelineInvalid, Violation


@dataclass(frozen=True)
class Loaded:
    """A pipeline that was read, and where its fields are written."""

    message: Any
    source_dir: str
    file: str = ""
    tree: Node | None = None

    def place(self, fault: Violation) -> Violation:
        """The fault with its place in the file."""
        if self.tree is None or fault.line:
            return fault
        node = _tree.find(self.tree, fault.field)
        return dataclasses.replace(fault, file=self.file, line=node.line, column=node.column)


def load(pipeline: Any, source_dir: str | os.PathLike[str] | None = None) -> Loaded:
    """From the path of a YAML or JSON file, a mapping of the same shape, or a message. Raises PipelineInvalid."""
    if (
        getattr(getattr(pipeline, "DESCRIPTOR", None), "full_name", "")
        == message_class("Pipeline").DESCRIPTOR.full_name
    ):
        # It may be of a generated class, which is not ours.
        message = message_class("Pipeline").FromString(pipeline.SerializeToString())
        return Loaded(message, os.path.abspath(source_dir or os.curdir))
    file = "" if isinstance(pipeline, Mapping) else os.fspath(pipeline)
    folder = os.path.abspath(source_dir or os.path.dirname(file) or os.curdir)
    try:
        tree = _tree.from_text(_read(file)) if file else _tree.from_python(pipeline)
    except Fault as fault:
        raise _invalid(file, [fault.violation]) from None
    reader = Reader()
    message = read_pipeline(reader, tree)
    faults = reader.violations()
    if faults:
        raise _invalid(file, faults)
    for step in message.steps:
        if step.source.path:
            step.source.path = os.path.normpath(os.path.join(folder, step.source.path))
    return Loaded(message, folder, file, tree if file else None)


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(_tree.MAX_BYTES + 1)
    except OSError as error:
        raise NotFound("FILE_UNREADABLE", f"cannot read {file}: {error.strerror}") from None


def _invalid(file: str, faults: list[Violation]) -> PipelineInvalid:
    placed = [dataclasses.replace(fault, file=file) for fault in faults]
    count = f"{len(faults)} fault{'' if len(faults) == 1 else 's'}"
    return PipelineInvalid("PIPELINE_INVALID", f"{file or 'the pipeline'} has {count}:", placed)

"""orchd in Python: pipelines as functions, and the daemon's client.

    from orchd import pipeline, step

    @step
    def numbers(n: int) -> list[int]:
        return list(range(n))

    @step
    def total(values: list[int]) -> int:
        return sum(values)

    @pipeline
    def sums(n: int = 10):
        return total(numbers(n))

    if __name__ == "__main__":
        print(sums(n=100).steps["total"].output.load())

Names are imported when they are first used: the process of a step needs neither gRPC nor protobuf.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._graph import Call, Condition, Output, Parameter
    from .client import AsyncClient, Client
    from .context import StepContext, current_step
    from .errors import (
        AlreadyExists,
        Busy,
        NotFound,
        OrchdError,
        PermissionDenied,
        PipelineInvalid,
        Refused,
        RunFailed,
        Unreachable,
        Violation,
        WaitTimedOut,
    )
    from .explained import (
        CacheDecision,
        Cause,
        Explanation,
        FailedAttempt,
        Holder,
        Lineage,
        Link,
        PartChange,
        Plan,
        PlannedStep,
        RunDiff,
        StepChange,
        StepInBrief,
        StepSide,
        ValueChange,
    )
    from .pipelines import Pipeline, pipeline
    from .runs import OutputView, PipelineRun, StepView, get_run
    from .serializers import CannotSerialise, Folder, serializer
    from .steps import StepFunction, fixed, shell, step
    from .tables import table
    from .types import Artifact, Attempt, Event, Generation, LogChunk, LogMatch, Metadata, Run, Secret, ServerInfo, Step

__version__ = "0.1.0"

_PLACES = {
    "_graph": "Call Condition Output Parameter",
    "client": "AsyncClient Client",
    "context": "StepContext current_step",
    "errors": "AlreadyExists Busy NotFound OrchdError PermissionDenied "
    "PipelineInvalid Refused RunFailed Unreachable Violation WaitTimedOut",
    "explained": "CacheDecision Cause Explanation FailedAttempt Holder Lineage Link "
    "PartChange Plan PlannedStep RunDiff StepChange StepInBrief StepSide ValueChange",
    "pipelines": "Pipeline pipeline",
    "runs": "OutputView PipelineRun StepView get_run",
    "serializers": "CannotSerialise Folder serializer",
    "steps": "StepFunction fixed shell step",
    "tables": "table",
    "types": "Artifact Attempt Event Generation LogChunk LogMatch Metadata Run Secret ServerInfo Step",
}
_BY_NAME = {name: module for module, names in _PLACES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


__all__ = [
    "AlreadyExists",
    "Artifact",
    "AsyncClient",
    "Attempt",
    "Busy",
    "CacheDecision",
    "Call",
    "CannotSerialise",
    "Cause",
    "Client",
    "Condition",
    "Event",
    "Explanation",
    "FailedAttempt",
    "Folder",
    "Generation",
    "Holder",
    "Lineage",
    "Link",
    "LogChunk",
    "LogMatch",
    "Metadata",
    "NotFound",
    "OrchdError",
    "Output",
    "OutputView",
    "Parameter",
    "PartChange",
    "PermissionDenied",
    "Pipeline",
    "PipelineInvalid",
    "PipelineRun",
    "Plan",
    "PlannedStep",
    "Refused",
    "Run",
    "RunDiff",
    "RunFailed",
    "Secret",
    "ServerInfo",
    "Step",
    "StepChange",
    "StepContext",
    "StepFunction",
    "StepInBrief",
    "StepSide",
    "StepView",
    "Unreachable",
    "ValueChange",
    "Violation",
    "WaitTimedOut",
    "__version__",
    "current_step",
    "fixed",
    "get_run",
    "pipeline",
    "serializer",
    "shell",
    "step",
    "table",
]

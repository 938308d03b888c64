"""The Python client of orchd.

from orchd import Client

run = Client().submit("pipeline.yaml", parameters={"folds": 5})
print(Client().wait(run).state)
"""

from .client import Client
from .errors import (
    AlreadyExists,
    Busy,
    NotFound,
    OrchdError,
    PermissionDenied,
    PipelineInvalid,
    Refused,
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
from .types import (
    Artifact,
    Attempt,
    Event,
    Generation,
    LogChunk,
    LogMatch,
    Metadata,
    Run,
    Secret,
    ServerInfo,
    Step,
)

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "Artifact",
    "Attempt",
    "Busy",
    "CacheDecision",
    "Cause",
    "Client",
    "Event",
    "Explanation",
    "FailedAttempt",
    "Generation",
    "Holder",
    "Lineage",
    "Link",
    "LogChunk",
    "LogMatch",
    "Metadata",
    "NotFound",
    "OrchdError",
    "PartChange",
    "PermissionDenied",
    "PipelineInvalid",
    "Plan",
    "PlannedStep",
    "Refused",
    "Run",
    "RunDiff",
    "Secret",
    "ServerInfo",
    "Step",
    "StepChange",
    "StepInBrief",
    "StepSide",
    "Unreachable",
    "ValueChange",
    "Violation",
    "WaitTimedOut",
    "__version__",
]

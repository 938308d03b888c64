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
from .types import Artifact, Attempt, Event, LogChunk, Metadata, Run, ServerInfo, Step

__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "Artifact",
    "Attempt",
    "Busy",
    "Client",
    "Event",
    "LogChunk",
    "Metadata",
    "NotFound",
    "OrchdError",
    "PermissionDenied",
    "PipelineInvalid",
    "Refused",
    "Run",
    "ServerInfo",
    "Step",
    "Unreachable",
    "Violation",
    "WaitTimedOut",
    "__version__",
]

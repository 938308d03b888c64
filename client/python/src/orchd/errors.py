"""What calls raise. `reason` is a word that programs can switch on, `message` is for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """One fault of a pipeline or request."""

    field: str  # the path from the pipeline, `steps[3].resources.memory`; empty: the whole
    description: str
    reason: str = ""
    file: str = ""
    line: int = 0  # from 1; 0: unknown
    column: int = 0

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.field, self.description) if part)


class OrchdError(Exception):
    """The base of all errors of this package."""

    def __init__(self, reason: str, message: str, violations: Sequence[Violation] = (), code: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.violations = tuple(violations)
        self.code = code  # gRPC's, `NOT_FOUND`; empty: the error is the client's own

    def __str__(self) -> str:
        lines = [self.message] if self.message else []
        lines += [str(violation) for violation in self.violations]
        return "\n".join(lines) or self.reason


class NotFound(OrchdError):
    """There is no such run, step, artifact or orchestrator."""


class Refused(OrchdError):
    """The request cannot be done as it stands; asking again changes nothing."""


class PipelineInvalid(Refused):
    """The pipeline has faults; all of them are in `violations`."""


class AlreadyExists(Refused):
    """The name is taken."""


class PermissionDenied(OrchdError):
    """The token is missing, wrong, or not allowed to do this."""


class Busy(OrchdError):
    """The daemon has no room now: too many requests, or a full disk."""


class Unreachable(OrchdError):
    """No daemon answers."""


class WaitTimedOut(OrchdError, TimeoutError):
    """The run had not ended in time; it goes on."""


class RunFailed(OrchdError):
    """A run ended, but did not succeed. The message has the traceback of the step that failed first."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        run: Any = None,
        step: str = "",
        traceback: str = "",
        exit_code: int | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.run = run  # the PipelineRun
        self.step = step  # empty: no step failed
        self.traceback = traceback  # the step's own, as it printed it; empty: it printed none
        self.exit_code = exit_code

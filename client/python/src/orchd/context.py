"""What a step's function may want to know of itself."""

from __future__ import annotations

import os
import pathlib
import tempfile
from dataclasses import dataclass


@dataclass(frozen=True)
class StepContext:
    """Of the attempt that runs. A cached step that uses what differs between runs is not run again for it."""

    run: str  # its name
    run_id: str
    step: str  # `train`, or `train[2]`
    attempt: int  # from 1
    project: str
    scratch: pathlib.Path  # a folder of the attempt's own, empty at first and removed afterwards


def current_step() -> StepContext:
    """Outside a run (in a test of the function) the names are empty, and scratch is a temporary folder."""
    env = os.environ
    return StepContext(
        run=env.get("ORCH_RUN_NAME", ""),
        run_id=env.get("ORCH_RUN_ID", ""),
        step=env.get("ORCH_STEP", ""),
        attempt=int(env.get("ORCH_ATTEMPT", "1")),
        project=env.get("ORCH_PROJECT", ""),
        scratch=pathlib.Path(env.get("ORCH_SCRATCH") or tempfile.mkdtemp(prefix="orchd-scratch-")),
    )

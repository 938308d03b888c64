"""Tells ZenML of a step whose process ended without a word: killed, crashed, `os._exit`.

`python -m orchd.zenml.lost HOW PAYLOAD`, by the step's first process, with the step's environment. It ends with
`_warm.AGAIN` if the step may be started again within ZenML's own retries.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from uuid import UUID

from .. import _warm
from ..errors import OrchdError
from . import run_step


def _words(how: str) -> str:
    kind, _, number = how.partition(" ")
    if kind == "signal":
        try:
            return f"the step's process was ended by {signal.Signals(int(number)).name}"
        except ValueError:
            return f"the step's process was ended by signal {number}"
    return f"the step's process ended with exit code {number} in the middle of the step"


def _end_isolated(run_id: UUID) -> None:
    from zenml.client import Client as ZenML

    from . import reconcile
    from .orchestrator import OrchdOrchestrator

    orchestrator = ZenML().active_stack.orchestrator
    if isinstance(orchestrator, OrchdOrchestrator):
        try:
            with orchestrator.daemon() as daemon:
                reconcile.end_isolated(daemon, run_id)
        except OrchdError as fault:
            print(f"orchd: what the run has started could not be ended: {fault}", file=sys.stderr)


def main(words: Sequence[str]) -> int:
    how, payload = words[0], json.loads(words[1])
    if "root" in payload:  # not of a container, where all of that is ZenML's
        run_step.prepare(payload)
    from zenml.client import Client as ZenML
    from zenml.enums import ExecutionStatus

    from . import reconcile

    runs = ZenML().list_pipeline_runs(orchestrator_run_id=os.environ["ZENML_ORCHD_RUN_ID"], size=1).items
    if not runs:
        return 0  # ZenML knows nothing of it yet; the end of the run says it
    run = runs[0]
    stopped = run.status in (ExecutionStatus.STOPPING, ExecutionStatus.STOPPED)
    if payload["kind"] == "pipeline" and "root" in payload:  # nobody is there any more who could use what they make
        _end_isolated(run.id)
    arguments = payload["arguments"]
    name = arguments[arguments.index("--step_name") + 1] if "--step_name" in arguments else ""
    for row in reconcile.unfinished(run.id):
        if name and row.name != name:
            continue
        most = row.config.retry.max_retries if row.config.retry else 0
        if not stopped and payload["kind"] == "step" and int(os.environ.get("ORCH_ATTEMPT", "1")) <= most:
            return _warm.AGAIN
        reconcile.end_row(row, _words(how), stopped)
    if payload["kind"] == "pipeline":  # the function would have said it
        reconcile.end_run(run.id, stopped, _words(how))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

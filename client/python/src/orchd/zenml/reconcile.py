"""What ZenML cannot know by itself of a run of orchd: its id there, and how what could not say it has ended."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from zenml.client import Client as ZenML
from zenml.enums import ExecutionStatus
from zenml.logger import get_logger
from zenml.models import ExceptionInfo, PipelineRunUpdate
from zenml.orchestrators import publish_utils
from zenml.utils.time_utils import utc_now

from ..errors import NotFound, OrchdError, WaitTimedOut
from ._names import of_step

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse, StepRunResponse

    from ..client import Client
    from ..types import Run, Step
    from ._translate import Place

logger = get_logger(__name__)

OF_RUNS = "zenml."  # how the names of runs' secrets begin
STOP_SECONDS = 60.0  # that a run may take to end once it was cancelled
_ID_LENGTH = 36  # of ZenML's id of a step, with which the name of its run ends
_FORGOTTEN_SECONDS = 3600  # a secret without a run is of a client that died between the two calls

RUN_STATES = {
    "PENDING": ExecutionStatus.PROVISIONING,
    "RUNNING": ExecutionStatus.RUNNING,
    "PAUSED": ExecutionStatus.RUNNING,
    "HALTING": ExecutionStatus.RUNNING,
    "CANCELLING": ExecutionStatus.STOPPING,
    "SUCCEEDED": ExecutionStatus.COMPLETED,
    "FAILED": ExecutionStatus.FAILED,
    "CANCELLED": ExecutionStatus.STOPPED,
}
# Of states in which a step has no row in ZenML there is nothing to say.
STEP_STATES = {
    "RUNNING": ExecutionStatus.RUNNING,
    "STOPPING": ExecutionStatus.STOPPING,
    "FAILED": ExecutionStatus.FAILED,
    "CANCELLED": ExecutionStatus.STOPPED,
}


def find(daemon: Client, run: PipelineRunResponse) -> Run:
    """The run of orchd, also before a step has told ZenML its id. Raises NotFound."""
    found = daemon.list_runs(f"label.zenml.run={run.id}", limit=1)
    if found:
        return found[0]
    if run.orchestrator_run_id:
        return daemon.get_run(run.orchestrator_run_id)
    raise NotFound("RUN_NOT_FOUND", f"orchd knows nothing of ZenML's run {run.name} ({run.id})")


def say_id(run_id: UUID, orchestrator_run_id: str) -> None:
    """Before the first step does, so that the run can be stopped from the start."""
    try:
        ZenML().zen_store.update_run(
            run_id=run_id, run_update=PipelineRunUpdate(orchestrator_run_id=orchestrator_run_id)
        )
    except Exception as fault:  # the first step says it too
        logger.debug("The run's id could not be told: %s", fault)


def say_stopping(daemon: Client, run_id: UUID) -> None:
    """Of a run that was cancelled in orchd, so that its steps are stopped in ZenML too, and not failed."""
    run = ZenML().get_pipeline_run(run_id, hydrate=False)
    if run.status.is_finished or run.status == ExecutionStatus.STOPPING:
        return
    if daemon.get_run(run.orchestrator_run_id or "").state == "CANCELLING":
        publish_stopping(run_id)


def publish_stopping(run_id: UUID) -> None:
    publish_utils.publish_pipeline_run_status_update(run_id, ExecutionStatus.STOPPING, "cancelled in orchd")


def unfinished(run_id: UUID) -> list[StepRunResponse]:
    client = ZenML()
    found: list[StepRunResponse] = []
    number = 1
    while True:
        page = client.list_run_steps(pipeline_run_id=run_id, page=number, size=500)
        found += [row for row in page.items if not row.status.is_finished]
        if number >= page.total_pages:
            return found
        number += 1


def end_isolated(daemon: Client, run_id: UUID, force: bool = False) -> None:
    """Cancels what steps of a dynamic pipeline still run as runs of their own, and waits for their ends."""
    left = [one for one in daemon.list_runs(f"label.zenml.of={run_id}") if not one.is_done]
    for one in left:
        daemon.cancel_run(one, force=force)
    for one in left:
        with contextlib.suppress(WaitTimedOut):
            daemon.wait(one, timeout=STOP_SECONDS)
            delete_all_secrets(daemon, str(run_id), one.name[-_ID_LENGTH:])


def publish(daemon: Client, run: Run, run_id: UUID) -> None:
    """After the run has ended: what ZenML still takes for running has ended too."""
    if run.state == "SUCCEEDED":
        return
    end_isolated(daemon, run_id)
    rows = unfinished(run_id)
    if rows:
        steps = {step.template_name: step for step in daemon.list_steps(run)}
        for row in rows:
            end_row(row, _ending(steps.get(of_step(row.name)), run), run.state == "CANCELLED")
    end_run(run_id, run.state == "CANCELLED", run.message)


def end_run(run_id: UUID, stopped: bool, why: str) -> None:
    """Unless ZenML knows, or has derived it from the steps."""
    if ZenML().get_pipeline_run(run_id, hydrate=False).status.is_finished:
        return
    status = ExecutionStatus.STOPPED if stopped else ExecutionStatus.FAILED
    try:
        publish_utils.publish_pipeline_run_status_update(run_id, status, why[:200] or None)
    except Exception as fault:  # it has meanwhile
        logger.debug("The end of the run %s could not be told: %s", run_id, fault)


def _ending(step: Step | None, run: Run) -> str:
    return (step.message if step is not None else "") or run.message or f"the run is {run.state} in orchd"


def end_row(row: StepRunResponse, why: str, stopped: bool) -> None:
    status = ExecutionStatus.STOPPED if stopped else ExecutionStatus.FAILED
    told = None if stopped else ExceptionInfo(traceback=f"orchd: {why}")
    try:
        publish_utils.publish_step_run_status_update(row.id, status, end_time=utc_now(), exception_info=told)
    except Exception as fault:  # it ended by itself meanwhile
        logger.debug("The end of the step %s could not be told: %s", row.name, fault)


# Secrets: of one run, and only while it lasts.


@contextlib.contextmanager
def secrets_set(daemon: Client, secrets: Mapping[str, str]) -> Iterator[None]:
    """Sets them for what is submitted within; they go again if that fails."""
    try:
        for name, value in secrets.items():
            daemon.set_secret(name, value)
        yield
    except BaseException:
        delete_secrets(daemon, secrets)
        raise


def prefix(key: str, part: str) -> str:
    """Of the names of secrets that only this part of ZenML's run `key` has."""
    return f"{OF_RUNS}{key}.{part}"


def delete_all_secrets(daemon: Client, key: str, part: str = "") -> None:
    """Of a run that has ended and of the runs that its steps were, or of one part."""
    try:
        delete_secrets(daemon, [s.name for s in daemon.list_secrets() if s.name.startswith(prefix(key, part))])
    except OrchdError as fault:
        logger.warning("The secrets of the run %s could not be looked for: %s", key, fault)


def hooks(place: Place, key: str, secrets: Iterable[str]) -> dict[str, Any]:
    """Commands that the daemon runs at the end of the run, whether or not the client lives."""
    names = list(secrets)
    payload: dict[str, Any] = {
        "env": place.base,
        "root": place.root,
        "data_dir": place.data_dir,
        "run": key,
        "secrets": names,
    }
    if place.shared is not None:  # of containers, which may have ended before anything could tell ZenML
        payload["untold"] = True
    variables = [f"PYTHONPATH={place.base['PYTHONPATH']}"] if "PYTHONPATH" in place.base else []
    words = ["/usr/bin/env", *variables, sys.executable, "-m", "orchd.zenml_end", json.dumps(payload)]
    command = {"command": [word.replace("$", "$$") for word in words]}
    return {"on_failure": command, **({"on_success": command} if names else {})}


def delete_secrets(daemon: Client, names: Iterable[str]) -> None:
    for name in names:
        try:
            daemon.delete_secret(name, force=True)
        except NotFound:  # somebody else has
            continue
        except OrchdError as fault:
            logger.warning("The secret %s of a run could not be deleted: %s", name, fault)


def sweep(daemon: Client) -> None:
    """Takes the secrets of runs away that have ended without it, as those that were cancelled while nobody waited."""
    by_run: dict[str, list[Any]] = {}
    try:
        for secret in daemon.list_secrets():
            if secret.name.startswith(OF_RUNS):
                by_run.setdefault(secret.name.split(".")[1], []).append(secret)
        for key, secrets in by_run.items():
            runs = daemon.list_runs(f"label.zenml.run={key}", limit=1)
            if not runs or runs[0].is_done:
                end = _seconds(runs[0].end_time) if runs else 0.0
                delete_secrets(daemon, [s.name for s in secrets if _is_left(_seconds(s.update_time), end)])
    except OrchdError as fault:
        logger.warning("The secrets that runs have left could not be looked for: %s", fault)


def _is_left(made: float, end: float) -> bool:
    """One that is younger than the end of the run is of a submission that goes on with it."""
    return made <= end or time.time() - made > _FORGOTTEN_SECONDS


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment is not None else 0.0

"""ZenML's entry points on a host: nothing is downloaded, no folder /app; and what a step made is recorded in orchd."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from zenml.client import Client
from zenml.entrypoints.base_entrypoint_configuration import BaseEntrypointConfiguration
from zenml.entrypoints.step_entrypoint_configuration import StepEntrypointConfiguration
from zenml.execution.context import setup_execution_context
from zenml.logger import get_logger
from zenml.orchestrators.signal_handler import SignalHandler
from zenml.pipelines.dynamic.entrypoint_configuration import DynamicPipelineEntrypointConfiguration
from zenml.step_operators.step_operator_entrypoint_configuration import StepOperatorEntrypointConfiguration
from zenml.steps import BaseStep

from . import reconcile
from .orchestrator import OrchdOrchestrator

if TYPE_CHECKING:
    from zenml.config.step_configurations import Step
    from zenml.models import PipelineRunResponse, PipelineSnapshotResponse, StepRunResponse


logger = get_logger(__name__)


class _OnHost(BaseEntrypointConfiguration):
    outputs_in_orchd: dict[str, str] = {}

    def prepare_code_environment(self) -> None:
        """The code is where the client has it."""
        _say_who_stops()
        _end_forks()


def _say_who_stops() -> None:
    """A step that is asked to end looks at its run in ZenML, and takes itself for failed unless that is being stopped.
    Of a run that was cancelled in orchd only orchd knows."""
    asked: Any = SignalHandler
    if hasattr(asked, "is_orchds"):
        return
    asked.is_orchds = True
    finalize = asked._finalize_shutdown

    def ours(handler: Any) -> BaseException:
        try:
            orchestrator = Client().active_stack.orchestrator
            if isinstance(orchestrator, OrchdOrchestrator):
                with orchestrator.daemon() as daemon:
                    reconcile.say_stopping(daemon, handler._step_run.pipeline_run_id)
        except Exception as fault:  # the step is taken for failed then
            logger.warning("Whether the run is being stopped could not be asked: %s", fault)
        ended: BaseException = finalize(handler)
        return ended

    asked._finalize_shutdown = ours


def _end_forks() -> None:
    """A fork that the step makes and that comes back from its function is not the step: it must not say to ZenML that
    it is."""
    asked: Any = BaseStep
    if hasattr(asked, "is_orchds"):
        return
    asked.is_orchds = True
    call = asked.call_entrypoint

    def ours(step: Any, *args: Any, **kwargs: Any) -> Any:
        own = os.getpid()
        begins()
        try:
            return call(step, *args, **kwargs)
        finally:
            if os.getpid() != own:
                os._exit(0)
            ends()

    asked.call_entrypoint = ours


# What the worker has asked before it forked, by id.
snapshots: dict[str, PipelineSnapshotResponse] = {}
runs: dict[str, PipelineRunResponse] = {}
# By run, its steps that have succeeded, as their forks have told the worker.
step_runs: dict[str, dict[str, StepRunResponse]] = {}


def begins() -> None:
    """Called before the step's own function, each time; as below."""


def ends() -> None:
    """Called after it; as below."""


def made(run_id: str, step_run: StepRunResponse) -> None:
    """What a step that has succeeded tells; a worker's fork puts another function here."""


class StepOnHost(_OnHost, StepEntrypointConfiguration):
    def _load_snapshot(self) -> PipelineSnapshotResponse:
        return snapshots.get(self.entrypoint_args["snapshot_id"]) or super()._load_snapshot()

    def _run_step(self, step: Step, snapshot: PipelineSnapshotResponse) -> None:
        orchestrator = Client().active_stack.orchestrator
        orchestrator._prepare_run(snapshot=snapshot)
        if not isinstance(orchestrator, OrchdOrchestrator):
            orchestrator.run_step(step=step)
            return
        run_id = orchestrator.get_orchestrator_run_id()
        with setup_execution_context(runs.get(run_id)) as context:
            if context is not None:
                known = step_runs.get(run_id, {})
                context.step_runs.update({name: known[name] for name in step.spec.upstream_steps if name in known})
            step_run = orchestrator.launch(step)
        if step_run.status.is_successful:
            made(run_id, step_run)
        record(step_run, self.outputs_in_orchd)


class IsolatedStepOnHost(_OnHost, StepOperatorEntrypointConfiguration):
    def _run_step(self, step: Step, snapshot: PipelineSnapshotResponse) -> None:
        super()._run_step(step=step, snapshot=snapshot)
        record(Client().get_run_step(self.step_run.id), self.outputs_in_orchd)


class PipelineOnHost(_OnHost, DynamicPipelineEntrypointConfiguration):
    pass


ENTRIES: dict[str, Any] = {"step": StepOnHost, "isolated": IsolatedStepOnHost, "pipeline": PipelineOnHost}


def record(step_run: StepRunResponse, names: dict[str, str]) -> None:
    """Writes what ZenML keeps of each output where orchd looks for it: its name, version and URI."""
    if not names:
        return
    made = step_run.outputs
    for output, name in names.items():
        versions = [
            {
                "name": version.artifact.name,
                "version": version.version,
                "uri": version.uri,
                "id": str(version.id),
                "type": str(version.type.value),
            }
            for version in made.get(output, [])
        ]
        variable = "ORCH_OUTPUT_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()
        path = os.environ.get(variable)
        if path:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(versions[0] if len(versions) == 1 else versions, file)

"""ZenML's entry points in a container: its own, but that outputs are recorded in orchd too, and that orchd is asked
whether the run is being cancelled."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from zenml.client import Client
from zenml.entrypoints.base_entrypoint_configuration import BaseEntrypointConfiguration
from zenml.entrypoints.step_entrypoint_configuration import StepEntrypointConfiguration
from zenml.orchestrators.signal_handler import SignalHandler
from zenml.pipelines.dynamic.entrypoint_configuration import DynamicPipelineEntrypointConfiguration

from . import _entry, _own_run, reconcile, run_step
from .orchestrator import OrchdOrchestrator

if TYPE_CHECKING:
    from zenml.config.step_configurations import Step
    from zenml.models import PipelineSnapshotResponse

_OUTPUTS = "outputs_in_orchd"


class _InContainer(BaseEntrypointConfiguration):
    @classmethod
    def get_entrypoint_options(cls) -> dict[str, bool]:
        options: dict[str, bool] = super().get_entrypoint_options() | {_OUTPUTS: True}
        return options

    def prepare_code_environment(self) -> None:
        super().prepare_code_environment()
        _say_who_stops()
        _entry._end_forks()

    def run(self) -> None:
        try:
            super().run()
        except Exception:  # ZenML was told by its own launcher
            run_step.say_ended()
            raise
        run_step.say_ended()


class StepInContainer(_InContainer, StepEntrypointConfiguration):
    def _run_step(self, step: Step, snapshot: PipelineSnapshotResponse) -> None:
        orchestrator = Client().active_stack.orchestrator
        orchestrator._prepare_run(snapshot=snapshot)
        if not isinstance(orchestrator, OrchdOrchestrator):
            orchestrator.run_step(step=step)
            return
        made = orchestrator.launch(step)
        _entry.record(made, json.loads(self.entrypoint_args[_OUTPUTS]))


class PipelineInContainer(_InContainer, DynamicPipelineEntrypointConfiguration):
    pass


def _say_who_stops() -> None:
    """As of `_entry`; what orchd knows of this run it tells to the step's own token."""
    asked: Any = SignalHandler
    finalize = asked._finalize_shutdown

    def ours(handler: Any) -> BaseException:
        with contextlib.suppress(Exception):  # the step is taken for failed then
            if _own_run.state() == "CANCELLING":
                reconcile.publish_stopping(handler._step_run.pipeline_run_id)
        ended: BaseException = finalize(handler)
        return ended

    asked._finalize_shutdown = ours

"""The orchestrator: hands ZenML's snapshots to the daemon, and answers about them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from zenml.client import Client as ZenML
from zenml.enums import ExecutionMode, ExecutionStatus
from zenml.logger import get_logger
from zenml.metadata.metadata_types import Uri
from zenml.orchestrators import ContainerizedOrchestrator, SubmissionResult
from zenml.utils import source_utils

from .. import _discover
from .._flavors import Flavors
from ..errors import AlreadyExists, Refused
from . import _environment, _names, _translate, containers, reconcile
from ._settings import OrchdOrchestratorConfig, OrchdOrchestratorSettings

if TYPE_CHECKING:
    from zenml.config.base_settings import BaseSettings
    from zenml.config.build_configuration import BuildConfiguration
    from zenml.config.step_configurations import Step
    from zenml.config.step_run_info import StepRunInfo
    from zenml.models import PipelineRunResponse, PipelineSnapshotBase, PipelineSnapshotResponse, StepRunResponse
    from zenml.stack import Stack

    from ..client import Client
    from ..types import Run
    from ..types import Step as OrchdStep

logger = get_logger(__name__)

RUN_LABEL = "zenml.run"
_MOST_REASONS = 5  # told in an exception


class OrchdOrchestrator(ContainerizedOrchestrator):
    """Runs pipelines on orchd."""

    @property
    def config(self) -> OrchdOrchestratorConfig:
        return cast(OrchdOrchestratorConfig, self._config)

    @property
    def settings_class(self) -> type[BaseSettings] | None:
        return OrchdOrchestratorSettings

    @property
    def supported_execution_modes(self) -> list[ExecutionMode]:
        return [ExecutionMode.CONTINUE_ON_FAILURE, ExecutionMode.STOP_ON_FAILURE, ExecutionMode.FAIL_FAST]

    def daemon(self) -> Client:
        from ..client import Client  # not in a container, whose image need not have gRPC

        config = self.config
        return Client(config.server, token=config.token, ca=config.ca, data_dir=config.data_dir)

    @property
    def _data_dir(self) -> str:
        """Of the daemon on this machine; steps ask it there too."""
        return "" if self.config.server else _discover.find_data_dir(self.config.data_dir)

    # Images, which ZenML builds

    def get_docker_builds(self, snapshot: PipelineSnapshotBase) -> list[BuildConfiguration]:
        """Of the steps that go into containers, by what the daemon says of its orchestrators."""
        boxed = self._boxed(snapshot)
        if not boxed:
            return []
        common = snapshot.pipeline_configuration.docker_settings
        of_steps = [snapshot.step_configurations[n].config.docker_settings for n in boxed if n]
        wanted = "" in boxed or any(settings == common for settings in of_steps)
        return [
            one for one in super().get_docker_builds(snapshot) if (one.step_name in boxed if one.step_name else wanted)
        ]

    def _boxed(self, snapshot: PipelineSnapshotBase) -> dict[str, containers.Box]:
        """By step; the function of a dynamic pipeline, in which its steps run, has the name ''."""
        asked: dict[str, Any] = {"": snapshot} if snapshot.is_dynamic else dict(snapshot.step_configurations)
        names = {
            name: cast(OrchdOrchestratorSettings, self.get_settings(one)).orchestrator for name, one in asked.items()
        }
        if set(names.values()) <= {"local"}:
            return {}
        with self.daemon() as daemon:
            daemon._ensure_daemon()
            return containers.boxes(Flavors(daemon, ""), names)

    # In a step

    @property
    def can_run_isolated_steps(self) -> bool:
        """From within a container nothing can be submitted: steps of a dynamic pipeline run beside its function."""
        return not containers.is_inside()

    def get_orchestrator_run_id(self) -> str:
        run_id = os.environ.get("ZENML_ORCHD_RUN_ID") or os.environ.get("ORCH_RUN_ID")
        if not run_id:
            raise RuntimeError("this process is no step of orchd: neither ZENML_ORCHD_RUN_ID nor ORCH_RUN_ID is set")
        return run_id

    def launch(self, step: Step) -> StepRunResponse:
        """As `run_step`, with what became of it."""
        from zenml.execution.step.utils import launch_step

        assert self._active_snapshot
        return launch_step(
            snapshot=self._active_snapshot,
            step=step,
            orchestrator_run_id=self.get_orchestrator_run_id(),
            retry=not self.config.handles_step_retries,
        )

    # Submitting

    def submit_pipeline(
        self,
        snapshot: PipelineSnapshotResponse,
        stack: Stack,
        base_environment: dict[str, str],
        step_environments: dict[str, dict[str, str]],
        placeholder_run: PipelineRunResponse | None = None,
    ) -> SubmissionResult | None:
        submission = _Submission.of(placeholder_run)
        place = self._place()
        secrets = place.take(base_environment, submission.prefix)
        settings = {
            name: cast(OrchdOrchestratorSettings, self.get_settings(step))
            for name, step in snapshot.step_configurations.items()
        }
        written = _translate.steps(snapshot.step_configurations, settings, step_environments, str(snapshot.id), place)
        boxed = self._boxed(snapshot)
        if boxed:
            containers.put_in(
                dict(zip(snapshot.step_configurations, written)),
                boxed,
                {name: self.get_image(snapshot, name) for name in boxed},
                step_environments,
                base_environment,
                place,
                stack,
            )
        return self._submit(snapshot, place, secrets, written, submission)

    def submit_dynamic_pipeline(
        self,
        snapshot: PipelineSnapshotResponse,
        stack: Stack,
        environment: dict[str, str],
        placeholder_run: PipelineRunResponse | None = None,
    ) -> SubmissionResult | None:
        """The function of the pipeline runs as one step. Also to go on with a run that was paused or failed."""
        submission = _Submission.of(placeholder_run)
        place = self._place()
        secrets = place.take(environment, submission.prefix)
        asked = cast(OrchdOrchestratorSettings, self.get_settings(snapshot))
        arguments = ["--snapshot_id", str(snapshot.id)] + (["--run_id", submission.key] if placeholder_run else [])
        one: dict[str, Any] = {
            "name": "pipeline",
            "command": place.command("pipeline", arguments, {}, asked.isolation),
            **_translate.settings_of(asked),
        }
        boxed = self._boxed(snapshot)
        if boxed:
            containers.put_in(
                {"": one}, boxed, {"": self.get_image(snapshot)}, {"": environment}, environment, place, stack
            )
        if placeholder_run and placeholder_run.orchestrator_run_id:  # ZenML knows the run by the id of its first one
            one["env"] = {**one.get("env", {}), "ZENML_ORCHD_RUN_ID": placeholder_run.orchestrator_run_id}
        wanted = _translate.resources(snapshot.pipeline_configuration.resource_settings)
        if wanted:
            one["resources"] = wanted
        return self._submit(snapshot, place, secrets, [one], submission)

    def _place(self) -> _translate.Place:
        return _translate.Place.of_client(source_utils.get_source_root(), self._data_dir)

    def _submit(
        self,
        snapshot: PipelineSnapshotResponse,
        place: _translate.Place,
        secrets: dict[str, str],
        written: list[dict[str, Any]],
        submission: _Submission,
    ) -> SubmissionResult:
        asked = cast(OrchdOrchestratorSettings, self.get_settings(snapshot))
        configuration = snapshot.pipeline_configuration
        if asked.isolation != "process" and any("image" not in one for one in written):
            from . import _workers

            _workers.start(place.socket, place.base, place.root, self.config.worker_idle_seconds)
        labels = {RUN_LABEL: submission.key, "zenml.pipeline": configuration.name}
        pipeline = _translate.pipeline(configuration.name, place, written, labels)
        pipeline["execution_mode"] = configuration.execution_mode.value.upper()
        pipeline["hooks"] = reconcile.hooks(place, submission.key, secrets)
        if asked.max_parallelism:
            pipeline["max_parallel"] = asked.max_parallelism
        if asked.run_timeout is not None:
            pipeline["timeout"] = _translate._duration(asked.run_timeout)
        with self.daemon() as daemon:
            daemon._ensure_daemon()
            reconcile.sweep(daemon)
            with reconcile.secrets_set(daemon, secrets):
                run = submission.submit(daemon, pipeline)
        placeholder_run = submission.placeholder_run
        if placeholder_run and not placeholder_run.orchestrator_run_id:
            reconcile.say_id(placeholder_run.id, run.id)
        logger.info("orchd runs it as `%s`: %s", run.name, run.run_metadata.get("orchestrator_url", ""))

        def wait() -> None:
            with self.daemon() as daemon:
                self._wait(daemon, run, placeholder_run, secrets)

        return SubmissionResult(metadata=_metadata(run), wait_for_completion=wait if asked.synchronous else None)

    def _wait(
        self, daemon: Client, run: Run, placeholder_run: PipelineRunResponse | None, secrets: Iterable[str]
    ) -> None:
        ended = daemon.wait(run)
        reconcile.delete_secrets(daemon, secrets)  # of one that was cancelled no hook does
        if placeholder_run:
            reconcile.publish(daemon, ended, placeholder_run.id)
        if ended.state == "FAILED":
            raise RuntimeError(_why_failed(daemon.list_steps(run, "state=FAILED")) or ended.message)

    # Steps of dynamic pipelines that have a process of their own: a run of orchd each

    def submit_isolated_step(self, step_run_info: StepRunInfo, environment: dict[str, str]) -> None:
        step_run = step_run_info.step_run
        key = str(step_run_info.run_id)
        place = self._place()
        secrets = place.take(environment, reconcile.prefix(key, str(step_run.id)))
        settings = cast(OrchdOrchestratorSettings, self.get_settings(step_run_info))
        outputs = _names.distinct(step_run_info.config.outputs)
        arguments = ["--snapshot_id", str(step_run_info.snapshot.id), "--step_name", step_run_info.pipeline_step_name]
        arguments += ["--step_run_id", str(step_run.id)]
        needs_fresh = _environment.needs_fresh_process(step_run_info.config.environment)
        one: dict[str, Any] = {
            "name": _names.of_step(step_run.name),
            "command": place.command("isolated", arguments, outputs, "process" if needs_fresh else settings.isolation),
            "outputs": {name: {"type": "zenml", "value": True} for name in outputs.values()},
            **_translate.settings_of(settings),
        }
        command = step_run_info.config.command
        if command is not None:  # nothing of ZenML's is in it
            one["command"] = [_translate.plain_text(word) for word in command]
            del one["outputs"]
        wanted = _translate.resources(step_run_info.config.resource_settings)
        if wanted:
            one["resources"] = wanted
        if "ZENML_ORCHD_RUN_ID" in os.environ or "ORCH_RUN_ID" in os.environ:
            one["env"] = {"ZENML_ORCHD_RUN_ID": self.get_orchestrator_run_id()}
        labels = {"zenml.of": key, "zenml.step": step_run.name, "zenml.pipeline": step_run_info.pipeline.name}
        pipeline = _translate.pipeline(step_run_info.pipeline.name, place, [one], labels)
        if secrets:
            pipeline["hooks"] = reconcile.hooks(place, "", secrets)
        with self.daemon() as daemon:
            _check_places(daemon, [one])
            with reconcile.secrets_set(daemon, secrets):
                daemon.submit(pipeline, name=_isolated_name(step_run), request_id=f"zenml-step-{step_run.id}")

    def get_isolated_step_status(self, step_run: StepRunResponse) -> ExecutionStatus:
        with self.daemon() as daemon:
            return reconcile.RUN_STATES[daemon.get_run(_isolated_name(step_run)).state]

    def wait_for_isolated_step(self, step_run: StepRunResponse) -> ExecutionStatus:
        """The daemon says when it has ended."""
        with self.daemon() as daemon:
            ended = daemon.wait(_isolated_name(step_run))
        if ended.state != "SUCCEEDED":
            row = ZenML().get_run_step(step_run.id, hydrate=False)
            if row.config.command is None and not row.status.is_finished and row.status != ExecutionStatus.RETRYING:
                reconcile.end_row(row, ended.message, ended.state == "CANCELLED")
        return reconcile.RUN_STATES[ended.state]

    def stop_isolated_step(self, step_run: StepRunResponse) -> None:
        with self.daemon() as daemon:
            daemon.cancel_run(_isolated_name(step_run))

    def cleanup_isolated_step(self, step_run: StepRunResponse) -> None:
        """After its end; of one that was cancelled no hook does it."""
        with self.daemon() as daemon:
            reconcile.delete_all_secrets(daemon, str(step_run.pipeline_run_id), str(step_run.id))

    # Afterwards

    def fetch_status(
        self, run: PipelineRunResponse, include_steps: bool = False
    ) -> tuple[ExecutionStatus | None, dict[str, ExecutionStatus] | None]:
        with self.daemon() as daemon:
            known = reconcile.find(daemon, run)
            states = {step.template_name: step.state for step in daemon.list_steps(known)} if include_steps else {}
        state = reconcile.RUN_STATES.get(known.state)
        if not include_steps:
            return state, None
        of_rows = {name: states.get(_names.of_step(name), "") for name in run.steps}
        return state, {n: reconcile.STEP_STATES[one] for n, one in of_rows.items() if one in reconcile.STEP_STATES}

    def _stop_run_gracefully(self, pipeline_run: PipelineRunResponse) -> None:
        self._stop(pipeline_run, force=False)

    def _stop_run_forcefully(self, pipeline_run: PipelineRunResponse) -> None:
        self._stop(pipeline_run, force=True)

    def _stop(self, pipeline_run: PipelineRunResponse, force: bool) -> None:
        with self.daemon() as daemon:
            run = reconcile.find(daemon, pipeline_run)
            daemon.cancel_run(run, force=force)
            reconcile.end_isolated(daemon, pipeline_run.id, force)
            ended = daemon.wait(run, timeout=reconcile.STOP_SECONDS)
            reconcile.delete_all_secrets(daemon, str(pipeline_run.id))
            reconcile.publish(daemon, ended, pipeline_run.id)


@dataclass(frozen=True)
class _Submission:
    """One of a run of ZenML's, which has several if it is gone on with."""

    placeholder_run: PipelineRunResponse | None
    key: str  # of the run in ZenML
    again: str  # empty: the first one

    @staticmethod
    def of(placeholder_run: PipelineRunResponse | None) -> _Submission:
        again = uuid.uuid4().hex[:8] if placeholder_run and placeholder_run.orchestrator_run_id else ""
        return _Submission(placeholder_run, str(placeholder_run.id if placeholder_run else uuid.uuid4()), again)

    @property
    def prefix(self) -> str:
        return reconcile.prefix(self.key, self.again or "first")

    def submit(self, daemon: Client, pipeline: dict[str, Any]) -> Run:
        """Under the name that the run has in ZenML, or one like it if that is taken; only once."""
        name = _names.fitting(self.placeholder_run.name, dots=True) if self.placeholder_run else ""
        request_id = f"zenml-{self.key}{self.again}"
        try:
            return daemon.submit(pipeline, name=name, request_id=request_id)
        except AlreadyExists:
            other = f"{name[:180]}-{self.again or self.key[:8]}"
            return daemon.submit(pipeline, name=other, request_id=f"{request_id}-2")


def _check_places(daemon: Client, written: list[dict[str, Any]]) -> None:
    """Steps need this client's files and interpreter. Raises Refused where these are not."""
    flavors = Flavors(daemon, "")
    for step in written:
        flavor, _ = flavors.of(step)
        if flavor in containers.FLAVORS:
            where = step.get("orchestrator", "default")
            raise Refused(
                "ORCHESTRATOR_ELSEWHERE",
                f"the step `{step['name']}` would run on orchd's orchestrator `{where}` of the flavor {flavor}, "
                "whose containers have neither this client's virtual environment nor its files: name one of the flavor "
                "local",
            )


def _isolated_name(step_run: StepRunResponse) -> str:
    """Of the run that a step is in orchd: found again from what ZenML knows."""
    return f"{_names.fitting(step_run.name, dots=True)[:150]}-{step_run.id}"


def _why_failed(failed: list[OrchdStep]) -> str:
    """ZenML's own words, and what its log cannot tell: of each step that did not end by itself, why."""
    if not failed:
        return ""
    told = f"Pipeline run has failed due to failure in step(s): {', '.join(step.name for step in failed)}"
    others = [step for step in failed if step.reason != "EXIT_CODE"]
    for step in others[:_MOST_REASONS]:
        told += f"\n  {step.name}: {step.reason}: {step.message}"
    return told + (f"\n  and {len(others) - _MOST_REASONS} more" if len(others) > _MOST_REASONS else "")


def _metadata(run: Run) -> dict[str, Any]:
    """For ZenML: addresses are told from texts there."""
    found: dict[str, Any] = {}
    for name, value in dict(run.run_metadata).items():
        found[name] = Uri(str(value)) if name.endswith("_url") else str(value)
    return found

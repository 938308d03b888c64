"""The calls that change something, and those that wait for it. Of both clients."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Union

from . import spec
from ._base import STREAM_SECONDS, fill_parameters, name_of, set_word
from ._calls import Backoff, closing
from ._grpc import grpc
from ._marks import TAKEN_OVER
from ._messages import fill_duration
from ._reading import Reading
from ._start import start_daemon
from ._status import error_of
from .errors import PipelineInvalid, Refused, Unreachable, Violation, WaitTimedOut
from .explained import Plan
from .types import Event, Run, Secret

PipelineLike = Union[str, "os.PathLike[str]", Mapping[str, Any], Any]

_WAIT_SECONDS = 30.0  # of one WaitRun


class Changing(Reading):
    """What can be asked of a daemon."""

    # Runs

    async def submit(
        self,
        pipeline: PipelineLike,
        parameters: Mapping[str, Any] | None = None,
        name: str = "",
        orchestrator: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        *,
        priority: int = 0,
        execution_mode: str = "",
        max_parallel: int = 0,
        timeout: str | float | None = None,
        use_cache: bool | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        validate_only: bool = False,
    ) -> Run:
        """Submits a pipeline and answers when the run is on the server's disk.

        `pipeline` is the path of a YAML or JSON file, a mapping of the same shape, or an orch.v1.Pipeline message.
        Local steps run in `source_dir`: by default the file's folder, else the current one. `timeout` is the run's, as
        `10m` or in seconds. With the same `request_id` a second call answers the first run and starts nothing.
        Raises PipelineInvalid with all faults, AlreadyExists if the name is taken, NotFound, Refused, Unreachable.
        """
        loaded = spec.load(pipeline, source_dir)
        request = self._submission(
            loaded, parameters, orchestrator, max_parallel, use_cache, name=name, labels=labels, priority=priority,
            request_id=request_id or uuid.uuid4().hex, validate_only=validate_only,
        )  # fmt: skip
        set_word(request, "execution_mode", execution_mode, "execution mode")
        if timeout is not None:
            try:
                fill_duration(request.timeout, timeout)
            except ValueError as fault:
                raise Refused("TIMEOUT_INVALID", f"the time-out: {fault}") from None
        await self._ensure_daemon()
        try:
            return Run.from_message(await self._connection.unary("RunService.SubmitRun", request))
        except PipelineInvalid as invalid:
            raise PipelineInvalid(
                invalid.reason, invalid.message, [loaded.place(fault) for fault in invalid.violations], invalid.code
            ) from None

    def _submission(
        self,
        loaded: spec.Loaded,
        parameters: Mapping[str, Any] | None,
        orchestrator: str,
        max_parallel: int,
        use_cache: bool | None,
        **fields: Any,
    ) -> Any:
        request = self._request(
            "SubmitRunRequest",
            pipeline=loaded.message,
            orchestrator=orchestrator,
            max_parallel=max_parallel,
            **fields,
        )
        fill_parameters(request.parameters, parameters)
        if use_cache is not None:
            request.use_cache = use_cache
        request.submitter.host = socket.gethostname()
        request.submitter.source_dir = loaded.source_dir
        for variable in TAKEN_OVER:
            if variable in os.environ:
                request.submitter.environment[variable] = os.environ[variable]
        return request

    async def _ensure_daemon(self) -> None:
        if not self._start:
            return
        try:
            self._connection.open(self._discover())
        except Unreachable as away:
            if away.reason != "DAEMON_NOT_RUNNING":
                raise
            started = await self._connection.aside(lambda: start_daemon(self._data_dir, self._token))
            self._connection.open(started)

    async def validate(
        self,
        pipeline: PipelineLike,
        parameters: Mapping[str, Any] | None = None,
        orchestrator: str = "",
    ) -> list[Violation]:
        """All faults of a pipeline, those that only the server can see too; an empty list: it is good."""
        try:
            loaded = spec.load(pipeline)
        except PipelineInvalid as invalid:
            return list(invalid.violations)
        request = self._request("ValidatePipelineRequest", pipeline=loaded.message, orchestrator=orchestrator)
        fill_parameters(request.parameters, parameters)
        answer = await self._connection.unary("PipelineService.ValidatePipeline", request)
        return [loaded.place(Violation(v.field, v.description, v.reason)) for v in answer.violations]

    async def plan(
        self,
        pipeline: PipelineLike,
        parameters: Mapping[str, Any] | None = None,
        orchestrator: str = "",
        *,
        max_parallel: int = 0,
        use_cache: bool | None = None,
        source_dir: str | os.PathLike[str] | None = None,
        max_steps: int = 0,
        native: bool = False,
    ) -> Plan:
        """What a submission would do, without doing it: which steps would run or are in the cache, and how long it
        would take by the runs before; with `native` also what the platforms would be asked to make. Has at most
        `max_steps` steps (0: 10,000, with `native` 1,000). Raises PipelineInvalid with all faults, those that only
        the server can see too."""
        loaded = spec.load(pipeline, source_dir)
        request = self._request("PlanRunRequest", max_steps=max_steps, native=native)
        request.submission.CopyFrom(self._submission(loaded, parameters, orchestrator, max_parallel, use_cache))
        answer = await self._connection.unary("PipelineService.PlanRun", request)
        faults = [loaded.place(Violation(v.field, v.description, v.reason)) for v in answer.violations]
        if faults:
            raise PipelineInvalid("PIPELINE_INVALID", "there is nothing to plan:", faults)
        warnings = [loaded.place(Violation(v.field, v.description, v.reason)) for v in answer.warnings]
        return Plan.from_message(answer, warnings)

    async def cancel_run(
        self, run: str | Run, force: bool = False, steps: Sequence[str] = (), request_id: str | None = None
    ) -> Run:
        """Asks the run (or only some steps) to stop; answers when the wish is on the server's disk."""
        request = self._request(
            "CancelRunRequest",
            name=name_of(run),
            force=force,
            steps=steps,
            request_id=request_id or uuid.uuid4().hex,
        )
        return Run.from_message(await self._connection.unary("RunService.CancelRun", request))

    async def pause_run(self, run: str | Run) -> Run:
        """Nothing more of it starts; what runs goes on."""
        request = self._request("PauseRunRequest", name=name_of(run), request_id=uuid.uuid4().hex)
        return Run.from_message(await self._connection.unary("RunService.PauseRun", request))

    async def resume_run(self, run: str | Run) -> Run:
        """A paused run goes on."""
        request = self._request("ResumeRunRequest", name=name_of(run), request_id=uuid.uuid4().hex)
        return Run.from_message(await self._connection.unary("RunService.ResumeRun", request))

    async def skip_step(self, run: str | Run, *steps: str) -> Run:
        """Ends steps that have not started as skipped; all of them or none."""
        request = self._request("SkipStepRequest", run=name_of(run), steps=steps, request_id=uuid.uuid4().hex)
        return Run.from_message(await self._connection.unary("RunService.SkipStep", request))

    async def retry_run(
        self,
        run: str | Run,
        steps: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
        use_cache: bool | None = None,
        request_id: str | None = None,
    ) -> Run:
        """Goes on with a run that failed or was cancelled, as its next generation: with what did not succeed, or with
        these steps and all that depends on them; a parameter that is changed chooses the steps that use it."""
        request = self._request(
            "RetryRunRequest", name=name_of(run), steps=steps, request_id=request_id or uuid.uuid4().hex
        )
        fill_parameters(request.parameters, parameters)
        if use_cache is not None:
            request.use_cache = use_cache
        return Run.from_message(await self._connection.unary("RunService.RetryRun", request))

    async def delete_run(self, run: str | Run) -> None:
        """Takes a run that has ended away for good."""
        request = self._request("DeleteRunRequest", name=name_of(run), request_id=uuid.uuid4().hex)
        await self._connection.unary("RunService.DeleteRun", request)

    async def wait(self, run: str | Run, timeout: float | None = None) -> Run:
        """Waits until the run has ended, however it ended, also over restarts of the daemon.

        Raises WaitTimedOut after `timeout` seconds, Unreachable if the daemon stays away.
        """
        end = None if timeout is None else time.monotonic() + timeout
        backoff = Backoff(max(60.0, self._connection.patience))
        generation = 0
        while True:
            left = _WAIT_SECONDS if end is None else min(_WAIT_SECONDS, max(0.001, end - time.monotonic()))
            request = self._request("WaitRunRequest", name=name_of(run), generation=generation)
            fill_duration(request.timeout, left)
            answer = Run.from_message(
                await self._connection.unary("RunService.WaitRun", request, timeout=left + 10, backoff=backoff)
            )
            if answer.is_done:
                return answer
            generation = answer.generation  # its end is meant, whoever retries it
            if end is not None and time.monotonic() >= end:
                raise WaitTimedOut(
                    "WAIT_TIMED_OUT", f"the run {answer.name} is still {answer.state} after {timeout} s; it goes on"
                )
            backoff.reset()

    async def watch(self, run: str | Run = "", snapshot: bool = False, until_done: bool = True) -> AsyncIterator[Event]:
        """Committed events as they come, resuming by itself; of one run (until it has ended) or of all.

        With `snapshot` it begins with how the runs stand (and the steps, if a run is named) as events with
        `is_snapshot`. They also come in the middle if the server no longer has the events that were missed.
        """
        name = name_of(run)
        request = self._request("WatchRunsRequest", run=name, snapshot=snapshot, until_done=until_done and bool(name))
        backoff = Backoff(max(60.0, self._connection.patience))
        ids: dict[str, str] = {}
        while True:
            ended = False
            try:
                async with closing(self._connection.stream("RunService.WatchRuns", request, STREAM_SECONDS)) as answers:
                    async for answer in answers:
                        backoff.reset()
                        kind = answer.WhichOneof("message")
                        partial = kind == "snapshot" and not answer.snapshot.last
                        if answer.resume_token and not partial:
                            request.resume_token, request.snapshot = answer.resume_token, False
                        if kind == "event":
                            event = Event.from_message(answer.event)
                            ended = ended or event.ends_run
                            yield event
                        elif kind == "snapshot":
                            for message in answer.snapshot.runs:
                                ids[message.name] = message.id
                                event = Event.from_snapshot(message, message.id)
                                ended = ended or event.ends_run
                                yield event
                            for message in answer.snapshot.steps:
                                yield Event.from_snapshot(message, ids.get(message.run, ""))
                if request.until_done or ended:
                    return
                # A server that stops ends its streams well.
                if not await self._connection.pause(backoff):
                    raise Unreachable("STREAM_ENDED", f"{self._connection.server} ends every stream at once")
            except grpc.RpcError as failure:
                code = failure.code()
                if code == grpc.StatusCode.OUT_OF_RANGE and request.resume_token:
                    request.resume_token, request.snapshot = "", True
                    continue
                late = code == grpc.StatusCode.DEADLINE_EXCEEDED
                if not late and not await self._connection.may_retry(failure, backoff):
                    raise error_of(failure, self._connection.server) from None

    # Secrets

    async def set_secret(self, name: str, value: str | bytes) -> Secret:
        """Creates the secret or replaces its value, exactly as given: 1 byte to 64 KiB. The next attempt of every step
        that names it gets the new one. No call answers a value."""
        request = self._request("SetSecretRequest", name=name, request_id=uuid.uuid4().hex)
        try:
            if isinstance(value, bytes):
                request.data = value
            else:
                request.text = value
            good = True
        except (TypeError, ValueError):
            good = False
        if not good:  # raised here, since that error has the value
            raise Refused("SECRET_INVALID", "a secret is bytes, or text that UTF-8 can write")
        return Secret.from_message(await self._connection.unary("SecretService.SetSecret", request))

    async def list_secrets(self, limit: int | None = None) -> list[Secret]:
        """By name, never with values."""
        request = self._request("ListSecretsRequest")
        pages = await self._pages("SecretService.ListSecrets", request, "secrets", limit)
        return [Secret.from_message(m) for m in pages]

    async def delete_secret(self, name: str, force: bool = False) -> None:
        """Raises Refused (SECRET_IN_USE) while a step that has not ended names it, unless `force`."""
        request = self._request("DeleteSecretRequest", name=name, force=force, request_id=uuid.uuid4().hex)
        await self._connection.unary("SecretService.DeleteSecret", request)

    # The server

    async def sign_in_link(self, run: str | Run = "") -> str:
        """A link to the run's page (or the list of runs) that signs a browser in; for one use within 5 minutes."""
        request = self._request("CreateSignInLinkRequest", run=name_of(run))
        answer = await self._connection.unary("AdminService.CreateSignInLink", request)
        return str(answer.url)

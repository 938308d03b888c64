"""The client. One object serves any number of threads."""

from __future__ import annotations

import itertools
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Union

import grpc

from . import spec
from ._calls import Backoff, Connection
from ._discover import Endpoint, discover, given_server
from ._messages import fill_duration, fill_value, message_class
from ._start import start_daemon
from ._status import error_of
from .errors import PipelineInvalid, Refused, Unreachable, Violation, WaitTimedOut
from .types import Artifact, Event, LogChunk, Run, ServerInfo, Step

PipelineLike = Union[str, "os.PathLike[str]", Mapping[str, Any], Any]

# What a local step takes over from whoever submitted it; the server takes no others.
_TAKEN_OVER = ("PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV")
_WAIT_SECONDS = 30.0  # of one WaitRun
_STREAM_SECONDS = 300.0  # after which a stream is resumed, so that a dead connection is noticed
_PAGE = 1000


def _name_of(run: str | Run) -> str:
    return run.id or run.name if isinstance(run, Run) else run


class Client:
    """Talks to orchd.

    Without arguments it finds the daemon and the token by itself: ORCH_SERVER and ORCH_TOKEN, else the data directory
    (ORCH_DATA_DIR, else ~/.local/share/orchd). `submit` starts a daemon for this user if none runs, unless `start` is
    false or a server was named. `timeout` limits one call, in seconds; `patience` is for how long a call is tried again
    while the daemon is away, which never does a thing twice. Nothing is opened before the first call.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        start: bool = True,
        *,
        project: str = "",
        timeout: float = 30.0,
        patience: float = 15.0,
    ) -> None:
        self._server = server
        self._token = token
        self._data_dir = os.fspath(data_dir) if data_dir is not None else None
        self._start = start and not given_server(server)
        self._project = project
        self._connection = Connection(self._discover, timeout, patience)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _discover(self) -> Endpoint:
        return discover(self._server, self._token, self._data_dir)

    def _request(self, kind: str, /, **fields: Any) -> Any:
        request = message_class(kind)(**fields)
        if "project" in request.DESCRIPTOR.fields_by_name:
            request.project = self._project
        return request

    # Runs

    def submit(
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
        request = self._request(
            "SubmitRunRequest",
            pipeline=loaded.message,
            name=name,
            orchestrator=orchestrator,
            labels=labels,
            priority=priority,
            request_id=request_id or uuid.uuid4().hex,
            validate_only=validate_only,
            max_parallel=max_parallel,
        )
        for key, value in (parameters or {}).items():
            try:
                fill_value(request.parameters[key], value)
            except (TypeError, ValueError) as fault:
                raise Refused("PARAMETER_INVALID", f"the parameter `{key}`: {fault}") from None
        if execution_mode:
            words = request.DESCRIPTOR.fields_by_name["execution_mode"].enum_type.values_by_name
            if execution_mode.upper() not in words:
                raise Refused("EXECUTION_MODE_INVALID", f"`{execution_mode}` is no execution mode")
            request.execution_mode = words[execution_mode.upper()].number
        if timeout is not None:
            try:
                fill_duration(request.timeout, timeout)
            except ValueError as fault:
                raise Refused("TIMEOUT_INVALID", f"the time-out: {fault}") from None
        if use_cache is not None:
            request.use_cache = use_cache
        request.submitter.host = socket.gethostname()
        request.submitter.source_dir = loaded.source_dir
        for variable in _TAKEN_OVER:
            if variable in os.environ:
                request.submitter.environment[variable] = os.environ[variable]
        self._ensure_daemon()
        try:
            return Run.from_message(self._connection.unary("RunService.SubmitRun", request))
        except PipelineInvalid as invalid:
            raise PipelineInvalid(
                invalid.reason, invalid.message, [loaded.place(fault) for fault in invalid.violations], invalid.code
            ) from None

    def _ensure_daemon(self) -> None:
        if not self._start:
            return
        try:
            self._connection.open(self._discover())
        except Unreachable as away:
            if away.reason != "DAEMON_NOT_RUNNING":
                raise
            self._connection.open(start_daemon(self._data_dir, self._token))

    def validate(
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
        for key, value in (parameters or {}).items():
            fill_value(request.parameters[key], value)
        answer = self._connection.unary("PipelineService.ValidatePipeline", request)
        return [loaded.place(Violation(v.field, v.description, v.reason)) for v in answer.violations]

    def get_run(self, run: str | Run) -> Run:
        """By name or id. Raises NotFound."""
        request = self._request("GetRunRequest", name=_name_of(run))
        return Run.from_message(self._connection.unary("RunService.GetRun", request))

    def get_pipeline_run(self, name: str | Run) -> Run:
        """The same as get_run."""
        return self.get_run(name)

    def list_runs(self, filter: str = "", limit: int | None = None) -> list[Run]:
        """Newest first. `filter` has terms joined by AND: `state=RUNNING AND pipeline=digits`."""
        request = self._request("ListRunsRequest", filter=filter)
        return [Run.from_message(m) for m in self._pages("RunService.ListRuns", request, "runs", limit)]

    def list_steps(self, run: str | Run, filter: str = "", limit: int | None = None) -> list[Step]:
        """In the order of the pipeline."""
        request = self._request("ListStepsRequest", run=_name_of(run), filter=filter)
        return [Step.from_message(m) for m in self._pages("RunService.ListSteps", request, "steps", limit)]

    def get_step(self, run: str | Run, step: str) -> Step:
        """With its attempts, command and environment."""
        request = self._request("GetStepRequest", run=_name_of(run), step=step)
        return Step.from_message(self._connection.unary("RunService.GetStep", request))

    def cancel_run(
        self, run: str | Run, force: bool = False, steps: Sequence[str] = (), request_id: str | None = None
    ) -> Run:
        """Asks the run (or only some steps) to stop; answers when the wish is on the server's disk."""
        request = self._request(
            "CancelRunRequest",
            name=_name_of(run),
            force=force,
            steps=steps,
            request_id=request_id or uuid.uuid4().hex,
        )
        return Run.from_message(self._connection.unary("RunService.CancelRun", request))

    def pause_run(self, run: str | Run) -> Run:
        """Nothing more of it starts; what runs goes on."""
        request = self._request("PauseRunRequest", name=_name_of(run), request_id=uuid.uuid4().hex)
        return Run.from_message(self._connection.unary("RunService.PauseRun", request))

    def resume_run(self, run: str | Run) -> Run:
        """A paused run goes on."""
        request = self._request("ResumeRunRequest", name=_name_of(run), request_id=uuid.uuid4().hex)
        return Run.from_message(self._connection.unary("RunService.ResumeRun", request))

    def skip_step(self, run: str | Run, *steps: str) -> Run:
        """Ends steps that have not started as skipped; all of them or none."""
        request = self._request("SkipStepRequest", run=_name_of(run), steps=steps, request_id=uuid.uuid4().hex)
        return Run.from_message(self._connection.unary("RunService.SkipStep", request))

    def retry_run(
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
            "RetryRunRequest", name=_name_of(run), steps=steps, request_id=request_id or uuid.uuid4().hex
        )
        for name, value in (parameters or {}).items():
            fill_value(request.parameters[name], value)
        if use_cache is not None:
            request.use_cache = use_cache
        return Run.from_message(self._connection.unary("RunService.RetryRun", request))

    def delete_run(self, run: str | Run) -> None:
        """Takes a run that has ended away for good."""
        request = self._request("DeleteRunRequest", name=_name_of(run), request_id=uuid.uuid4().hex)
        self._connection.unary("RunService.DeleteRun", request)

    def wait(self, run: str | Run, timeout: float | None = None) -> Run:
        """Waits until the run has ended, however it ended, also over restarts of the daemon.

        Raises WaitTimedOut after `timeout` seconds, Unreachable if the daemon stays away.
        """
        end = None if timeout is None else time.monotonic() + timeout
        backoff = Backoff(max(60.0, self._connection.patience))
        generation = 0
        while True:
            left = _WAIT_SECONDS if end is None else min(_WAIT_SECONDS, max(0.001, end - time.monotonic()))
            request = self._request("WaitRunRequest", name=_name_of(run), generation=generation)
            fill_duration(request.timeout, left)
            answer = Run.from_message(
                self._connection.unary("RunService.WaitRun", request, timeout=left + 10, backoff=backoff)
            )
            if answer.is_done:
                return answer
            generation = answer.generation  # its end is meant, whoever retries it
            if end is not None and time.monotonic() >= end:
                raise WaitTimedOut(
                    "WAIT_TIMED_OUT", f"the run {answer.name} is still {answer.state} after {timeout} s; it goes on"
                )
            backoff.reset()

    def watch(self, run: str | Run = "", snapshot: bool = False, until_done: bool = True) -> Iterator[Event]:
        """Committed events as they come, resuming by itself; of one run (until it has ended) or of all.

        With `snapshot` it begins with how the runs stand (and the steps, if a run is named) as events with
        `is_snapshot`. They also come in the middle if the server no longer has the events that were missed.
        """
        name = _name_of(run)
        request = self._request("WatchRunsRequest", run=name, snapshot=snapshot, until_done=until_done and bool(name))
        backoff = Backoff(max(60.0, self._connection.patience))
        ids: dict[str, str] = {}
        while True:
            ended = False
            try:
                for answer in self._connection.stream("RunService.WatchRuns", request, _STREAM_SECONDS):
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
                if not backoff.sleep():
                    raise Unreachable("STREAM_ENDED", f"{self._connection.server} ends every stream at once")
            except grpc.RpcError as failure:
                code = failure.code()
                if code == grpc.StatusCode.OUT_OF_RANGE and request.resume_token:
                    request.resume_token, request.snapshot = "", True
                elif code != grpc.StatusCode.DEADLINE_EXCEEDED and not self._connection.may_retry(failure, backoff):
                    raise error_of(failure, self._connection.server) from None

    # Logs

    def logs(
        self,
        run: str | Run,
        step: str,
        attempt: int = 0,
        stream: str = "",
        follow: bool = False,
        tail_lines: int = 0,
    ) -> Iterator[LogChunk]:
        """What a step wrote, stdout and stderr in the order of time, or one `stream` (`stdout`, `stderr`).

        By default the newest attempt's. With `follow` also what comes, until the attempt has ended, resuming by itself.
        """
        request = self._request(
            "TailLogsRequest", run=_name_of(run), step=step, attempt=attempt, follow=follow, tail_lines=tail_lines
        )
        if stream:
            request.stream = stream.upper()
        backoff = Backoff(max(60.0, self._connection.patience))
        while True:
            try:
                for answer in self._connection.stream("LogService.TailLogs", request, _STREAM_SECONDS):
                    backoff.reset()
                    chunk = LogChunk.from_message(answer)
                    if chunk.attempt:
                        request.attempt = chunk.attempt  # a retry in between is another attempt's log
                    if chunk.stream == "STDERR":
                        request.stderr_offset = chunk.next_offset
                    else:
                        request.stdout_offset = chunk.next_offset
                    request.tail_lines = 0
                    yield chunk
                return
            except grpc.RpcError as failure:
                if failure.code() != grpc.StatusCode.DEADLINE_EXCEEDED and not self._connection.may_retry(
                    failure, backoff
                ):
                    raise error_of(failure, self._connection.server) from None

    def log_text(self, run: str | Run, step: str, attempt: int = 0, stream: str = "") -> str:
        """The whole log so far, as text."""
        return b"".join(chunk.data for chunk in self.logs(run, step, attempt, stream)).decode("utf-8", "replace")

    # Artifacts

    def get_artifact(self, name: str) -> Artifact:
        """By id (`art-…`), `name@version`, or `name` for the newest."""
        request = self._request("GetArtifactRequest", name=name)
        return Artifact.from_message(self._connection.unary("ArtifactService.GetArtifact", request))

    def list_artifacts(
        self, run: str | Run = "", step: str = "", name: str = "", limit: int | None = None
    ) -> list[Artifact]:
        """Newest first."""
        request = self._request("ListArtifactsRequest", run=_name_of(run), step=step, name=name)
        pages = self._pages("ArtifactService.ListArtifacts", request, "artifacts", limit)
        return [Artifact.from_message(m) for m in pages]

    def read_artifact(self, name: str) -> bytes:
        """All bytes; of a folder, of its tar file."""
        # The newest may change between pieces: its id does not.
        artifact = self.get_artifact(name)
        data = bytearray()
        while True:
            request = self._request("ReadArtifactRequest", name=artifact.id, offset=len(data), max_bytes=4 << 20)
            answer = self._connection.unary("ArtifactService.ReadArtifact", request)
            data += answer.data
            if answer.end or not answer.data:
                return bytes(data)

    # The server

    def server_info(self) -> ServerInfo:
        request = self._request("GetServerInfoRequest")
        return ServerInfo.from_message(self._connection.unary("AdminService.GetServerInfo", request))

    def sign_in_link(self, run: str | Run = "") -> str:
        """A link to the run's page (or the list of runs) that signs a browser in; for one use within 5 minutes."""
        request = self._request("CreateSignInLinkRequest", run=_name_of(run))
        return str(self._connection.unary("AdminService.CreateSignInLink", request).url)

    def _pages(self, method: str, request: Any, field: str, limit: int | None) -> Iterator[Any]:
        def messages() -> Iterator[Any]:
            while True:
                request.page_size = _PAGE if limit is None else max(1, min(_PAGE, limit))
                answer = self._connection.unary(method, request)
                yield from getattr(answer, field)
                if not answer.next_page_token:
                    return
                request.page_token = answer.next_page_token

        return itertools.islice(messages(), limit)

"""What calls answer. Times are aware and in UTC; a time that has not come is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ._messages import enum_name, plain_struct, plain_value

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
RUN_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
STEP_ENDED = frozenset({"SUCCEEDED", "CACHED", "FAILED", "CANCELLED", "SKIPPED"})


def time_of(message: Any, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    stamp = getattr(message, name)
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def optional_int(message: Any, name: str) -> int | None:
    return int(getattr(message, name)) if message.HasField(name) else None


class Metadata(str):
    """A text that can also be asked for its `.value`."""

    __slots__ = ()

    @property
    def value(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Generation:
    """An earlier generation of a run that was retried, as it ended."""

    number: int  # from 1
    pipeline_version: int
    parameters: Mapping[str, Any]
    state: str
    reason: str
    message: str
    start_time: datetime | None  # None: nothing of it started
    end_time: datetime | None

    @classmethod
    def from_message(cls, m: Any) -> Generation:
        return cls(
            number=m.number,
            pipeline_version=m.pipeline_version,
            parameters={key: plain_value(m.parameters[key]) for key in sorted(m.parameters)},
            state=enum_name(m, "state"),
            reason=enum_name(m, "reason"),
            message=m.message,
            start_time=time_of(m, "start_time"),
            end_time=time_of(m, "end_time"),
        )


@dataclass(frozen=True)
class Run:
    """One execution of a pipeline version."""

    name: str
    id: str
    project: str
    state: str  # PENDING RUNNING PAUSED HALTING CANCELLING SUCCEEDED FAILED CANCELLED
    reason: str  # why, in a word; `` if there is nothing to say
    message: str
    run_metadata: Mapping[str, Metadata]
    pipeline: str
    pipeline_version: int
    orchestrator: str
    parameters: Mapping[str, Any]
    labels: Mapping[str, str]
    execution_mode: str
    generation: int
    create_time: datetime | None
    start_time: datetime | None  # of this generation, as `end_time` is
    end_time: datetime | None
    step_counts: Mapping[str, int]  # by the state's name
    step_count: int
    version: int
    priority: int
    last_sequence: int
    max_parallel: int
    earlier_generations: tuple[Generation, ...] = ()  # oldest first; only of one run, not in lists

    @property
    def is_done(self) -> bool:
        return self.state in RUN_ENDED

    @property
    def succeeded(self) -> bool:
        return self.state == "SUCCEEDED"

    @classmethod
    def from_message(cls, m: Any) -> Run:
        return cls(
            name=m.name,
            id=m.id,
            project=m.project,
            state=enum_name(m, "state"),
            reason=enum_name(m, "reason"),
            message=m.message,
            run_metadata={key: Metadata(m.run_metadata[key]) for key in sorted(m.run_metadata)},
            pipeline=m.pipeline,
            pipeline_version=m.pipeline_version,
            orchestrator=m.orchestrator,
            parameters={key: plain_value(m.parameters[key]) for key in sorted(m.parameters)},
            labels=dict(m.labels),
            execution_mode=enum_name(m, "execution_mode"),
            generation=m.generation,
            create_time=time_of(m, "create_time"),
            start_time=time_of(m, "start_time"),
            end_time=time_of(m, "end_time"),
            step_counts=dict(m.step_counts),
            step_count=m.step_count,
            version=m.version,
            priority=m.priority,
            last_sequence=m.last_sequence,
            max_parallel=m.max_parallel,
            earlier_generations=tuple(map(Generation.from_message, m.earlier_generations)),
        )


@dataclass(frozen=True)
class Attempt:
    """One try at a step."""

    number: int
    state: str  # SUBMITTING QUEUED RUNNING STORING SUCCEEDED FAILED TIMED_OUT LOST CANCELLED
    reason: str
    message: str
    exit_code: int | None
    signal: int | None
    external_id: str
    url: str
    orchestrator: str
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    cpu_seconds: float
    peak_memory: int
    node: str

    @classmethod
    def from_message(cls, m: Any) -> Attempt:
        return cls(
            number=m.number,
            state=enum_name(m, "state"),
            reason=enum_name(m, "reason"),
            message=m.message,
            exit_code=optional_int(m, "exit_code"),
            signal=optional_int(m, "signal"),
            external_id=m.external_id,
            url=m.url,
            orchestrator=m.orchestrator,
            create_time=time_of(m, "create_time"),
            start_time=time_of(m, "start_time"),
            end_time=time_of(m, "end_time"),
            cpu_seconds=m.cpu_seconds,
            peak_memory=m.peak_memory,
            node=m.node,
        )


@dataclass(frozen=True)
class Step:
    """A step of a run, after fan-out, with its newest attempt."""

    name: str  # `train`, or `train[2]`
    run: str
    state: (
        str  # WAITING READY SUBMITTING QUEUED RUNNING BACKOFF STOPPING, then SUCCEEDED CACHED FAILED CANCELLED SKIPPED
    )
    attempt: int
    reason: str
    message: str
    exit_code: int | None
    signal: int | None
    index: int
    template_name: str
    item: Mapping[str, Any]
    orchestrator: str
    ready_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    retry_time: datetime | None
    outputs: Mapping[str, str]  # artifact ids by output name
    attempts: tuple[Attempt, ...]  # only from get_step
    phase: str
    cached_from: str
    command: tuple[str, ...] = ()  # only from get_step
    environment: Mapping[str, str] = field(default_factory=dict)  # only from get_step

    @property
    def is_done(self) -> bool:
        return self.state in STEP_ENDED

    @classmethod
    def from_message(cls, m: Any) -> Step:
        return cls(
            name=m.name,
            run=m.run,
            state=enum_name(m, "state"),
            attempt=m.attempt,
            reason=enum_name(m, "reason"),
            message=m.message,
            exit_code=optional_int(m, "exit_code"),
            signal=optional_int(m, "signal"),
            index=m.index,
            template_name=m.template_name,
            item=plain_struct(m.item),
            orchestrator=m.orchestrator,
            ready_time=time_of(m, "ready_time"),
            start_time=time_of(m, "start_time"),
            end_time=time_of(m, "end_time"),
            retry_time=time_of(m, "retry_time"),
            outputs=dict(m.outputs),
            attempts=tuple(map(Attempt.from_message, m.attempts)),
            phase=m.phase,
            cached_from=m.cached_from,
            command=tuple(m.command),
            environment=dict(m.environment),
        )


@dataclass(frozen=True)
class Event:
    """One committed change; or, with `is_snapshot`, how a run or step stood when watching began."""

    sequence: int
    time: datetime | None
    type: str  # RUN_SUBMITTED RUN_STATE_CHANGED STEP_STATE_CHANGED ARTIFACT_LANDED RUN_DELETED
    run: str
    run_id: str
    step: str
    step_index: int
    attempt: int
    state: str  # the new state of the run or step
    reason: str
    message: str
    exit_code: int | None
    artifact: str
    output: str
    is_snapshot: bool = False

    @property
    def ends_run(self) -> bool:
        return self.type == "RUN_STATE_CHANGED" and self.state in RUN_ENDED

    @classmethod
    def from_message(cls, m: Any) -> Event:
        return cls(
            sequence=m.sequence,
            time=time_of(m, "time"),
            type=enum_name(m, "type"),
            run=m.run,
            run_id=m.run_id,
            step=m.step,
            step_index=m.step_index,
            attempt=m.attempt,
            state=enum_name(m, "step_state" if m.step else "run_state"),
            reason=enum_name(m, "reason"),
            message=m.message,
            exit_code=optional_int(m, "exit_code"),
            artifact=m.artifact,
            output=m.output,
        )

    @classmethod
    def from_snapshot(cls, m: Any, run_id: str) -> Event:
        """Of a Run or Step message."""
        is_step = m.DESCRIPTOR.name == "Step"
        return cls(
            sequence=0 if is_step else m.last_sequence,
            time=time_of(m, "end_time") or time_of(m, "start_time"),
            type="STEP_STATE_CHANGED" if is_step else "RUN_STATE_CHANGED",
            run=m.run if is_step else m.name,
            run_id=run_id if is_step else m.id,
            step=m.name if is_step else "",
            step_index=m.index if is_step else 0,
            attempt=m.attempt if is_step else 0,
            state=enum_name(m, "state"),
            reason=enum_name(m, "reason"),
            message=m.message,
            exit_code=optional_int(m, "exit_code") if is_step else None,
            artifact="",
            output="",
            is_snapshot=True,
        )


@dataclass(frozen=True)
class LogChunk:
    """A piece of what a step wrote, byte-exact; it may end in the middle of a line or character."""

    stream: str  # STDOUT or STDERR
    data: bytes
    next_offset: int
    time: datetime | None
    attempt: int

    @classmethod
    def from_message(cls, m: Any) -> LogChunk:
        return cls(enum_name(m, "stream"), m.data, m.next_offset, time_of(m, "time"), m.attempt)


@dataclass(frozen=True)
class LogMatch:
    """A line that a search of a log found. Bytes that are no UTF-8 show as U+FFFD."""

    stream: str  # STDOUT or STDERR
    offset: int  # of the line, in bytes from the start of the stream
    line_number: int  # from 1; 0: not known
    time: datetime | None
    line: str  # at most its first 64 KiB
    before: tuple[str, ...]
    after: tuple[str, ...]
    attempt: int

    @classmethod
    def from_message(cls, m: Any, attempt: int) -> LogMatch:
        return cls(
            stream=enum_name(m, "stream"),
            offset=m.offset,
            line_number=m.line_number,
            time=time_of(m, "time"),
            line=m.line,
            before=tuple(m.before),
            after=tuple(m.after),
            attempt=attempt,
        )


@dataclass(frozen=True)
class Secret:
    """What anybody may know of a secret: never its value."""

    name: str
    project: str
    create_time: datetime | None
    update_time: datetime | None
    version: int
    binary: bool  # steps can have it as a file only

    @classmethod
    def from_message(cls, m: Any) -> Secret:
        return cls(m.name, m.project, time_of(m, "create_time"), time_of(m, "update_time"), m.version, m.binary)


@dataclass(frozen=True)
class Artifact:
    """An immutable output whose bytes are in the store."""

    id: str
    project: str
    name: str
    version: int
    type: str
    uri: str
    digest: str
    size: int
    value: Any  # of a value; else None
    run: str
    run_id: str
    step: str
    attempt: int
    output: str
    early: bool
    create_time: datetime | None
    metadata: Mapping[str, Any]

    @classmethod
    def from_message(cls, m: Any) -> Artifact:
        return cls(
            id=m.id,
            project=m.project,
            name=m.name,
            version=m.version,
            type=m.type,
            uri=m.uri,
            digest=m.digest,
            size=m.size,
            value=plain_value(m.value) if m.HasField("value") else None,
            run=m.run,
            run_id=m.run_id,
            step=m.step,
            attempt=m.attempt,
            output=m.output,
            early=m.early,
            create_time=time_of(m, "create_time"),
            metadata={key: plain_value(m.metadata[key]) for key in sorted(m.metadata)},
        )


@dataclass(frozen=True)
class ServerInfo:
    version: str
    instance: str
    epoch: int
    pid: int
    start_time: datetime | None
    data_dir: str
    grpc: str
    http: str
    grpc_unix: str
    http_unix: str
    public_url: str
    live_runs: int
    live_attempts: int
    last_sequence: int
    status: str
    limits: Mapping[str, int]
    components: Mapping[str, str]
    supervisor_pid: int
    resident_memory: int

    @classmethod
    def from_message(cls, m: Any) -> ServerInfo:
        same = {name: getattr(m, name) for name in cls.__dataclass_fields__ if name not in _CONVERTED}
        return cls(**same, start_time=time_of(m, "start_time"), limits=dict(m.limits), components=dict(m.components))


_CONVERTED = frozenset({"start_time", "limits", "components"})

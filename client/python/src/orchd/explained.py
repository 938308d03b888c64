"""What explaining calls answer: why, plan, diff, lineage. Texts are for people; words such as `reason` for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ._messages import enum_name, plain_struct
from .errors import Violation
from .types import Artifact, Run, optional_int, time_of


def _span(message: Any, name: str) -> timedelta | None:
    if not message.HasField(name):
        return None
    span = getattr(message, name)
    return timedelta(seconds=span.seconds, microseconds=span.nanos // 1000)


@dataclass(frozen=True)
class PartChange:
    """One part of a cache key in two runs, as digests in hex; empty: it was not there."""

    part: str  # `inputs.table`, `command[2]`, `params.folds`, `source`, …
    before: str
    after: str

    @classmethod
    def from_message(cls, m: Any) -> PartChange:
        return cls(m.part, m.before, m.after)


@dataclass(frozen=True)
class Holder:
    """Who has slots that somebody waits for."""

    run: str
    step: str
    attempt: int
    slots: int

    @classmethod
    def from_message(cls, m: Any) -> Holder:
        return cls(m.run, m.step, m.attempt, m.slots)


@dataclass(frozen=True)
class Cause:
    """One thing that keeps a step or run waiting, or that ended it."""

    reason: str  # ``: it is on its way
    text: str
    step: str  # the one it is about, with its run and state
    run: str
    step_state: str
    input: str  # that is open
    pool: str  # that is full, with the slots wanted, in use and in all (cpu in thousandths)
    wanted: int
    used: int
    capacity: int
    holders: tuple[Holder, ...]  # at most 10
    more: int  # of them, or of such steps
    until: datetime | None  # when it goes on, or is ended, by itself

    @classmethod
    def from_message(cls, m: Any) -> Cause:
        return cls(
            reason=enum_name(m, "reason"),
            text=m.text,
            step=m.step,
            run=m.run,
            step_state=enum_name(m, "step_state"),
            input=m.input,
            pool=m.pool,
            wanted=m.wanted,
            used=m.used,
            capacity=m.capacity,
            holders=tuple(map(Holder.from_message, m.holders)),
            more=m.more,
            until=time_of(m, "until"),
        )


@dataclass(frozen=True)
class CacheDecision:
    """Whether a step's outputs came from the cache, and why not."""

    outcome: str  # NOT_ENABLED TURNED_OFF NOT_CACHEABLE NOT_ASKED HIT NO_ENTRY CHANGED EXPIRED BYTES_MISSING
    text: str
    run: str  # of the entry that was taken, or with which the key was compared
    changes: tuple[PartChange, ...]
    key: str

    @classmethod
    def from_message(cls, m: Any) -> CacheDecision:
        changes = tuple(map(PartChange.from_message, m.changes))
        return cls(enum_name(m, "outcome"), m.text, m.run, changes, m.key)


@dataclass(frozen=True)
class FailedAttempt:
    """One try that did not end well."""

    attempt: int
    reason: str
    text: str
    exit_code: int | None
    signal: int | None
    peak_memory: int  # bytes; 0: unknown
    last_lines: tuple[str, ...]  # of its stderr; only of the newest
    then: str  # why it was tried again, or not
    end_time: datetime | None

    @classmethod
    def from_message(cls, m: Any) -> FailedAttempt:
        return cls(
            attempt=m.attempt,
            reason=enum_name(m, "reason"),
            text=m.text,
            exit_code=optional_int(m, "exit_code"),
            signal=optional_int(m, "signal"),
            peak_memory=m.peak_memory,
            last_lines=tuple(m.last_lines),
            then=m.then,
            end_time=time_of(m, "end_time"),
        )


@dataclass(frozen=True)
class StepInBrief:
    """A step with its state and the short answer to `why`."""

    step: str
    state: str
    reason: str
    text: str
    item: Mapping[str, Any]

    @classmethod
    def from_message(cls, m: Any) -> StepInBrief:
        return cls(m.step, enum_name(m, "state"), enum_name(m, "reason"), m.text, plain_struct(m.item))


@dataclass(frozen=True)
class Explanation:
    """Why a run or one of its steps is where it is."""

    run: str
    step: str  # ``: the run was asked about
    run_state: str
    step_state: str
    attempt: int  # 0: none yet
    summary: str  # one sentence
    causes: tuple[Cause, ...]  # the most important first
    cache: CacheDecision | None  # None: of a run, and of a step that has not been ready yet
    failures: tuple[FailedAttempt, ...]  # oldest first
    steps: tuple[StepInBrief, ...]  # of a run: worth asking about
    item: Mapping[str, Any]

    @classmethod
    def from_message(cls, m: Any) -> Explanation:
        return cls(
            run=m.run,
            step=m.step,
            run_state=enum_name(m, "run_state"),
            step_state=enum_name(m, "step_state"),
            attempt=m.attempt,
            summary=m.summary,
            causes=tuple(map(Cause.from_message, m.causes)),
            cache=CacheDecision.from_message(m.cache) if m.HasField("cache") else None,
            failures=tuple(map(FailedAttempt.from_message, m.failures)),
            steps=tuple(map(StepInBrief.from_message, m.steps)),
            item=plain_struct(m.item),
        )


@dataclass(frozen=True)
class PlannedStep:
    """What a submission would do with one step."""

    name: str
    index: int
    action: str  # RUN CACHED, or DEPENDS on whether an upstream step yields the same bytes as before
    text: str
    cached_from: str
    changes: tuple[PartChange, ...]  # since the entry of the run `compared_with`
    compared_with: str
    expected: timedelta | None  # by its last runs, of which there are `samples`
    samples: int
    starts_after: timedelta | None  # from the start of the run
    critical: bool  # on the longest way through the run
    # If asked for: the objects that its platform would be asked to make for its first attempt, in their order, without
    # secrets. Empty: what the platform does not have, or the flavor does not tell.
    native: tuple[dict[str, Any], ...]

    @classmethod
    def from_message(cls, m: Any) -> PlannedStep:
        return cls(
            name=m.name,
            index=m.index,
            action=enum_name(m, "action"),
            text=m.text,
            cached_from=m.cached_from,
            changes=tuple(map(PartChange.from_message, m.changes)),
            compared_with=m.compared_with,
            expected=_span(m, "expected"),
            samples=m.samples,
            starts_after=_span(m, "starts_after"),
            critical=m.critical,
            native=tuple(map(json.loads, m.native)),
        )


@dataclass(frozen=True)
class Plan:
    """What a submission would do."""

    warnings: tuple[Violation, ...]  # what is allowed but probably not meant
    step_count: int
    cached_steps: int
    run_steps: int
    depending_steps: int
    steps: tuple[PlannedStep, ...]  # as they would start
    expected: timedelta | None  # from start to end; None: nothing that would run has run before
    known_steps: int  # of those that would run, how many have run before
    critical_path: tuple[str, ...]
    history_runs: int
    unit: str  # what the orchestrator would be given: `run`, as one of its own, or `step`, each by itself
    why_step_by_step: tuple[str, ...]  # of an orchestrator that takes whole runs: why not this one
    native: tuple[dict[str, Any], ...]  # if asked for, of a whole run: as PlannedStep.native; then its steps have none

    @classmethod
    def from_message(cls, m: Any, warnings: Sequence[Violation]) -> Plan:
        return cls(
            warnings=tuple(warnings),
            step_count=m.step_count,
            cached_steps=m.cached_steps,
            run_steps=m.run_steps,
            depending_steps=m.depending_steps,
            steps=tuple(map(PlannedStep.from_message, m.steps)),
            expected=_span(m, "expected"),
            known_steps=m.known_steps,
            critical_path=tuple(m.critical_path),
            history_runs=m.history_runs,
            unit=m.unit,
            why_step_by_step=tuple(m.why_step_by_step),
            native=tuple(map(json.loads, m.native)),
        )


@dataclass(frozen=True)
class ValueChange:
    """One value in two runs, each as JSON text; empty: it is not there."""

    name: str
    before: str
    after: str

    @classmethod
    def from_message(cls, m: Any) -> ValueChange:
        return cls(m.name, m.before, m.after)


@dataclass(frozen=True)
class StepSide:
    """A step in one of two runs."""

    state: str
    reason: str
    duration: timedelta | None  # of the newest attempt
    attempts: int
    cached_from: str
    exit_code: int | None

    @classmethod
    def from_message(cls, m: Any) -> StepSide:
        return cls(
            state=enum_name(m, "state"),
            reason=enum_name(m, "reason"),
            duration=_span(m, "duration"),
            attempts=m.attempts,
            cached_from=m.cached_from,
            exit_code=optional_int(m, "exit_code"),
        )


@dataclass(frozen=True)
class StepChange:
    """One step in two runs."""

    name: str
    before: StepSide | None  # None: the run has no such step
    after: StepSide | None
    outputs: tuple[ValueChange, ...]  # with other bytes

    @classmethod
    def from_message(cls, m: Any) -> StepChange:
        return cls(
            name=m.name,
            before=StepSide.from_message(m.before) if m.HasField("before") else None,
            after=StepSide.from_message(m.after) if m.HasField("after") else None,
            outputs=tuple(map(ValueChange.from_message, m.outputs)),
        )


@dataclass(frozen=True)
class RunDiff:
    """What two runs do not have in common."""

    before: Run
    after: Run
    parameters: tuple[ValueChange, ...]
    pipeline: tuple[ValueChange, ...]  # fields, `steps.train.command`
    steps: tuple[StepChange, ...]
    same_steps: int
    more_steps: bool  # more differ than were asked for

    @classmethod
    def from_message(cls, m: Any) -> RunDiff:
        return cls(
            before=Run.from_message(m.before),
            after=Run.from_message(m.after),
            parameters=tuple(map(ValueChange.from_message, m.parameters)),
            pipeline=tuple(map(ValueChange.from_message, m.pipeline)),
            steps=tuple(map(StepChange.from_message, m.steps)),
            same_steps=m.same_steps,
            more_steps=m.more_steps,
        )


@dataclass(frozen=True)
class Link:
    """An attempt that read something."""

    direction: str  # UPSTREAM or DOWNSTREAM
    distance: int  # in attempts: 1 is its own inputs, or who read it
    artifact: Artifact | None  # what was read; None: it was deleted, or is at `uri`
    uri: str  # of what no step made
    run: str  # who read it; ``: it was deleted
    run_id: str
    step: str
    attempt: int  # 0: a step that was CACHED
    input: str
    outputs: Mapping[str, str]  # what it made: artifact ids by output name

    @classmethod
    def from_message(cls, m: Any) -> Link:
        return cls(
            direction=enum_name(m, "direction"),
            distance=m.distance,
            artifact=Artifact.from_message(m.artifact) if m.HasField("artifact") else None,
            uri=m.uri,
            run=m.run,
            run_id=m.run_id,
            step=m.step,
            attempt=m.attempt,
            input=m.input,
            outputs=dict(m.outputs),
        )


@dataclass(frozen=True)
class Lineage:
    """Where an artifact, or what an attempt read and made, comes from and went."""

    artifact: Artifact | None  # that was asked for; None: an attempt was
    links: tuple[Link, ...]  # upstream before downstream, each by distance
    truncated: bool  # there are more: than `limit`, or than the 10,000 that are looked at

    @classmethod
    def from_messages(cls, answers: Iterable[Any], limit: int | None) -> Lineage:
        artifact: Artifact | None = None
        links: list[Link] = []
        truncated = False
        for m in answers:
            if m.HasField("artifact"):
                artifact = Artifact.from_message(m.artifact)
            links.extend(map(Link.from_message, m.links))
            truncated = truncated or m.truncated
            if limit is not None and len(links) >= limit:
                truncated = truncated or len(links) > limit or bool(m.next_page_token)
                break
        return cls(artifact, tuple(links[:limit]), truncated)

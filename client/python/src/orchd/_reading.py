"""The calls that only read: runs, steps, events, explanations, logs and artifacts. Of both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from ._base import STREAM_SECONDS, Base, name_of, set_word
from ._calls import Backoff, closing
from ._grpc import grpc
from ._messages import fill_time
from ._status import error_of
from .explained import Explanation, Lineage, RunDiff
from .types import Artifact, Event, LogChunk, LogMatch, Run, ServerInfo, Step

_PIECE_BYTES = 4 << 20  # of an artifact, in one answer


class Reading(Base):
    """What can be asked of a daemon without changing anything."""

    # Runs

    async def get_run(self, run: str | Run) -> Run:
        """By name or id. Raises NotFound."""
        request = self._request("GetRunRequest", name=name_of(run))
        return Run.from_message(await self._connection.unary("RunService.GetRun", request))

    async def get_pipeline_run(self, name: str | Run) -> Run:
        """The same as get_run."""
        return await self.get_run(name)

    async def list_runs(self, filter: str = "", limit: int | None = None, order_by: str = "") -> list[Run]:
        """Newest first, or by `create_time`, `name`, `name desc`. `filter` has terms joined by AND: `state=RUNNING AND
        pipeline=digits`, `label.team=vision`, `name=digits-*`. Raises Refused, naming what can be asked for."""
        request = self._request("ListRunsRequest", filter=filter, order_by=order_by)
        return [Run.from_message(m) for m in await self._pages("RunService.ListRuns", request, "runs", limit)]

    async def list_steps(
        self, run: str | Run, filter: str = "", limit: int | None = None, order_by: str = ""
    ) -> list[Step]:
        """In the order of the pipeline, or with `index desc` from its end. `filter`: `state=FAILED,CANCELLED`,
        `template_name=train`, `name:tra`, joined by AND."""
        request = self._request("ListStepsRequest", run=name_of(run), filter=filter, order_by=order_by)
        return [Step.from_message(m) for m in await self._pages("RunService.ListSteps", request, "steps", limit)]

    async def get_step(self, run: str | Run, step: str) -> Step:
        """With its attempts, command and environment."""
        request = self._request("GetStepRequest", run=name_of(run), step=step)
        return Step.from_message(await self._connection.unary("RunService.GetStep", request))

    async def list_events(
        self, run: str | Run = "", filter: str = "", after_sequence: int = 0, limit: int | None = None
    ) -> list[Event]:
        """Committed changes, oldest first, of one run or of all; those to come are `watch`'s.

        `filter`: `type=STEP_STATE_CHANGED,ARTIFACT_LANDED`, `step=train[2]` (needs a run), joined by AND. Only those
        after the number `after_sequence`; Refused (EVENTS_COMPACTED) if later ones are gone already.
        """
        request = self._request("ListEventsRequest", run=name_of(run), filter=filter, after_sequence=after_sequence)
        return [Event.from_message(m) for m in await self._pages("RunService.ListEvents", request, "events", limit)]

    # Explaining

    async def why(self, run: str | Run, step: str = "") -> Explanation:
        """Why a run, or one of its steps, waits, was or was not cached, failed, was tried again, was skipped."""
        request = self._request("ExplainRunRequest", name=name_of(run), step=step)
        return Explanation.from_message(await self._connection.unary("RunService.ExplainRun", request))

    async def diff_runs(self, before: str | Run, after: str | Run, max_steps: int = 0) -> RunDiff:
        """What two runs do not have in common; at most `max_steps` steps that differ (0: 1,000)."""
        request = self._request("CompareRunsRequest", before=name_of(before), after=name_of(after), max_steps=max_steps)
        return RunDiff.from_message(await self._connection.unary("RunService.CompareRuns", request))

    # Logs

    async def logs(
        self,
        run: str | Run,
        step: str,
        attempt: int = 0,
        stream: str = "",
        follow: bool = False,
        tail_lines: int = 0,
    ) -> AsyncIterator[LogChunk]:
        """What a step wrote, stdout and stderr in the order of time, or one `stream` (`stdout`, `stderr`).

        By default the newest attempt's. With `follow` also what comes, until the attempt has ended, resuming by itself.
        """
        request = self._request(
            "TailLogsRequest", run=name_of(run), step=step, attempt=attempt, follow=follow, tail_lines=tail_lines
        )
        set_word(request, "stream", stream, "stream")
        backoff = Backoff(max(60.0, self._connection.patience))
        while True:
            try:
                async with closing(self._connection.stream("LogService.TailLogs", request, STREAM_SECONDS)) as answers:
                    async for answer in answers:
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
                late = failure.code() == grpc.StatusCode.DEADLINE_EXCEEDED
                if not late and not await self._connection.may_retry(failure, backoff):
                    raise error_of(failure, self._connection.server) from None

    async def log_text(self, run: str | Run, step: str, attempt: int = 0, stream: str = "") -> str:
        """The whole log so far, as text."""
        pieces = [chunk.data async for chunk in self.logs(run, step, attempt, stream)]
        return b"".join(pieces).decode("utf-8", "replace")

    async def search_logs(
        self,
        run: str | Run,
        step: str,
        pattern: str = "",
        *,
        ignore_case: bool = False,
        first_error: bool = False,
        before: int = 0,
        after: int = 0,
        attempt: int = 0,
        stream: str = "",
        since: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[LogMatch]:
        """Lines in which the regular expression (RE2) is found, as the search goes on: first stdout's, then stderr's.

        With `first_error`, instead of a pattern, the first line of each stream that looks like an error. `before` and
        `after` are lines of context, at most 100. By default the newest attempt's log, all of it; `since` is an aware
        time. Raises Refused (PATTERN_INVALID) if the pattern is none.
        """
        request = self._request(
            "SearchLogsRequest", run=name_of(run), step=step, pattern=pattern, ignore_case=ignore_case,
            first_error=first_error, before=before, after=after, attempt=attempt,
        )  # fmt: skip
        set_word(request, "stream", stream, "stream")
        if since is not None:
            fill_time(request.since, since, "since")
        found = 0
        async for answer in self._answers("LogService.SearchLogs", request, "max_matches", limit):
            for match in answer.matches:
                if found == limit:
                    return
                found += 1
                yield LogMatch.from_message(match, answer.attempt)
            if found == limit:
                return

    # Artifacts

    async def get_artifact(self, name: str) -> Artifact:
        """By id (`art-…`), `name@version`, or `name` for the newest."""
        request = self._request("GetArtifactRequest", name=name)
        return Artifact.from_message(await self._connection.unary("ArtifactService.GetArtifact", request))

    async def list_artifacts(
        self, run: str | Run = "", step: str = "", name: str = "", limit: int | None = None
    ) -> list[Artifact]:
        """Newest first."""
        request = self._request("ListArtifactsRequest", run=name_of(run), step=step, name=name)
        pages = await self._pages("ArtifactService.ListArtifacts", request, "artifacts", limit)
        return [Artifact.from_message(m) for m in pages]

    async def read_artifact(self, name: str) -> bytes:
        """All bytes; of a folder, of its tar file."""
        # The newest may change between pieces: its id does not.
        newest = await self.get_artifact(name)
        return b"".join([piece async for piece in self._pieces_of(newest.id)])

    async def _pieces_of(self, artifact_id: str) -> AsyncIterator[bytes]:
        offset = 0
        while True:
            request = self._request("ReadArtifactRequest", name=artifact_id, offset=offset, max_bytes=_PIECE_BYTES)
            answer = await self._connection.unary("ArtifactService.ReadArtifact", request)
            yield answer.data
            offset += len(answer.data)
            if answer.end or not answer.data:
                return

    async def lineage(
        self,
        artifact: str | Artifact = "",
        *,
        run: str | Run = "",
        step: str = "",
        attempt: int = 0,
        direction: str = "",
        depth: int = 0,
        limit: int | None = None,
    ) -> Lineage:
        """What an artifact was made of and what was made of it; or what an attempt (of `run` and `step`; 0: the
        newest) read and who read what it made. `direction`: `upstream` or `downstream`, by default both; at most
        `depth` attempts away (0: 5)."""
        request = self._request(
            "GetLineageRequest",
            name=artifact.id if isinstance(artifact, Artifact) else artifact,
            run=name_of(run),
            step=step,
            attempt=attempt,
            depth=depth,
        )
        set_word(request, "direction", direction, "direction")
        answers: list[Any] = []
        links = 0
        async for answer in self._answers("ArtifactService.GetLineage", request, "page_size", limit):
            answers.append(answer)
            links += len(answer.links)
            if limit is not None and links >= limit:
                break
        return Lineage.from_messages(answers, limit)

    # The server

    async def server_info(self) -> ServerInfo:
        request = self._request("GetServerInfoRequest")
        return ServerInfo.from_message(await self._connection.unary("AdminService.GetServerInfo", request))

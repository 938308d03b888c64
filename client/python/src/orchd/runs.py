"""A run as an object: how it goes, what its steps made, what they wrote, why it failed."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import pathlib
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import serializers
from ._marks import FAILED
from .client import Client
from .errors import NotFound, OrchdError, RunFailed
from .explained import Explanation, Lineage
from .types import Artifact, Attempt, Event, LogChunk, Run, Step

if TYPE_CHECKING:
    from ._built import Built

_TRACEBACK_LINES = 400


@functools.lru_cache(maxsize=1)
def default_client() -> Client:
    """The one that pipelines use unless they are given another."""
    return Client()


def get_run(name: str, client: Client | None = None) -> PipelineRun:
    """A run by its name or id. Raises NotFound."""
    client = client or default_client()
    return PipelineRun(client, client.get_run(name))


class OutputView:
    """What a step made."""

    def __init__(self, client: Client, artifact_id: str, name: str, hint: Any = Any) -> None:
        self._client = client
        self._id = artifact_id
        self.name = name
        self._hint = hint

    @functools.cached_property
    def artifact(self) -> Artifact:
        return self._client.get_artifact(self._id)

    def load(self, hint: Any = None) -> Any:
        """The value, as the step's annotation says or as `hint` does: with `pathlib.Path` a file or folder of one's
        own, which is removed when this process ends."""
        artifact = self.artifact
        wanted = self._hint if hint is None else hint
        path = serializers.scratch_file()
        self._fetch(path)
        if artifact.type == "dir":
            folder = path.with_name("folder")
            _unpack(path, folder)
            path.unlink()
            return serializers.load("dir", folder, wanted)
        word = "value" if artifact.value is not None else artifact.type or "file"
        value = serializers.load(word, path, wanted)
        if not isinstance(value, pathlib.PurePath):
            with contextlib.suppress(OSError):  # a library may have it mapped, or open
                shutil.rmtree(path.parent)
        return value

    def download(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes the bytes (of a folder: its files) there, where nothing may be yet."""
        target = pathlib.Path(path)
        if self.artifact.type != "dir":
            self._fetch(target)
            return target
        target.mkdir(parents=True)
        packed = serializers.scratch_file()
        self._fetch(packed)
        _unpack(packed, target)
        shutil.rmtree(packed.parent)
        return target

    def _fetch(self, path: pathlib.Path) -> None:
        """In pieces: it may be larger than memory."""
        with path.open("xb") as file:
            for piece in self._client._pieces_of(self._id):
                file.write(piece)

    def lineage(self, direction: str = "", depth: int = 0) -> Lineage:
        """What it was made of, and what was made of it."""
        return self._client.lineage(self._id, direction=direction, depth=depth)

    def __repr__(self) -> str:
        return f"<output {self.name} {self._id}>"


class OutputList:
    """One output of all instances of a fan-out, in item order."""

    def __init__(self, outputs: list[OutputView]) -> None:
        self._outputs = outputs

    def load(self, hint: Any = None) -> list[Any]:
        return [output.load(hint) for output in self._outputs]

    def __len__(self) -> int:
        return len(self._outputs)

    def __iter__(self) -> Iterator[OutputView]:
        return iter(self._outputs)

    def __getitem__(self, number: int) -> OutputView:
        return self._outputs[number]


def _unpack(packed: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir(exist_ok=True)
    with tarfile.open(packed) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(target, filter="data")
        else:
            for member in archive.getmembers():
                inside = os.path.realpath(target / member.name)
                good = member.isfile() or member.isdir() or member.issym()
                link = (
                    os.path.realpath(os.path.join(os.path.dirname(inside), member.linkname))
                    if member.issym()
                    else inside
                )
                root = os.path.realpath(target)
                if not good or any(os.path.commonpath([root, path]) != root for path in (inside, link)):
                    raise OrchdError("ARCHIVE_INVALID", f"the folder has `{member.name}`, which leads out of it")
            archive.extractall(target)


class StepView:
    """A step of a run; of a fan-out, all its instances."""

    def __init__(self, run: PipelineRun, steps: list[Step], is_list: bool) -> None:
        self._run = run
        self._steps = steps
        self._is_list = is_list

    @property
    def name(self) -> str:
        return self._steps[0].template_name or self._steps[0].name if self._is_list else self._steps[0].name

    @property
    def state(self) -> str:
        """Of a fan-out: the worst of its instances'."""
        states = [step.state for step in self._steps]
        order = (
            "FAILED",
            "CANCELLED",
            "STOPPING",
            "RUNNING",
            "QUEUED",
            "SUBMITTING",
            "BACKOFF",
            "READY",
            "WAITING",
            "SKIPPED",
        )
        return next((state for state in order if state in states), states[0])

    @property
    def info(self) -> Step:
        """As the daemon tells it. Raises TypeError for a fan-out."""
        return self._one()

    @property
    def instances(self) -> list[StepView]:
        return [StepView(self._run, [step], False) for step in self._steps]

    def _one(self) -> Step:
        if self._is_list:
            raise TypeError(f"`{self.name}` is a fan-out of {len(self._steps)}: ask one of its `instances`")
        return self._steps[0]

    @property
    def outputs(self) -> dict[str, Any]:
        """By name; of a fan-out each is a list."""
        names = list(
            dict.fromkeys(name for step in self._steps for name in step.outputs if not name.endswith("-items"))
        )
        return {name: self._view(name) for name in names}

    def _view(self, name: str) -> Any:
        hint = self._run._hint(self._steps[0].template_name or self._steps[0].name, name)
        views = [OutputView(self._run.client, s.outputs[name], name, hint) for s in self._steps if name in s.outputs]
        return OutputList(views) if self._is_list else views[0]

    @property
    def output(self) -> Any:
        """The only one. Raises NotFound if there is none (yet)."""
        outputs = self.outputs
        if len(outputs) != 1:
            has = "has no output" if not outputs else f"has the outputs {', '.join(outputs)}; name one in `outputs`"
            raise NotFound("OUTPUT_NOT_FOUND", f"the step `{self.name}` ({self.state}) {has}")
        return next(iter(outputs.values()))

    def logs(self, stream: str = "", attempt: int = 0) -> str:
        """What it wrote so far; of a fan-out one instance after the other."""
        return "".join(self._run.client.log_text(self._run.id, s.name, attempt, stream) for s in self._steps)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return self._run.client.get_step(self._run.id, self._one().name).attempts

    @property
    def traceback(self) -> str:
        """Of its newest attempt that failed in Python; empty if it did not."""
        return _remote_traceback(self._run.client, self._run.id, self._one().name)

    def why(self) -> Explanation:
        return self._run.client.why(self._run.id, self._one().name)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, number: int) -> StepView:
        return self.instances[number]

    def __iter__(self) -> Iterator[StepView]:
        return iter(self.instances)

    def __repr__(self) -> str:
        many = f" of {len(self._steps)} instances" if self._is_list else ""
        return f"<step {self.name}{many}: {self.state}>"


class Steps(Mapping[str, StepView]):
    """The steps of a run by name: `train`, and of a fan-out each instance `train[2]` too."""

    def __init__(self, run: PipelineRun, steps: list[Step]) -> None:
        self._run = run
        self._groups: dict[str, list[Step]] = {}
        self._by_name = {step.name: step for step in steps}
        for step in steps:
            self._groups.setdefault(step.template_name or step.name, []).append(step)

    def __getitem__(self, name: str) -> StepView:
        group = self._groups.get(name)
        if group is None and name in self._by_name:
            return StepView(self._run, [self._by_name[name]], False)
        if group is None:
            raise KeyError(f"{name} (there are: {', '.join(self._groups)})")
        instances = [step for step in group if step.name != name]
        return (
            StepView(self._run, sorted(instances, key=_number), True)
            if instances
            else StepView(self._run, group, False)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        return "\n".join(repr(self[name]) for name in self)


def _number(step: Step) -> int:
    text = step.name.rpartition("[")[2].rstrip("]")
    return int(text) if text.isdigit() else step.index


def _remote_traceback(client: Client, run: str, step: str) -> str:
    chunks = client.logs(run, step, stream="stderr", tail_lines=_TRACEBACK_LINES)
    text = b"".join(chunk.data for chunk in chunks).decode("utf-8", "replace")
    _, found, after = text.rpartition(FAILED)
    if found:
        return after.partition("\n")[2].rstrip()
    start = text.rfind("Fatal Python error: ")
    return text[start:].rstrip() if start >= 0 else ""


class PipelineRun:
    """A run. It goes on in the daemon whatever becomes of this object or process."""

    def __init__(self, client: Client, run: Run, built: Built | None = None) -> None:
        self.client = client
        self._run = run
        self._built = built

    # What it is

    @property
    def name(self) -> str:
        return self._run.name

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def info(self) -> Run:
        """As the daemon tells it now."""
        if not self._run.is_done:
            self._run = self.client.get_run(self._run.id)
        return self._run

    @property
    def state(self) -> str:
        """PENDING RUNNING PAUSED HALTING CANCELLING SUCCEEDED FAILED CANCELLED"""
        return self.info.state

    @property
    def url(self) -> str:
        """Its page."""
        return str(self._run.run_metadata.get("orchestrator_url", ""))

    @property
    def run_metadata(self) -> Mapping[str, str]:
        return self.info.run_metadata

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self._run.parameters

    @property
    def steps(self) -> Steps:
        """As they stand now."""
        return Steps(self, self.client.list_steps(self._run.id))

    @property
    def artifacts(self) -> list[Artifact]:
        return self.client.list_artifacts(self._run.id)

    def lineage(self, step: str, direction: str = "", depth: int = 0) -> Lineage:
        """What the newest attempt of a step read, and who read what it made."""
        return self.client.lineage(run=self._run.id, step=step, direction=direction, depth=depth)

    def result(self) -> Any:
        """What the pipeline's function returned, with values in place of the handles, and None for what was skipped;
        only where it was submitted."""
        from ._graph import Call, Output

        if self._built is None:
            raise OrchdError(
                "RESULT_UNKNOWN", "what its function returned is known only where it was submitted: see `steps`"
            )
        steps = self.steps

        def value(of: Any) -> Any:
            if isinstance(of, Call):
                return None if not of.kinds else value(of.output) if len(of.kinds) == 1 else tuple(map(value, of))
            if isinstance(of, Output):
                step = steps.get(of.call.name)  # of a fan-out over an empty list there is none
                view = step.outputs.get(of.name) if step is not None else None
                if view is None:
                    return [] if of.call.mapped else None
                loaded = view.load()
                for part in of.path:
                    loaded = [one[part] for one in loaded] if of.call.mapped else loaded[part]
                return loaded
            if isinstance(of, (list, tuple)):
                return type(of)(map(value, of))
            return {key: value(item) for key, item in of.items()} if isinstance(of, dict) else of

        return value(self._built.returned)

    @functools.cached_property
    def _declared(self) -> dict[tuple[str, str], Any]:
        """The types of values as the pipeline has them."""
        request = self.client._request(
            "GetPipelineRequest", name=self._run.pipeline, version=self._run.pipeline_version
        )
        try:
            steps = self.client._call("PipelineService.GetPipeline", request).pipeline.steps
        except OrchdError:
            return {}
        found = [(step.name, name, output) for step in steps for name, output in step.outputs.items()]
        kinds = serializers.VALUES_BY_WORD
        return {(step, name): kinds[out.type] for step, name, out in found if out.value and out.type in kinds}

    def _hint(self, step: str, output: str) -> Any:
        if self._built is None:
            return self._declared.get((step, output), Any)
        call = self._built.graph.by_name.get(step)
        kind = call.kinds.get(output) if call is not None else None
        return kind.hint if kind is not None else Any

    # What can be done with it

    def wait(self, timeout: float | None = None, check: bool = True, progress: bool = False) -> PipelineRun:
        """Waits for its end. With `progress` it shows how it goes, on stderr or in the notebook. Raises RunFailed
        unless it succeeded (not with `check=False`), WaitTimedOut; on Ctrl-C the run goes on."""
        try:
            if progress:
                from ._progress import follow

                follow(self, timeout)
            self._run = self.client.wait(self._run.id, timeout)
        except KeyboardInterrupt:
            print(f"\norchd: the run {self.name} goes on; `orchctl cancel-run {self.name}` ends it", file=sys.stderr)
            raise
        self._run = self.client.get_run(self._run.id)
        if check:
            self.raise_for_state()
        return self

    def raise_for_state(self) -> None:
        """Raises RunFailed if it ended and did not succeed."""
        run = self.info
        if not run.is_done or run.succeeded:
            return
        failed = self.client.list_steps(run, "state=FAILED", limit=100)
        # The one that ended first: others may have failed for it.
        first = min(failed, key=lambda step: step.end_time.timestamp() if step.end_time else math.inf, default=None)
        if first is None:
            raise RunFailed(run.reason or run.state, f"the run {run.name} is {run.state}: {run.message}", run=self)
        told = ""
        with contextlib.suppress(OrchdError):
            told = _remote_traceback(self.client, run.id, first.name)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        what = told.rpartition("\n")[2] if told and not told.startswith("Fatal") else first.message or first.reason
        text = f"the run {run.name} is {run.state}: the step `{first.name}`{more}: {what}"
        if not told:
            text += self._last_lines(first.name)
        elif told != what:
            text += f"\n\n{told}"
        raise RunFailed(
            first.reason or "FAILED", text, run=self, step=first.name, traceback=told, exit_code=first.exit_code
        )

    def _last_lines(self, step: str) -> str:
        with contextlib.suppress(OrchdError):
            chunks = self.client.logs(self._run.id, step, stream="stderr", tail_lines=20)
            text = b"".join(chunk.data for chunk in chunks).decode("utf-8", "replace").rstrip()
            return f"\n\nThe last of its stderr:\n{text}" if text else ""
        return ""

    def watch(self, snapshot: bool = True) -> Iterator[Event]:
        """How it stands, then each change until its end."""
        return self.client.watch(self._run.id, snapshot=snapshot)

    def logs(self, step: str | None = None, *, follow: bool = False, stream: str = "") -> Iterator[LogChunk] | str:
        """A step's log so far as text, with `follow` its pieces as they come; without a step the logs of all, each line
        with the step's name before it."""
        if step is not None and follow:
            return self.client.logs(self._run.id, step, stream=stream, follow=True)
        if step is not None:
            return self.steps[step].logs(stream)
        if follow:
            raise ValueError("follow the log of one step")
        lines = []
        for one in self.client.list_steps(self._run.id):
            text = self.client.log_text(self._run.id, one.name, stream=stream)
            lines += [f"{one.name} | {line}\n" for line in text.splitlines()]
        return "".join(lines)

    def cancel(self, force: bool = False) -> PipelineRun:
        """Asks it to stop; `wait(check=False)` waits until it has."""
        self._run = self.client.cancel_run(self._run.id, force)
        return self

    def pause(self) -> PipelineRun:
        """Nothing more of it starts."""
        self._run = self.client.pause_run(self._run.id)
        return self

    def resume(self) -> PipelineRun:
        self._run = self.client.resume_run(self._run.id)
        return self

    def retry(self, *steps: str, **parameters: Any) -> PipelineRun:
        """Goes on with a run that failed or was cancelled: with what did not succeed, or with these steps and all that
        depends on them; a parameter that is changed chooses the steps that use it. The code is the file's of now."""
        self._run = self.client.retry_run(self._run.id, steps, parameters or None)
        return self

    def why(self, step: str = "") -> Explanation:
        return self.client.why(self._run.id, step)

    def delete(self) -> None:
        self.client.delete_run(self._run.id)

    def __repr__(self) -> str:
        return f"<run {self.name}: {self._run.state}>"

    def _repr_html_(self) -> str:
        from ._html import page_of

        return page_of(self)


__all__ = ["OutputList", "OutputView", "PipelineRun", "StepView", "Steps", "default_client", "get_run"]

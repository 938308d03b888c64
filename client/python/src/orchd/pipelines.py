"""`@pipeline`: a function that calls steps becomes a pipeline; calling it runs it."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, overload

from . import _cells, _places
from ._built import Built
from ._flavors import Flavors, adapt
from ._graph import Call, Condition, Graph, Output, Parameter, building, current_graph
from ._marks import IN_STEP
from ._plain import NoPlainData, strip, to_plain
from ._warming import start_workers, use_workers
from .errors import PipelineInvalid, Refused, Violation
from .steps import _hints, normal_options

if TYPE_CHECKING:
    from .client import Client
    from .explained import Plan
    from .runs import PipelineRun

_TYPES = {str: "string", int: "int", float: "float", bool: "bool"}
_PIPELINE_FIELDS = frozenset({"description", "execution_mode", "timeout", "labels", "hooks", "max_parallel"})
_RUN_OPTIONS = frozenset({
    "run_name", "orchestrator", "run_labels", "priority", "use_cache", "client", "progress", "request_id",
})  # fmt: skip


class Pipeline:
    """A function that calls steps. Calling it submits the pipeline, shows its progress and waits; `submit` does not
    wait. Parameters with type hints are the pipeline's; inside the function they are handles to give to steps."""

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.signature = inspect.signature(function)
        self._options = dict(options)
        self.name = self._options.pop("name", None) or function.__name__.strip("_")
        defaults = {key: value for key, value in self._options.items() if key not in self._own()}
        self._defaults = normal_options(defaults, f"the pipeline `{self.name}`")
        self._isolation = self._defaults.pop("isolation", "worker")
        for parameter in self.signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise Refused(
                    "PIPELINE_INVALID", f"the pipeline `{self.name}` cannot take `{parameter}`: name its parameters"
                )

    @staticmethod
    def _own() -> frozenset[str]:
        return _PIPELINE_FIELDS | _RUN_OPTIONS | {"source", "ignore", "name"}

    def options(self, **options: Any) -> Pipeline:
        """The same pipeline with other options, those of a run too: `run_name`, `orchestrator`, `run_labels`,
        `priority`, `use_cache`, `client`, `progress` (False: silent)."""
        return Pipeline(self.function, {"name": self.name, **self._options, **options})

    # Building

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return _hints(self.function)

    def _parameters(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            hint = strip(self._hints.get(name, Any))
            if hint is Any and parameter.default is not parameter.empty:
                hint = type(parameter.default)
            field: dict[str, Any] = {"type": _TYPES.get(hint, "json")}
            if parameter.default is not parameter.empty:
                field["default"] = self._plain(name, parameter.default)
            out[name] = field
        return out

    def _plain(self, name: str, value: Any) -> Any:
        try:
            return to_plain(value)
        except NoPlainData as fault:
            raise Refused(
                "PARAMETER_INVALID",
                f"the parameter `{name}` of the pipeline `{self.name}` {fault}: "
                "parameters are numbers, texts, lists and mappings",
            ) from None

    def build(self) -> Built:
        """Runs the function, in which steps are noted instead of called. Raises Refused, CannotSerialise, TypeError."""
        if current_graph() is not None:
            raise Refused(
                "PIPELINE_INSIDE", f"the pipeline `{self.name}` is called inside another: call its steps there"
            )
        root = os.path.abspath(self._options["source"]) if "source" in self._options else _places.root_of(self.function)
        graph = Graph(self.name, root)
        handles = {name: Parameter(name, self._hints.get(name, Any)) for name in self.signature.parameters}
        if self.function.__module__ == "__main__":
            _places.name_main()
        with building(graph):
            returned = self.function(**handles)
        if inspect.isgenerator(returned):
            raise Refused("PIPELINE_INVALID", f"the pipeline `{self.name}` is a generator: take out its `yield`")
        if not graph.calls:
            raise Refused("PIPELINE_INVALID", f"the pipeline `{self.name}` calls no step")
        # A notebook saves itself all the time.
        own = ("*.ipynb",) if _cells.is_in_cell(self.function) else ()
        source = _places.survey(root, [*own, *self._options.get("ignore", ())])
        return Built(self._spec(graph, source), source, graph, returned, self._isolation)

    def _spec(self, graph: Graph, source: _places.Source) -> dict[str, Any]:
        spec: dict[str, Any] = {"name": self.name}
        if self.function.__doc__ and "description" not in self._options:
            spec["description"] = inspect.cleandoc(self.function.__doc__)[:2000]
        spec.update({field: value for field, value in self._options.items() if field in _PIPELINE_FIELDS})
        if self.signature.parameters:
            spec["parameters"] = self._parameters()
        steps = [call.spec() for call in graph.calls]
        # Of every step; it is written out once.
        spec["defaults"] = {**self._defaults, "source": {"path": source.path, "ignore": list(source.ignore)}}
        spec["steps"] = steps
        return spec

    def spec(self) -> dict[str, Any]:
        """What is submitted, with the fields of pipelines as in YAML."""
        spec = self.build().spec
        adapt(spec, None, _places.python_path())
        return spec

    # Running

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as fault:
            raise TypeError(f"pipeline `{self.name}`: {fault}") from None
        return {name: self._plain(name, value) for name, value in bound.arguments.items()}

    def submit(self, *args: Any, **kwargs: Any) -> PipelineRun:
        """Submits it with these parameters, and answers when the run is on the daemon's disk."""
        from .runs import PipelineRun

        self._not_in_a_step()
        parameters = self._given(args, kwargs)
        built = self.build()
        options = self._options
        client = self._client()
        client._ensure_daemon()
        self._adapt(built, client)
        start_workers(built)
        try:
            run = client.submit(
                built.spec, parameters, options.get("run_name", ""), options.get("orchestrator", ""),
                options.get("run_labels"), options.get("request_id"), priority=options.get("priority", 0),
                use_cache=options.get("use_cache"), source_dir=built.source.path,
            )  # fmt: skip
        except PipelineInvalid as invalid:
            raise self._placed(built, invalid) from None
        return PipelineRun(client, run, built)

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineRun:
        """Submits it, shows how it goes, and waits. Raises RunFailed unless it succeeds."""
        run = self.submit(*args, **kwargs)
        return run.wait(progress=self._options.get("progress", True))

    def plan(self, *args: Any, **kwargs: Any) -> Plan:
        """What a run would do, without doing it."""
        parameters = self._given(args, kwargs)
        built = self.build()
        client = self._client()
        self._adapt(built, client)
        try:
            return client.plan(
                built.spec, parameters, self._options.get("orchestrator", ""), source_dir=built.source.path
            )
        except PipelineInvalid as invalid:
            raise self._placed(built, invalid) from None

    def validate(self) -> list[Violation]:
        """All faults; an empty list: it is good."""
        built = self.build()
        return [built.place(fault) for fault in self._client().validate(built.spec)]

    def _adapt(self, built: Built, client: Client) -> None:
        adapt(built.spec, Flavors(client, self._options.get("orchestrator", "")), _places.python_path())
        use_workers(built, client)

    def _placed(self, built: Built, invalid: PipelineInvalid) -> PipelineInvalid:
        faults = [built.place(fault) for fault in invalid.violations]
        return PipelineInvalid(invalid.reason, f"the pipeline `{self.name}` cannot run:", faults, invalid.code)

    def _client(self) -> Client:
        given = self._options.get("client")
        if given is not None:
            return given  # type: ignore[no-any-return]
        from .runs import default_client

        return default_client()

    def _not_in_a_step(self) -> None:
        if os.environ.get(IN_STEP):
            raise Refused(
                "RUN_AT_IMPORT",
                f"the pipeline `{self.name}` is run by its file whenever that is imported, also for each step: "
                'call it under `if __name__ == "__main__":`',
            )

    def main(self, words: Sequence[str] | None = None) -> PipelineRun:
        """Runs it with parameters from the command line: `python train.py --folds 5`. Ends the process with 1 and the
        step's traceback if the run fails."""
        import argparse
        import sys

        from .errors import OrchdError

        parser = argparse.ArgumentParser(description=inspect.getdoc(self.function))
        for name, field in self._parameters().items():
            kind = field["type"]
            read: Any = {"int": int, "float": float, "bool": _read_bool, "string": str}.get(kind, json.loads)
            default = field.get("default", inspect.Parameter.empty)
            required = default is inspect.Parameter.empty
            text = kind if required else f"{kind}, by default {json.dumps(default)}"
            parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=read, required=required,
                                default=argparse.SUPPRESS, help=text.replace("%", "%%"))  # fmt: skip
        given = vars(parser.parse_args(words))
        try:
            return self(**given)
        except OrchdError as error:
            print(error, file=sys.stderr)
            sys.exit(1)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def _read_bool(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


@overload
def pipeline(function: Callable[..., Any]) -> Pipeline: ...
@overload
def pipeline(**options: Any) -> Callable[[Callable[..., Any]], Pipeline]: ...
def pipeline(
    function: Callable[..., Any] | None = None, **options: Any
) -> Pipeline | Callable[[Callable[..., Any]], Pipeline]:
    """Makes a function a pipeline: `@pipeline` or `@pipeline(cache=True, execution_mode="fail_fast")`.

    Options: `name`, `description`, `execution_mode`, `timeout`, `max_parallel`, `labels`, `hooks`; `source` (the folder
    of code that travels; by default the file's) and `ignore`; those of a run (see `options`); any option of a step is
    the default of all its steps. Raises Refused.
    """
    if function is not None:
        return Pipeline(function, options)
    return lambda inner: Pipeline(inner, options)


__all__ = ["Call", "Condition", "Output", "Pipeline", "pipeline"]

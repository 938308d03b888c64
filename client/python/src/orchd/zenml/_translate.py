"""A snapshot of ZenML as a pipeline of orchd."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zenml.config.resource_settings import ByteUnit

from .. import _places, _warm
from . import _environment, _names

if TYPE_CHECKING:
    from zenml.config.resource_settings import ResourceSettings
    from zenml.config.step_configurations import Step

    from ._settings import OrchdOrchestratorSettings

_CLIENT = os.path.join(os.path.dirname(os.path.abspath(_warm.__file__)), "_warm_start.py")


@dataclass
class Place:
    """Where the client's code is, and with what it is run."""

    root: str
    cwd: str
    path: list[str]
    data_dir: str
    base: dict[str, str] = field(default_factory=dict)  # the environment that all steps have, without secrets
    secrets: dict[str, str] = field(default_factory=dict)  # variable to the secret's name in orchd
    shared: dict[str, str] | None = None  # of that what steps in containers have too; None: no step is in one

    @staticmethod
    def of_client(root: str, data_dir: str) -> Place:
        """Of a step that makes others too."""
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        path = [os.path.dirname(os.path.abspath(main))] if main else []
        if "ZENML_ORCHD_PATH" in os.environ:
            path = os.environ["ZENML_ORCHD_PATH"].split(os.pathsep)
        root = os.path.realpath(root)
        return Place(root, os.getcwd(), [p for p in path if p and os.path.realpath(p) != root], data_dir)

    def take(self, environment: Mapping[str, str], secret_prefix: str) -> dict[str, str]:
        """Makes this the environment of all steps. What has to be set as secrets before: their values by name."""
        plain, secret = _environment.split({**_environment.of_client(), **environment})
        self.base = {**plain, "PYTHONUNBUFFERED": "1"}
        pythonpath = _places.python_path()
        if pythonpath:
            self.base["PYTHONPATH"] = pythonpath
        self.secrets = {variable: f"{secret_prefix}.{variable.lower()}" for variable in secret}
        return {self.secrets[variable]: value for variable, value in secret.items()}

    @property
    def socket(self) -> str:
        from . import _workers

        return os.environ.get("ZENML_ORCHD_SOCKET") or _workers.socket_of(self.base, self.root)

    def command(self, kind: str, arguments: list[str], outputs: dict[str, str], isolation: str) -> list[str]:
        payload = {
            "kind": kind, "arguments": arguments, "outputs": outputs,
            "root": self.root, "cwd": self.cwd, "path": self.path, "data_dir": self.data_dir,
            "socket": self.socket, "isolation": isolation,
        }  # fmt: skip
        socket = "-" if isolation == "process" else self.socket
        return [sys.executable, "-IS", _CLIENT, "--zenml", socket, plain_text(json.dumps(payload))]


def plain_text(text: str) -> str:
    """Nothing in it is a template."""
    return text.replace("$", "$$")


def resources(asked: ResourceSettings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if asked.cpu_count is not None:
        found["cpu"] = float(asked.cpu_count)
    if asked.memory is not None:
        amount = asked.get_memory(ByteUnit.B)
        found["memory"] = int(amount or 0)
    if asked.gpu_count:
        found["gpu"] = asked.gpu_count
    return found


def settings_of(settings: OrchdOrchestratorSettings) -> dict[str, Any]:
    """What the settings say of a step."""
    found: dict[str, Any] = {}
    if settings.orchestrator:
        found["orchestrator"] = settings.orchestrator
    if settings.timeout is not None:
        found["timeout"] = {"run": _duration(settings.timeout)}
    if settings.priority:
        found["priority"] = settings.priority
    if settings.pools:
        found["pools"] = dict(settings.pools)
    if settings.platform:
        found["settings"] = settings.platform
    return found


def _duration(value: str | int) -> str:
    return f"{value}s" if isinstance(value, int) else value


def retry(step: Step) -> dict[str, Any]:
    """ZenML repeats a step that fails in the step's own process; orchd one whose process is gone, as often as ZenML's
    server accepts it."""
    asked = step.config.retry
    if asked is None or asked.max_retries < 1:
        return {}
    wait = {"initial": f"{max(1, int(asked.delay * 1000))}ms", "multiplier": max(1, asked.backoff)}
    lost = {"on": ["LOST", "FAILED"], "exit_codes": [_warm.AGAIN]}
    return {"retry": {"max_attempts": asked.max_retries + 1, "backoff": wait, **lost}}


def steps(
    configured: Mapping[str, Step],
    settings: Mapping[str, OrchdOrchestratorSettings],
    environments: Mapping[str, Mapping[str, str]],
    snapshot_id: str,
    place: Place,
) -> list[dict[str, Any]]:
    names = {name: _names.of_step(name) for name in configured}
    outputs = {name: _names.distinct(step.config.outputs) for name, step in configured.items()}
    found = []
    for invocation, step in configured.items():
        inputs: dict[str, str] = {}
        after = [names[upstream] for upstream in step.spec.upstream_steps if upstream in names]
        for argument, sources in step.spec.normalized_inputs.items():
            for number, source in enumerate(sources):
                made = outputs.get(source.step_name, {}).get(source.output_name)
                if made is not None:
                    inputs[argument if len(sources) == 1 else f"{argument}-{number}"] = (
                        f"{names[source.step_name]}.{made}"
                    )
        renamed = _names.distinct(inputs)
        fed = {source.rpartition(".")[0] for source in inputs.values()}
        own = {k: v for k, v in environments.get(invocation, {}).items() if place.base.get(k) != v}
        plain, _ = _environment.split(own)
        isolation = "process" if _environment.needs_fresh_process(plain) else settings[invocation].isolation
        arguments = ["--snapshot_id", snapshot_id, "--step_name", invocation]
        one: dict[str, Any] = {
            "name": names[invocation],
            "command": place.command("step", arguments, outputs[invocation], isolation),
            "inputs": {renamed[argument]: source for argument, source in inputs.items()},
            "outputs": {name: {"type": "zenml", "value": True} for name in outputs[invocation].values()},
            "after": [name for name in after if name not in fed],
            "labels": {"zenml.step": invocation[:1000]},
            **settings_of(settings[invocation]),
            **retry(step),
        }
        if plain:
            one["env"] = {name: plain_text(value) for name, value in plain.items()}
        wanted = resources(step.config.resource_settings)
        if wanted:
            one["resources"] = wanted
        found.append({key: value for key, value in one.items() if value not in ({}, [])})
    return found


def pipeline(name: str, place: Place, written: list[dict[str, Any]], labels: dict[str, str]) -> dict[str, Any]:
    of_all = place.base if place.shared is None else place.shared
    defaults: dict[str, Any] = {"env": {name: plain_text(value) for name, value in of_all.items()}}
    if place.shared is None:
        defaults["working_dir"] = plain_text(place.cwd)
    if place.secrets:
        defaults["secrets"] = dict(place.secrets)
    return {
        "name": _names.fitting(name, dots=True),
        "labels": {key: value[:1000] for key, value in labels.items()},
        "defaults": defaults,
        "steps": written,
    }

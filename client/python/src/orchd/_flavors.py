"""What a step's command is on the flavor that it goes to: this machine's interpreter, or the one of its image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .errors import OrchdError

if TYPE_CHECKING:
    from .client import Client

_HERE = ("local", "fake")  # which see this machine's files
_INSIDE = "/.orch/python"
_PACKAGE = os.path.dirname(os.path.abspath(__file__))


class Flavors:
    """Of the orchestrators that a submission names."""

    def __init__(self, client: Client, orchestrator: str) -> None:
        self._client = client
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}
        self._default = orchestrator

    def of(self, step: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The flavor and its configuration. One that cannot be found out counts as `local`; the daemon will say why."""
        name = str(step.get("orchestrator") or self._default)
        if name not in self._known:
            try:
                self._known[name] = self._ask(name)
            except OrchdError:
                self._known[name] = ("local", {})
        return self._known[name]

    def _ask(self, name: str) -> tuple[str, dict[str, Any]]:
        client = self._client
        if not name:
            stacks = client._call("OrchestratorService.ListStacks", client._request("ListStacksRequest"))
            name = next((stack.orchestrator for stack in stacks.stacks if stack.is_default), "local")
        if name == "local":  # there from the first start
            return name, {}
        request = client._request("GetOrchestratorRequest", name=name)
        answer = client._call("OrchestratorService.GetOrchestrator", request)
        from ._messages import plain_struct

        return answer.flavor, plain_struct(answer.config)


def adapt(spec: dict[str, Any], flavors: Flavors | None, python_path: str) -> None:
    """Steps on this machine find what this process could import. Steps that run elsewhere get the image's `python3`; on
    this machine's Docker engine this package is mounted, and everywhere else the image must have it (without its
    dependencies: a step needs none)."""
    for step in spec["steps"]:
        if step["command"][1:3] != ["-m", "orchd.run_step"]:
            continue
        flavor, config = flavors.of({**spec["defaults"], **step}) if flavors else ("local", {})
        own = step.get("env", {}).get("PYTHONPATH", "")
        extra = ""
        if flavor in _HERE:
            extra = python_path.replace("$", "$$")
        else:
            step["command"] = ["python3", *step["command"][1:]]
        if flavor == "local_docker":
            extra = _INSIDE
            settings = step.get("settings", {})
            mine = settings.get(flavor, {})
            mounts = mine.get("mounts", config.get("mounts", []))  # a step's stand instead of the orchestrator's
            mine = {**mine, "mounts": [*mounts, f"{_PACKAGE}:{_INSIDE}/orchd:ro"]}
            step["settings"] = {**settings, flavor: mine}
        if extra:
            path = os.pathsep.join(filter(None, [extra, own]))
            step["env"] = {**step.get("env", {}), "PYTHONPATH": path}

"""Steps of ZenML in containers: which go there, on which images, and with what of this machine.

ZenML builds the images and lets code travel in them, from a code repository or its artifact store; a step's command is
ZenML's own. The container gets the environment that ZenML gives, this package as its source folder (`zenml_step` is its
first process), and of this machine nothing but ZenML's local stores, if the stack has any there.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zenml.config.global_config import GlobalConfiguration

from ..errors import Refused
from . import _environment

if TYPE_CHECKING:
    from zenml.stack import Stack

    from .._flavors import Flavors
    from ._translate import Place

# Flavors of orchd whose steps are in containers.
FLAVORS = (
    "local_docker", "kubernetes", "kubeflow", "tekton", "vertex", "sagemaker", "azureml", "airflow", "skypilot",
    "hyperai",
)  # fmt: skip
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ENTRIES = {"step": "StepInContainer", "pipeline": "PipelineInContainer"}
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Box:
    """Where a step runs: an orchestrator of a flavor with containers."""

    orchestrator: str
    flavor: str
    config: Mapping[str, Any]

    def setting(self, platform: Mapping[str, Mapping[str, Any]], name: str, default: Any) -> Any:
        """A step's stands instead of the orchestrator's."""
        return platform.get(self.flavor, {}).get(name, self.config.get(name, default))

    def folders(self, platform: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Where a step's container has something mounted."""
        mounts = [str(mount).split(":") for mount in self.setting(platform, "mounts", [])]
        volumes = self.setting(platform, "volume_mounts", [])
        return [words[1] for words in mounts if len(words) in (2, 3)] + [str(one["mountPath"]) for one in volumes]

    @property
    def has_files_of_this_machine(self) -> bool:
        return self.flavor == "local_docker" and not str(self.config.get("host", "")).startswith("tcp://")


def is_inside() -> bool:
    """In a container that a step of orchd is in."""
    return "ZENML_ORCHD_CONTAINER" in os.environ


def boxes(flavors: Flavors, orchestrators: Mapping[str, str | None]) -> dict[str, Box]:
    """Of the steps those that go into containers; `orchestrators`: the name that each has, None for the default one."""
    found = {}
    for step, name in orchestrators.items():
        flavor, config = flavors.of({"orchestrator": name or ""})
        if flavor in FLAVORS:
            found[step] = Box(name or "", flavor, config)
    return found


def put_in(
    written: Mapping[str, dict[str, Any]],
    boxed: Mapping[str, Box],
    images: Mapping[str, str],
    environments: Mapping[str, Mapping[str, str]],
    base_environment: Mapping[str, str],
    place: Place,
    stack: Stack,
) -> None:
    """Changes what was written of steps, as of this machine, to what it is in a container. All is by the step's name in
    ZenML, '' for the function of a dynamic pipeline."""
    common, _ = _environment.split(base_environment)
    place.shared = common
    ours = {name: value for name, value in place.base.items() if common.get(name) != value}
    for name, one in written.items():
        if name not in boxed:
            one["env"] = {**{key: _plain(value) for key, value in ours.items()}, **one.get("env", {})}
            one["working_dir"] = _plain(place.cwd)
            continue
        box = boxed[name]
        own, _ = _environment.split(
            {key: value for key, value in environments.get(name, {}).items() if common.get(key) != value}
        )
        own["PYTHONUNBUFFERED"] = "1"
        platform = one.get("settings", {})
        if _needs_local_stores(stack):
            stores = GlobalConfiguration().local_stores_path
            own["ZENML_LOCAL_STORES_PATH"] = stores
            platform = _with_mount(name, box, platform, stores)
        _check_server(name, box, platform, base_environment)
        one["command"] = _command(json.loads(one["command"][-1].replace("$$", "$")))
        one["image"] = _exactly(images[name], box)
        one["env"] = {key: _plain(value) for key, value in own.items()}
        one["source"] = {"path": _PACKAGE, "ignore": ["_proto", "*.pyi"]}
        if platform:
            one["settings"] = platform


def _command(written: Mapping[str, Any]) -> list[str]:
    """`written`: what the step is, as a step on this machine is told."""
    kind, arguments = written["kind"], written["arguments"]
    payload = {"kind": kind, "arguments": arguments, "python": _PYTHON}
    entry = ["python", "-m", "zenml.entrypoints.entrypoint"]
    entry += ["--entrypoint_config_source", f"orchd.zenml._container.{_ENTRIES[kind]}", *arguments]
    entry += ["--outputs_in_orchd", json.dumps(written["outputs"])]
    return ["python", "-I", "zenml_step.py", *(_plain(word) for word in [json.dumps(payload), *entry])]


def _plain(text: str) -> str:
    """Nothing in it is a template."""
    return text.replace("$", "$$")


def _needs_local_stores(stack: Stack) -> bool:
    """Raises ValueError if something of the stack is elsewhere on this machine."""
    return bool(stack.check_local_paths()) or GlobalConfiguration().uses_local_store


def _with_mount(step: str, box: Box, platform: dict[str, Any], folder: str) -> dict[str, Any]:
    if any(folder == target or folder.startswith(target.rstrip("/") + "/") for target in box.folders(platform)):
        return platform
    if not box.has_files_of_this_machine:
        raise Refused(
            "ZENML_STORE_LOCAL",
            f"the step `{step}` would run on `{box.orchestrator}` of the flavor {box.flavor}, whose containers do not "
            f"see {folder}, where ZenML's store or the stack's artifact store is: use a ZenML server and an artifact "
            "store that can be reached from there, or mount that folder at the same path",
        )
    given = list(box.setting(platform, "mounts", []))
    mine = {**platform.get(box.flavor, {}), "mounts": [*given, f"{folder}:{folder}"]}
    return {**platform, box.flavor: mine}


def _check_server(
    step: str, box: Box, platform: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]
) -> None:
    url = environment.get("ZENML_STORE_URL", "")
    host = urlsplit(url).hostname if url.startswith("http") else None
    if host in _LOOPBACK and box.setting(platform, "network", "") != "host":
        raise Refused(
            "ZENML_SERVER_UNREACHABLE",
            f"the step `{step}` would run in a container, where ZenML's server at {url} is not: connect to an address "
            "that containers reach, or give the daemon's orchestrator the network `host`",
        )


def _exactly(image: str, box: Box) -> str:
    """The image that ZenML has just built here, by its id: its name may be another image's a moment later."""
    host = str(box.config.get("host", ""))
    if "@sha256:" in image or not box.has_files_of_this_machine or box.config.get("pull") == "always":
        return image
    from docker import DockerClient
    from docker.errors import DockerException

    try:
        engine = DockerClient(base_url=host) if host else DockerClient.from_env()
        try:
            return str(engine.images.get(image).id)
        finally:
            engine.close()
    except DockerException:  # it is not there, or is pulled by the daemon's engine, which will say
        return image

"""`python -m orchd.zenml setup`: the flavor, an orchestrator and a stack of ZenML, once or again."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
from typing import Any

from zenml.client import Client as ZenML
from zenml.enums import StackComponentType
from zenml.exceptions import EntityExistsError
from zenml.models import FlavorUpdate
from zenml.utils import source_utils

from ..client import Client
from ..errors import OrchdError

SOURCE = "orchd.zenml.OrchdOrchestratorFlavor"


def _flavor(zenml: ZenML) -> None:
    known = zenml.list_flavors(name="orchd", type=StackComponentType.ORCHESTRATOR).items
    for flavor in known:
        if flavor.source == SOURCE:
            return
        zenml.zen_store.update_flavor(flavor.id, FlavorUpdate(source=SOURCE))
        return
    with contextlib.suppress(EntityExistsError):
        zenml.create_flavor(source=SOURCE, component_type=StackComponentType.ORCHESTRATOR)


def _orchestrator(zenml: ZenML, name: str, configuration: dict[str, Any]) -> Any:
    kind = StackComponentType.ORCHESTRATOR
    known = zenml.list_stack_components(name=name, type=kind).items
    if not known:
        return zenml.create_stack_component(name=name, flavor="orchd", component_type=kind, configuration=configuration)
    if known[0].flavor_name != "orchd":
        raise SystemExit(f"orchd: there is an orchestrator `{name}` of the flavor `{known[0].flavor_name}`: use --name")
    # An attribute without a value is removed.
    wanted = {key: configuration.get(key) for key in ("server", "data_dir", "ca", "orchestrator")}
    return zenml.update_stack_component(known[0].id, kind, configuration=wanted)


def _stack(zenml: ZenML, name: str, orchestrator: Any) -> None:
    if zenml.list_stacks(name=name).items:
        zenml.update_stack(name, component_updates={StackComponentType.ORCHESTRATOR: [orchestrator.id]})
        return
    store = zenml.active_stack_model.components[StackComponentType.ARTIFACT_STORE][0]
    zenml.create_stack(
        name, components={StackComponentType.ORCHESTRATOR: orchestrator.id, StackComponentType.ARTIFACT_STORE: store.id}
    )


def setup(words: argparse.Namespace) -> int:
    with Client(words.server, data_dir=words.data_dir, ca=words.ca) as daemon:
        daemon._ensure_daemon()
        version = daemon.server_info().version
    source_utils.set_custom_source_root(str(pathlib.Path(__file__).resolve().parents[2]))
    zenml = ZenML()
    configuration = {
        key: getattr(words, key) for key in ("server", "data_dir", "ca", "orchestrator") if getattr(words, key)
    }
    _flavor(zenml)
    orchestrator = _orchestrator(zenml, words.name, configuration)
    _stack(zenml, words.stack, orchestrator)
    if not words.no_activate:
        zenml.activate_stack(words.stack)
    where = words.server or "this user's daemon"
    print(f"orchd: the stack `{words.stack}` runs on orchd {version} ({where})", end="")
    print("" if words.no_activate else ", and is the active one")
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchd.zenml", description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("setup", help="register flavor, orchestrator and stack")
    one.add_argument("--server", metavar="URL", help="the daemon; without it this user's own is found, or started")
    one.add_argument("--data-dir", metavar="DIR", help="the daemon's data directory, if it is not in its usual place")
    one.add_argument("--ca", metavar="FILE", help="the authority that signed the server's certificate")
    one.add_argument("--orchestrator", metavar="NAME", help="of the daemon's; without it its default one")
    one.add_argument("--name", default="orchd", help="of the orchestrator (orchd)")
    one.add_argument("--stack", default="orchd", help="of the stack (orchd)")
    one.add_argument("--no-activate", action="store_true", help="leave the active stack as it is")
    one.set_defaults(run=setup)
    words = parser.parse_args(arguments)
    try:
        return int(words.run(words))
    except OrchdError as fault:
        print(f"orchd: {fault}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

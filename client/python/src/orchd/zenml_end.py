"""At the end of a run of ZenML's, run by the daemon: takes the run's secrets away, and tells ZenML how that ended which
could not say it. `python -m orchd.zenml_end PAYLOAD`; apart from `orchd.zenml`, since mostly ZenML need not be asked.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ._discover import data_dir_around
from .client import Client
from .errors import NotFound, OrchdError

# What ends a step whose process has said it to ZenML itself.
_SAID = ("EXIT_CODE",)


def main(words: list[str]) -> int:
    payload: dict[str, Any] = json.loads(words[0])
    data_dir = payload["data_dir"] or data_dir_around(os.environ.get("ORCH_SCRATCH", "")) or None
    with Client(data_dir=data_dir, start=False) as daemon:
        run = daemon.get_run(os.environ["ORCH_RUN_ID"])
        if run.state != "SUCCEEDED" and payload["run"]:
            failed = daemon.list_steps(run, "state=FAILED")
            if payload.get("untold") or not failed or any(step.reason not in _SAID for step in failed):
                _tell(payload, daemon, run)
        for name in payload["secrets"]:
            try:
                daemon.delete_secret(name, force=True)
            except NotFound:
                continue
            except OrchdError as fault:  # in the hook's log
                print(f"orchd: the secret {name} could not be deleted: {fault}", file=sys.stderr)
    return 0


def _tell(payload: dict[str, Any], daemon: Client, run: Any) -> None:
    """As this user is signed in to ZenML, where that has a server: the run's own token is its steps' alone."""
    from uuid import UUID

    os.environ.update(payload["env"])
    from .zenml import reconcile

    reconcile.publish(daemon, run, UUID(payload["run"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

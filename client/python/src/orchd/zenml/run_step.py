"""Runs a ZenML step, or the function of a dynamic pipeline: `python -m orchd.zenml.run_step PAYLOAD`.

The payload (JSON) says what (`kind`, `arguments`), where (`root`, `cwd`, `path`) and under which names of orchd its
outputs are recorded (`outputs`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from .. import _warm
from .._discover import data_dir_around


def prepare(payload: dict[str, Any]) -> None:
    """Before ZenML is imported, or again after a fork of what has imported it."""
    os.chdir(payload["cwd"])
    for folder in reversed([payload["root"], *payload["path"]]):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    os.environ["ZENML_CUSTOM_SOURCE_ROOT"] = payload["root"]
    os.environ.setdefault("ZENML_ORCHD_RUN_ID", os.environ.get("ORCH_RUN_ID", ""))
    # For steps that this one makes.
    os.environ["ZENML_ORCHD_PATH"] = os.pathsep.join(payload["path"])
    os.environ["ZENML_ORCHD_SOCKET"] = payload["socket"]
    # Where this step finds the daemon, if it has something to ask, and the token of a `server` that is named.
    data_dir = payload.get("data_dir") or data_dir_around(os.environ.get("ORCH_SCRATCH", ""))
    if data_dir:
        os.environ["ORCH_DATA_DIR"] = data_dir
        os.environ.pop("ORCH_TOKEN", None)  # the step's own, which may not submit


def say_ended() -> None:
    """ZenML knows how the step ended, or that it never began."""
    with contextlib.suppress(OSError, KeyError), open(os.path.join(os.environ["ORCH_SCRATCH"], ENDED), "wb"):
        pass


ENDED = _warm.ENDED.decode()


def run(payload: dict[str, Any]) -> int:
    """The exit code."""
    from zenml.execution.pipeline.utils import prevent_pipeline_execution
    from zenml.utils import source_utils

    from ._entry import ENTRIES

    source_utils.set_custom_source_root(payload["root"])
    own = os.getpid()
    code = 0
    try:
        with prevent_pipeline_execution():
            entry = ENTRIES[payload["kind"]](payload["arguments"])
            entry.outputs_in_orchd = payload.get("outputs", {})
            entry.run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # ZenML was told by its own launcher
        if os.getpid() == own:
            traceback.print_exc()
        code = 1
    if os.getpid() != own:  # a fork that the step made came back
        os._exit(code)
    say_ended()
    return code


def main(words: Sequence[str]) -> int:
    payload = json.loads(words[0])
    prepare(payload)
    return run(payload)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

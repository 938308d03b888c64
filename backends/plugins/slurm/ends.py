"""How a job ended, from what Slurm says of it and what it left on the shared folder."""
from __future__ import annotations

import time
from pathlib import Path

from commands import Row
from files import text_of, time_of
from orch.backend.v1 import job_pb2 as jp
from script import UNSEEN

# Of Slurm's states: the end, and what it means when the command left no exit code.
FINAL = {
    "COMPLETED": jp.REASON_UNSPECIFIED, "FAILED": jp.REASON_UNSPECIFIED, "CANCELLED": jp.CANCELLED_OUTSIDE,
    "TIMEOUT": jp.TIME_LIMIT, "DEADLINE": jp.TIME_LIMIT, "OUT_OF_MEMORY": jp.OUT_OF_MEMORY, "NODE_FAIL": jp.NODE_LOST,
    "BOOT_FAIL": jp.NODE_LOST, "PREEMPTED": jp.PREEMPTED, "REVOKED": jp.EVICTED,
}
# Its script came to its own end, and so wrote the exit code down, if the command was begun.
BY_ITSELF = ("COMPLETED", "FAILED")


def how(folder: Path, row: Row, code: str, began: bool) -> jp.End | None:
    """Of a job whose folder that is. `code`: what it left; empty: nothing. None: nobody can say."""
    end = jp.End(never_started=not began)
    reason = FINAL[row.state]
    stop = time_of(folder / "stop")
    end.stopped = bool(stop) and row.state in ("CANCELLED", *BY_ITSELF) and stop <= (time_of(folder / "exit") or time.time())
    said = row.state + (f" ({row.reason})" if row.reason else "")
    if reason != jp.REASON_UNSPECIFIED and not (row.state == "CANCELLED" and stop):
        end.reason = reason
        end.message = f"Slurm says {said}"
        return end
    status = int(code) if code.isdigit() else -1
    if status < 0 and row.status:
        status = 128 + (row.status & 0x7F) if row.status & 0x7F else row.status >> 8
    if status < 0 and row.state == "COMPLETED" and (began or not stop):
        return None  # the script also ends so when it had nothing to begin
    if status in (126, 127) and is_missing(folder):
        end.reason = jp.COMMAND_NOT_FOUND
        end.message = "the command cannot be executed: " + text_of(folder / "err")[:500]
    elif status > 128 and status <= 192:
        end.signal = status - 128
    elif status >= 0:
        end.exit_code = status
        if not began:
            end.reason = jp.UNSCHEDULABLE
            end.message = (f"the node {row.node} does not see {folder.parent}" if status == UNSEEN
                           else f"its script could not begin: Slurm says {said}")
    else:
        end.reason = jp.CANCELLED_OUTSIDE if row.state == "CANCELLED" and not stop else jp.OTHER
        end.message = f"Slurm says {said}"
    return end


def is_missing(folder: Path) -> bool:
    """env says so itself, before anything of the command's."""
    try:
        with (folder / "err").open("rb") as file:
            return file.read(14) == b"/usr/bin/env: "
    except OSError:
        return False

"""Whether Slurm would take work now, and if not, what to do about it."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from commands import Refused, Slurm, SlurmError, Unsure
from orch.backend.v1 import plugin_pb2 as pb

SECONDS = 2.5  # of each call; there are three of them at most that hang


def munge_is_down(words: str) -> bool:
    return "munge" in words.lower() or "authentication" in words.lower()


def fix_of(words: str, chosen: dict[str, Any]) -> str:
    """Of a refused submission."""
    said = words.lower()
    if "partition" in said and "account" not in said:
        return f"name another `partition` than `{chosen.get('partition', 'the default')}`: `sinfo` lists them"
    if "account" in said or "association" in said:
        return (f"name an `account` that this user may use ({chosen.get('account', 'none is named')} it is now): "
                "`sacctmgr show associations user=$USER` lists them; an administrator adds one with `sacctmgr add user`")
    if "qos" in said:
        return f"name another `qos` than `{chosen.get('qos', 'the default')}`: `sacctmgr show qos` lists them"
    if "feature" in said or "constraint" in said:
        return "name another `constraint`: `sinfo -o '%N %f'` lists what nodes have"
    if "gres" in said or "generic resource" in said:
        return "name another `gres`: `sinfo -o '%N %G'` lists what nodes have"
    if "time limit" in said:
        return "lower `time_limit`: `sinfo -o '%P %l'` lists what partitions allow"
    return "see what `sbatch --test-only` says with the same options"


def look(slurm: Slurm, folder: Path, chosen: dict[str, Any], options: list[str], remote: str) -> list[pb.Check]:
    """The checks in their order; what a bad one makes senseless is left out. `remote`: the launcher's path, if there is one."""
    checks: list[pb.Check] = []

    def add(name: str, good: bool, text: str, fix: str = "") -> bool:
        checks.append(pb.Check(name=name, good=good, text=text, fix="" if good else fix))
        return good

    try:
        if not add("programs", True, slurm.run("sbatch", "--version", seconds=SECONDS).strip()):
            return checks
    except SlurmError as error:
        add("programs", False, str(error), "install Slurm's client programs (Debian: slurm-client), or name their folder with `bin_dir`")
        return checks
    try:
        said = slurm.run("scontrol", "ping", seconds=SECONDS).strip().replace("\n", "; ")
        if not add("controller", " UP" in said, said, "start slurmctld, or look at its log; running jobs go on meanwhile"):
            return checks
    except SlurmError as error:
        if munge_is_down(str(error)):
            add("munge", False, str(error), "start munge here, with the cluster's key: systemctl start munge; `munge -n | unmunge` tries it")
        else:
            add("controller", False, str(error), "start slurmctld, or look at its log; `scontrol ping` tries it")
        return checks
    partition = chosen.get("partition", "")
    try:
        said = slurm.run("sinfo", "--noheader", "--format=%P %a %D", *([f"--partition={partition}"] if partition else []), seconds=SECONDS)
        rows = [line.split() for line in said.splitlines() if line.strip()]
        row = next((r for r in rows if partition or r[0].endswith("*")), None)
        if row is None:
            add("partition", False, f"there is no partition `{partition}`" if partition else "there is no default partition",
                "name one with `partition`: `sinfo` lists them")
        else:
            add("partition", row[1] == "up", f"{row[0].rstrip('*')} is {row[1]}, with {row[2]} nodes",
                f"an administrator brings it up: scontrol update PartitionName={row[0].rstrip('*')} State=UP")
    except SlurmError as error:
        if munge_is_down(str(error)):  # the controller answers without a word from it
            add("munge", False, str(error), "start munge here, with the cluster's key: systemctl start munge; `munge -n | unmunge` tries it")
            return checks
        add("partition", False, str(error), "see what `sinfo` says")
    if all(check.good for check in checks):
        try:
            slurm.test(options, SECONDS)
            add("submission", True, "a job with this configuration would be taken")
        except Refused as error:
            add("submission", False, str(error), fix_of(str(error), chosen))
        except (Unsure, SlurmError) as error:
            add("submission", False, str(error), "see what `sbatch --test-only` says")
    add("folder", os.access(folder, os.W_OK), f"{folder}" if os.access(folder, os.W_OK) else f"{folder} cannot be written to",
        "the daemon's data directory has to be on a folder that all nodes share, and writable")
    if remote:
        add("launcher", os.access(remote, os.X_OK), remote if os.access(remote, os.X_OK) else f"{remote} is not on this machine",
            "put orch-launch there on every node, or name another path with `launcher`")
    return checks

"""What runs on the nodes: a batch script that finds its job by its place in the batch, and the job's own command."""
from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

TOKEN = "ORCH_TOKEN"
UNSEEN = 66  # how the batch script ends where the folder of its batch is not seen

# One for a whole batch. `began` can be made once only: whatever Slurm does, the command of a job begins once at most.
BATCH = """#!/bin/sh
batch={batch}
jobs={jobs}
[ -e "$batch/void" ] && exit 0
[ -r "$batch/keys" ] || exit {unseen}
place=${{SLURM_ARRAY_TASK_ID:-0}}
key=$(sed -n "$((place + 1))p" "$batch/keys")
job=$jobs/$key
[ -n "$key" ] && [ ! -e "$job/stop" ] && [ "$(cat "$job/batch")" = "${{batch##*/}} $place" ] && mkdir "$job/began" || exit 0
hostname >"$job/began/node"
echo "$SLURMD_NODENAME" >"$job/began/slurmd"
trap : TERM
# Of Slurm's variables it gets those that say which GPUs are its own.
/usr/bin/env -i ${{CUDA_VISIBLE_DEVICES:+"CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"}} \
  ${{ROCR_VISIBLE_DEVICES:+"ROCR_VISIBLE_DEVICES=$ROCR_VISIBLE_DEVICES"}} \
  /bin/sh "$job/run" >>"$job/out" 2>>"$job/err" </dev/null &
child=$!
wait $child
status=$?
while kill -0 $child 2>/dev/null; do
  wait $child
  status=$?
done
[ -s "$job/root" ] && rm -rf -- "$(cat "$job/root")"
echo $status >"$job/exit.new" && mv "$job/exit.new" "$job/exit"
exit $status
"""


def batch_script(batch: Path, jobs: Path) -> str:
    return BATCH.format(batch=shlex.quote(str(batch)), jobs=shlex.quote(str(jobs)), unseen=UNSEEN)


def job_script(job: Any) -> str:
    """Exactly the environment and the words that the daemon gave; nothing of them is read by the shell. It begins in an empty
    environment. The token goes past the words of env, which everybody on the node may read for a moment.
    """
    quote = shlex.quote
    token = next((v.value for v in job.environment if v.name == TOKEN), "")
    variables = [quote(f"{v.name}={v.value}") for v in job.environment if v.name != TOKEN]
    if job.root_dir:
        # scancel reaches the launcher's process group, and it the sessions of the step.
        folders = f"mkdir -m 700 -- {quote(job.root_dir)} || exit 125"
    else:
        folders = f"mkdir -p -- {quote(job.scratch_dir)} {quote(job.output_dir)}"
    # What shells add of their own goes.
    words = ["/usr/bin/env", *(f"-u {name}" for name in ("PWD", "OLDPWD", "SHLVL", "_")), *variables, *map(quote, job.command)]
    return (f"{folders}\n"
            f"cd -- {quote(job.working_dir)} || exit 126\n"
            + (f"export {TOKEN}={quote(token)}\n" if token else "") +
            f"exec {' '.join(words)}\n")


def options(job: Any, config: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Of sbatch; jobs with the same ones may be tasks of one array."""
    chosen = {**config, **settings}
    out = ["--ntasks=1", f"--cpus-per-task={max(1, -(-job.resources.cpu_millis // 1000))}"]
    for name in ("partition", "account", "qos", "constraint"):
        if chosen.get(name):
            out.append(f"--{name}={chosen[name]}")
    if chosen.get("time_limit"):
        out.append(f"--time={chosen['time_limit']}")
    if job.resources.memory:
        out.append(f"--mem={(job.resources.memory + (1 << 20) - 1) >> 20}M")
    gres = [chosen["gres"]] if chosen.get("gres") else []
    if job.resources.gpu:
        kind = f":{job.resources.gpu_kind}" if job.resources.gpu_kind else ""
        gres.append(f"gpu{kind}:{job.resources.gpu}")
    if gres:
        out.append("--gres=" + ",".join(gres))
    return out

"""Pipelines whose outcome is known beforehand, made of steps that say themselves when they begin and end.

A step appends `B RUN STEP ATTEMPT` to the file of marks when it begins and `E …` when it is about to end well; `V …` is a
violation that it saw itself. What a program appends to a file survives its own death.
"""
from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any, Callable

# Supervisors are killed: what is LOST is tried again until it is through. Nothing else is, unless a step says so.
RETRY_LOST = {"max_attempts": 60, "backoff": {"initial": "5ms", "max": "50ms"}, "on": ["lost"]}


@dataclass
class Dag:
    kind: str
    described: dict[str, Any]
    run_state: str = "SUCCEEDED"
    # How a step behaves, by its template's name: `well` is the default; see oracle.check_step.
    behaviour: dict[str, str] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)  # producer, consumer: steps, or templates for all of theirs
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)  # (step, output): its bytes
    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)  # step: its stdout
    cancel: bool = False  # to be cancelled once a step has begun


def _step(marks: str, name: str, script: str, **more: Any) -> dict[str, Any]:
    mark = f'm() {{ printf "%s %s %s %s\\n" $1 $ORCH_RUN_NAME $ORCH_STEP $ORCH_ATTEMPT >> {marks}; }}; '
    whole = mark + "m B; " + script + "; m E"
    return {"name": name, "command": ["/bin/sh", "-ec", whole], "resources": {"cpu": 0.1}, "retry": RETRY_LOST, **more}


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode() + b"  -\n"


def chain(marks: str, rng: random.Random) -> Dag:
    dag = Dag("chain", {})
    steps, before = [], b""
    for i in range(rng.randint(3, 6)):
        feed = "cat $ORCH_INPUT_X; " if i else ""
        inputs = {"x": f"c{i - 1}.o"} if i else {}
        steps.append(_step(marks, f"c{i}", f"{{ {feed}echo {i}; }} | sha256sum > $ORCH_OUTPUT_O; echo out-{i}; echo err >&2",
                           inputs=inputs, outputs={"o": {}}))
        before = _sum(before + f"{i}\n".encode())
        dag.files[f"c{i}", "o"] = before
        dag.logs[f"c{i}"] = f"out-{i}\n".encode()
        if i:
            dag.edges.append((f"c{i - 1}", f"c{i}"))
    dag.described = {"name": "chain", "steps": steps, "hooks": {"on_success": {"command": ["true"]}}}
    return dag


def mesh(marks: str, rng: random.Random) -> Dag:
    """Layers, each step fed by all of the layer before; some outputs too large for the database, some folders."""
    width = 3
    dag = Dag("mesh", {})
    steps: list[dict[str, Any]] = []
    layer: list[bytes] = []
    for d in range(3):
        fresh = []
        for w in range(width):
            name = f"m{d}x{w}"
            inputs = {f"i{k}": f"m{d - 1}x{k}.o" for k in range(width)} if d else {}
            cat = "cat " + " ".join(f"$ORCH_INPUT_I{k}" for k in range(width)) if d else "true"
            size = 150_000 if w == 0 else 200
            script = (f"s=$({{ echo {name}; {cat}; }} | sha256sum); yes \"$s\" | head -c {size} > $ORCH_OUTPUT_O; "
                      f"mkdir -p $ORCH_OUTPUT_D/sub; echo $ORCH_RUN_NAME {name} > $ORCH_OUTPUT_D/sub/f; sleep 0.0{rng.randint(0, 5)}")
            steps.append(_step(marks, name, script, inputs=inputs, outputs={"o": {}, "d": {"type": "dir"}}))
            line = _sum(name.encode() + b"\n" + b"".join(layer))
            fresh.append((line * (size // len(line) + 1))[:size])
            dag.files[name, "o"] = fresh[-1]
            dag.edges += [(f"m{d - 1}x{k}", name) for k in range(width)] if d else []
        layer = fresh
    dag.described = {"name": "mesh", "steps": steps}
    return dag


def wide(marks: str, rng: random.Random) -> Dag:
    """Independent steps that may run only so many at a time: by the run, and by a pool that all runs share."""
    n = rng.randint(5, 12)
    limit = rng.randint(2, 4)

    def guarded(what: str, places: int) -> str:
        tries = " || ".join(f"{{ exec 9>{marks}.{what}.{k}; flock -n 9; }}" for k in range(places))
        return f"{tries} || m V-{what}; sleep 0.0{rng.randint(0, 3)}"

    steps = [_step(marks, "w", guarded(f"{rng.randrange(1 << 40):x}", limit), foreach={"i": list(range(n))})]
    steps.append(_step(marks, "gated", guarded("gate", 2), foreach={"i": list(range(3))}, pools={"gate": 1}))
    steps[1]["resources"] = {"cpu": 0.01}
    return Dag("wide", {"name": "wide", "max_parallel": limit, "steps": steps})


def fan(marks: str, rng: random.Random) -> Dag:
    dag = Dag("fan", {})
    items = [rng.randrange(1000) for _ in range(4)]
    dag.described = {"name": "fan", "steps": [
        _step(marks, "seed", "echo 7 > $ORCH_OUTPUT_V", outputs={"v": {"value": True}}),
        _step(marks, "part", "echo $((${item.i} * ${values.s})) > $ORCH_OUTPUT_V", foreach={"i": items},
              inputs={"s": "seed.v"}, outputs={"v": {"value": True}}),
        _step(marks, "gather", "cat $ORCH_INPUT_VS > $ORCH_OUTPUT_ALL", inputs={"vs": "part[*].v"},
              outputs={"all": {"value": True}})]}
    dag.edges = [("seed", "part"), ("part", "gather")]
    dag.values["gather", "all"] = [i * 7 for i in items]
    return dag


def grows(marks: str, rng: random.Random) -> Dag:
    """Fans out over a list that a step makes, maybe an empty one; a condition decides which instances go on."""
    items = [rng.randrange(1000) for _ in range(rng.randint(0, 4))]
    over = {"x": {"from": "make.xs"}}
    dag = Dag("grows", {"name": "grows", "steps": [
        _step(marks, "make", f"echo '{items}' > $ORCH_OUTPUT_XS", outputs={"xs": {"value": True}}),
        _step(marks, "each", "echo $((${item.x} * 3)) > $ORCH_OUTPUT_V", foreach=over, outputs={"v": {"value": True}}),
        _step(marks, "large", "true", foreach=over, inputs={"v": "each[item].v"}, when=".each.v > 1500"),
        _step(marks, "gather", "cat $ORCH_INPUT_VS > $ORCH_OUTPUT_ALL", inputs={"vs": "each[*].v"},
              outputs={"all": {"value": True}})]},
        behaviour={"each": "grows", "large": "grows",
                   **{f"large[{i}]": "never" for i, x in enumerate(items) if x * 3 <= 1500}},
        edges=[("make", "each"), ("each", "gather")] + [(f"each[{i}]", f"large[{i}]") for i in range(len(items))])
    dag.values["gather", "all"] = [x * 3 for x in items]
    return dag


def early(marks: str, rng: random.Random) -> Dag:
    """The producer ends only once the consumer of what it published has begun, or after a while."""
    wait = (f"n=0; while ! grep -q \"^B $ORCH_RUN_NAME eager \" {marks} && [ $n -lt 400 ]; do sleep 0.02; n=$((n + 1)); done")
    dag = Dag("early", {"name": "early", "steps": [
        _step(marks, "producer", f"echo published > $ORCH_OUTPUT_X; orch-launch publish x; {wait}", outputs={"x": {}}),
        _step(marks, "eager", "cat $ORCH_INPUT_X > $ORCH_OUTPUT_Y", inputs={"x": {"from": "producer.x", "early": True}},
              outputs={"y": {}}),
        _step(marks, "patient", "cat $ORCH_INPUT_X > $ORCH_OUTPUT_Z", inputs={"x": "producer.x"}, outputs={"z": {}})]})
    dag.edges = [("producer", "patient")]
    dag.files["eager", "y"] = dag.files["patient", "z"] = b"published\n"
    return dag


def flaky(marks: str, rng: random.Random) -> Dag:
    again = {**RETRY_LOST, "on": ["failed", "lost"]}
    dag = Dag("flaky", {"name": "flaky", "steps": [
        _step(marks, "flaky", "test $ORCH_ATTEMPT -ge 3; echo through > $ORCH_OUTPUT_O", outputs={"o": {}}, retry=again),
        _step(marks, "after", "cat $ORCH_INPUT_O", inputs={"o": "flaky.o"}),
        _step(marks, "once", "sleep 0.02", retry={"max_attempts": 1})]},
        behaviour={"flaky": "flaky", "once": "once"}, edges=[("flaky", "after")])
    dag.files["flaky", "o"] = b"through\n"
    return dag


def cancelled(marks: str, rng: random.Random) -> Dag:
    dag = Dag("cancelled", {"name": "cancelled", "steps": [
        _step(marks, "sleeper", "sleep 60"),
        _step(marks, "stubborn", "trap '' TERM; sleep 60 & wait; while :; do sleep 0.05; done"),
        _step(marks, "away", "setsid sh -c 'trap \"\" TERM; while :; do sleep 0.05; done' & wait"),
        _step(marks, "never", "true", after=["sleeper"])]}, run_state="CANCELLED",
        behaviour={"sleeper": "stopped", "stubborn": "stopped", "away": "stopped", "never": "never"}, cancel=True)
    return dag


def timed_out(marks: str, rng: random.Random) -> Dag:
    return Dag("timed_out", {"name": "timed_out", "steps": [
        _step(marks, "slow", "sleep 60", timeout={"run": "150ms"}),
        _step(marks, "frozen", "sh -c 'kill -STOP $PPID' & sleep 60", timeout={"run": "150ms"}),
        _step(marks, "beside", "sleep 0.02")]}, run_state="FAILED",
        behaviour={"slow": "timed_out", "frozen": "timed_out"})


def fail_fast(marks: str, rng: random.Random) -> Dag:
    wait = f"while ! grep -q \"^B $ORCH_RUN_NAME sleeper \" {marks}; do sleep 0.02; done"
    return Dag("fail_fast", {"name": "fail_fast", "execution_mode": "fail_fast", "steps": [
        _step(marks, "bad", f"{wait}; exit 3"), _step(marks, "sleeper", "sleep 60"),
        _step(marks, "next", "true", after=["sleeper"])]}, run_state="FAILED",
        behaviour={"bad": "fails", "sleeper": "halted", "next": "never"})


def cached(marks: str, rng: random.Random) -> Dag:
    """The same work again and again, and now and then new work, which the submission does not find in the cache."""
    number = rng.randrange(4 if rng.random() < 0.5 else 1_000_000)
    dag = Dag("cached", {"name": "cached", "steps": [
        _step(marks, "first", f"echo {number} > $ORCH_OUTPUT_O", outputs={"o": {}}, cache={"enabled": True}),
        _step(marks, "second", "sha256sum < $ORCH_INPUT_O > $ORCH_OUTPUT_O", inputs={"o": "first.o"}, outputs={"o": {}},
              cache={"enabled": True})]}, behaviour={"first": "cached", "second": "cached"}, edges=[("first", "second")])
    first = f"{number}\n".encode()
    dag.files["first", "o"], dag.files["second", "o"] = first, _sum(first)
    return dag


def leaves_behind(marks: str, rng: random.Random) -> Dag:
    """Ends at once and leaves processes in other sessions, one of them daemonised; the oracle looks for them."""
    return Dag("leaves_behind", {"name": "leaves_behind", "steps": [
        _step(marks, "leaves", "(setsid sleep 300 &); (trap '' TERM HUP; sleep 300) > /dev/null 2>&1 & true")]})


def large_log(marks: str, rng: random.Random) -> Dag:
    lines = rng.randint(2_000, 20_000)
    dag = Dag("large_log", {"name": "large_log", "steps": [
        _step(marks, "talks", f"i=0; while [ $i -lt {lines} ]; do echo \"line $i of the log\"; i=$((i + 1)); done")]})
    dag.logs["talks"] = "".join(f"line {i} of the log\n" for i in range(lines)).encode()
    return dag


KINDS: list[Callable[[str, random.Random], Dag]] = [chain, mesh, wide, fan, grows, early, flaky, cancelled, timed_out, fail_fast,
                                                    cached, leaves_behind, large_log]

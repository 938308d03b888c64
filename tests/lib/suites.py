"""Runs the tests: installs what they need, builds, and prints one closing line.

tests/run               what Debian's packages allow: some MINUTES minutes after the build
tests/run NAME…         these suites
tests/run --all         every suite
tests/run --list        what there is
tests/run crash --kills N    N kills at random instants, of the daemon, its supervisor, or both
tests/run crash --minutes M  kills for so long; --all-seeds: every fault point three times, and the largest loads
"""
from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CI = os.environ.get("CI") == "true"


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # by name


@dataclass
class Suite:
    name: str
    minutes: float
    what: str
    presets: list[str]  # built before it runs
    command: list[str]
    counts: str  # how its output is read: ctest, unittest, lines (`ok …`, `not ok …`), figures
    default: bool = True
    required_in_ci: bool = True

    def limit(self) -> float:
        """Seconds after which it is ended: one that hangs must say where, and leave time for those after it."""
        return 60 * (10 + 3 * self.minutes)


def ctest(preset: str, *more: str) -> list[str]:
    return ["ctest", "--preset", preset, *more]


def unittest(folder: str) -> list[str]:
    # Debian's python3, which has the packages; the first on PATH may be another.
    return ["/usr/bin/python3", "-m", "unittest", "discover", "-v", "-s", folder, "-t", str(ROOT)]


def side_by_side(folder: str) -> list[str]:
    """For those that mostly wait."""
    return ["/usr/bin/python3", "tests/lib/side_by_side.py", folder]


SUITES = [
    Suite("unit", 0.5, "everything in C++ but the API and the clients, optimised", ["release"], ctest("release"), "ctest"),
    Suite("sim", 0.7, "simulated worlds: listed seeds, large plain ones, 30 s of new seeds", ["release"],
          ["build/release/bin/sim", "--seconds", "30"], "lines"),
    Suite("asan", 1.5, "the same under AddressSanitizer and UBSan", ["asan"], ctest("asan"), "ctest"),
    Suite("tsan", 1.0, "what is gRPC-free under ThreadSanitizer", ["tsan"], ctest("tsan"), "ctest"),
    Suite("tidy", 0.1, "layers, banned calls, links, the API's baseline", [], unittest("tests/tidy"), "unittest"),
    Suite("python", 2.5, "the Python client, on Debian's grpcio and, where PyPI is in reach, on the newest", ["release"],
          ["tests/python/run"], "unittest"),
    Suite("python-versions", 2.0, "the same on the oldest Python and the newest that is here, and notebooks (needs PyPI once)", ["release"],
          ["tests/python/run", "versions"], "unittest", default=False, required_in_ci=False),
    Suite("zenml", 6.0, "stock ZenML pipelines on orchd and on ZenML's own orchestrator, with real ZenML (needs PyPI once)", ["release"],
          ["tests/zenml/run"], "unittest", default=False),
    Suite("zenml-kubernetes", 5.0, "ZenML's steps in pods of a real Kubernetes (needs PyPI once, root and go; the first time ten minutes more)",
          ["release"], ["env", "ZENML_VERSIONS=0.98", "tests/zenml/run", "test_pods"], "unittest", default=False, required_in_ci=False),
    Suite("e2e", 3.0, "the real binaries: orchctl, HTTP, gRPC, bad input, faults", ["release"],
          unittest("tests/e2e"), "unittest"),
    Suite("examples", 0.5, "every pipeline under examples/ does what it says", ["release"], unittest("tests/examples"),
          "unittest"),
    Suite("disk", 1.5, "disks that fail, fill up or are slow, clocks that are set, limits of the machine", ["release"],
          unittest("tests/disk"), "unittest", default=False),
    Suite("docs", 0.3, "links, and the commands in the documentation as pasted", ["release"], unittest("tests/docs"),
          "unittest"),
    Suite("fuzz", 2.5, "every parser under libFuzzer, AddressSanitizer and UBSan: its corpus, then 6 s of new inputs", ["fuzz"],
          ["tests/fuzz/run", "--no-build", "--seconds", "6"], "unittest", default=False),
    Suite("hostile", 1.0, "raw bytes at every port, random messages at every call", ["release"], unittest("tests/hostile"),
          "unittest", default=False),
    Suite("sizes", 0.8, "size cliffs: refused before any work, or done in bounded memory", ["release"],
          unittest("tests/sizes"), "unittest", default=False),
    Suite("docker", 4.0, "steps as containers of a real Docker engine, also a sick one, and a registry (needs root and Debian's docker.io)", ["release"],
          unittest("tests/docker"), "unittest", default=False, required_in_ci=False),
    Suite("kubernetes", 16.0, "a real Kubernetes of one node, and the client of its API on it (needs root and go; the first time ten minutes more)", ["release"],
          unittest("tests/kubernetes"), "unittest", default=False, required_in_ci=False),
    Suite("tekton", 18.0, "Tekton's real controller and webhook on that Kubernetes (needs root and go; the first time five minutes more)", ["release"],
          unittest("tests/tekton"), "unittest", default=False, required_in_ci=False),
    Suite("s3", 1.5, "artifact stores on VersityGW, a real S3 server, and on moto with its checks on (needs go and PyPI once)", ["release"],
          unittest("tests/s3"), "unittest", default=False, required_in_ci=False),
    Suite("conformance", 5.0, "what every flavor has to do, and what a pipeline can say on each, on the real platforms", ["release"],
          side_by_side("tests/conformance"), "unittest", default=False, required_in_ci=False),
    Suite("plugin", 3.0, "plug-ins: the sample, those that misbehave, docs/custom-flavor.md in an empty folder", ["release"],
          unittest("tests/plugin"), "unittest", default=False),
    Suite("slurm", 5.0, "steps on a real Slurm cluster of one node (needs root, cgroups, and Debian's slurmctld, slurmd and munge)", ["release"],
          side_by_side("tests/slurm"), "unittest", default=False, required_in_ci=False),
    Suite("crash", 4.0, "kill -9 at random instants and at every fault point; an oracle, slow readers, secrets", ["release"],
          unittest("tests/crash"),
          "unittest"),
    Suite("bench", 4.0, "figures beside ninja and make; prints, judges nothing", ["release"],
          ["/usr/bin/python3", "tests/bench/run"], "figures", default=False, required_in_ci=False),
    Suite("planted", 4.0, "bugs on purpose: does a test find each within ten minutes?", [],
          ["tests/sim/planted"], "lines", default=False, required_in_ci=False),
    Suite("clang-tidy", 6.0, "the short list of .clang-tidy over all sources", ["dev"],
          ["tests/tidy/clang-tidy"], "figures", default=False, required_in_ci=False),
]

DEFAULT = [suite for suite in SUITES if suite.default]


def minutes_of(suites: list[Suite]) -> float:
    """What they are estimated to take, one after another."""
    return sum(suite.minutes for suite in suites)


def say(text: str = "") -> None:
    print(text, flush=True)


def run(command: list[str], **more: object) -> int:
    return subprocess.run(command, cwd=ROOT, **more).returncode  # type: ignore[call-overload]


MOST_NAMED = 20  # of the failures of a suite, in the summary
CONFIGURED_AS = {"fuzz": "asan"}  # of a build preset that has not a folder of its own


def build(preset: str) -> bool:
    started = time.monotonic()
    log = ROOT / "build" / f"{preset}.log"
    log.parent.mkdir(exist_ok=True)
    configure = ["cmake", "--preset", CONFIGURED_AS.get(preset, preset)]
    if CI:
        configure.append("-DORCH_WERROR=ON")
    with log.open("w") as out:
        good = run(configure, stdout=out, stderr=subprocess.STDOUT) == 0 and (
            run(["cmake", "--build", "--preset", preset], stdout=out, stderr=subprocess.STDOUT) == 0)
    if not good:
        lines = log.read_text(errors="replace").splitlines()
        errors = [n for n, line in enumerate(lines) if re.search(r"error:|FAILED:|CMake Error", line)]
        begin = max(0, errors[0] - 2) if errors else max(0, len(lines) - 40)
        say("\n".join(lines[begin:begin + 60]))
        say(f"build {preset} failed; the whole of it is in build/{preset}.log")
        return False
    say(f"built {preset} in {time.monotonic() - started:.0f} s")
    return True


def read_ctest(text: str) -> Outcome:
    found = re.search(r"(\d+)% tests passed, (\d+) tests failed out of (\d+)", text)
    if not found:
        return Outcome(failed=1, reasons=["ctest printed no closing line"])
    failed, total = int(found[2]), int(found[3])
    skipped = len(re.findall(r"\*\*\*Skipped", text))
    return Outcome(total - failed - skipped, failed, skipped, ["some tests skipped themselves"] if skipped else [],
                   re.findall(r"^\t *\d+ - (.+ \((?!Skipped|Not Run)[^()]*\)) *$", text, re.M))


def read_unittest(text: str) -> Outcome:
    out = Outcome()
    for found in re.finditer(r"^Ran (\d+) tests? in .*?\n\n(OK|FAILED)(?: \(([^)]*)\))?", text, re.M | re.S):
        total = int(found[1])
        numbers = dict(re.findall(r"(\w+)=(\d+)", found[3] or ""))
        failed = int(numbers.get("failures", 0)) + int(numbers.get("errors", 0))
        skipped = int(numbers.get("skipped", 0))
        out.passed += max(0, total - failed - skipped)  # a class that is skipped as a whole is skipped once, and ran nothing
        out.failed += failed
        out.skipped += skipped
    out.reasons = sorted(set(re.findall(r"skipped ['\"](.*?)['\"]$", text, re.M)) | set(re.findall(r"^SKIPPED:? (.*)$", text, re.M)))
    out.skipped += len(re.findall(r"^SKIPPED: ", text, re.M))  # a part whose tests were not even begun
    out.failures = list(dict.fromkeys(re.findall(r"^(?:FAIL|ERROR): (.*)$", text, re.M)))
    if out.passed + out.failed + out.skipped == 0:
        return Outcome(failed=1, reasons=["no test ran"])
    return out


def read_lines(text: str) -> Outcome:
    faults = re.findall(r"^(?:not ok|broken:).*$", text, re.M)
    return Outcome(len(re.findall(r"^ok ", text, re.M)), len(faults), 0, [], faults)


def run_to_its_end(command: list[str], environment: dict[str, str], seconds: float | None) -> tuple[str, int | None]:
    """Prints what `command` prints. Returns that and its exit code, or None where it had to be ended after `seconds`."""
    # A session of its own, so that whatever it started can be ended with it. SIGABRT makes Python print its stacks.
    process = subprocess.Popen(command, cwd=ROOT, env=dict(environment, PYTHONFAULTHANDLER="1"), start_new_session=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    ends_at = None if seconds is None else time.monotonic() + seconds
    endings = [signal.SIGABRT, signal.SIGKILL]
    text = bytearray()
    late = False
    try:
        while True:
            left = 1.0 if ends_at is None else min(1.0, max(0.0, ends_at - time.monotonic()))
            readable, _, _ = select.select([process.stdout], [], [], left)
            if not readable and process.poll() is not None:
                break  # a process that it left behind has the pipe
            if readable:
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    break
                text += chunk
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            if ends_at is not None and time.monotonic() >= ends_at:
                if not endings:
                    break  # what it left behind holds the pipe
                late = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, endings.pop(0))
                ends_at = time.monotonic() + 5
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        raise
    finally:
        process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what is left of it
    code = process.wait()
    return text.decode(errors="replace"), None if late else code


def seconds_left() -> float:
    """Until ORCH_TEST_ENDS_AT, a second of the Unix epoch by which all has to be over; without it there is no end."""
    ends_at = os.environ.get("ORCH_TEST_ENDS_AT")
    return float(ends_at) - time.time() if ends_at else float("inf")


def execute(suite: Suite, environment: dict[str, str], limited: bool) -> Outcome:
    say(f"\n== {suite.name}: {suite.what}")
    started = time.monotonic()
    left = seconds_left()
    if left < 120 * suite.minutes and not suite.required_in_ci:
        say(f"== {suite.name}: not run")
        return Outcome(skipped=1, reasons=[f"not run: of all the time there were only {max(0, left) / 60:.0f} minutes left"])
    limit = min(suite.limit(), left) if limited else None
    text, code = run_to_its_end(suite.command, environment, limit)
    if suite.counts == "ctest":
        outcome = read_ctest(text)
    elif suite.counts == "unittest":
        outcome = read_unittest(text)
    elif suite.counts == "lines":
        outcome = read_lines(text)
    else:
        outcome = Outcome(passed=1 if code == 0 else 0, failed=0 if code == 0 else 1)
    if code is None:
        outcome.failed = max(outcome.failed, 1)
        outcome.reasons.append(f"it had not ended after {(time.monotonic() - started) / 60:.0f} minutes; where it hung is above")
    elif code != 0 and outcome.failed == 0:
        outcome.failed = 1
        outcome.reasons.append(f"it ended with exit code {code}")
    if outcome.failed == 0 and outcome.passed == 0 and CI and suite.required_in_ci:
        outcome.failed = 1
        outcome.reasons.append("it is required in CI and ran nothing")
    say(f"== {suite.name}: {outcome.passed} passed, {outcome.failed} failed, {outcome.skipped} skipped"
        f" in {time.monotonic() - started:.0f} s")
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/run", description=(__doc__ or "").replace("MINUTES", f"{minutes_of(DEFAULT):.0f}"),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every suite")
    parser.add_argument("--list", action="store_true", help="name the suites and end")
    parser.add_argument("--kills", type=int, help="of the suite crash: how many kills at random instants")
    parser.add_argument("--minutes", type=float, help="of the suite crash: kill for so long instead")
    parser.add_argument("--seed", type=int, help="of the suite crash: repeat the kills of this seed")
    parser.add_argument("--all-seeds", action="store_true", help="of the suite crash: fault points with three seeds, large loads")
    parser.add_argument("--no-install", action="store_true", help="the packages are there")
    args = parser.parse_args()
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in args.suites if name not in known]
    if unknown:
        say(f"tests/run: there is no suite `{unknown[0]}`; there are: {' '.join(known)}")
        return 2
    if args.all:
        chosen = SUITES
    elif args.suites:
        chosen = [known[name] for name in args.suites]
    else:
        chosen = DEFAULT
    left_out = [suite for suite in SUITES if suite not in chosen]

    say(f"suites (estimated minutes after the build, {minutes_of(chosen):.1f} in all):")
    for suite in chosen:
        say(f"  {suite.name:<11}{suite.minutes:>5.1f}  {suite.what}")
    if left_out:
        say("left out:")
        for suite in left_out:
            say(f"  {suite.name:<11}{suite.minutes:>5.1f}  {suite.what}: tests/run {suite.name}")
    if args.list:
        return 0

    if not args.no_install and run(["deploy/install-packages"]) != 0:
        return 1
    # A shell that starts this in the background has it ignored, also in what is started here: tests interrupt programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    total = Outcome()
    notes: list[str] = []
    built: dict[str, bool] = {}
    for preset in dict.fromkeys(p for suite in chosen for p in suite.presets):
        built[preset] = build(preset)
        if not built[preset]:
            total.failed += 1
            notes.append(f"build {preset}: failed")
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
    for name in ("ORCH_SERVER", "ORCH_TOKEN", "ORCH_DATA_DIR"):
        environment.pop(name, None)
    environment["PATH"] = f"{ROOT}/build/release/bin:{environment['PATH']}"
    if args.kills:
        environment["ORCH_TEST_KILLS"] = str(args.kills)
    if args.minutes:
        environment["ORCH_TEST_MINUTES"] = str(args.minutes)
    if args.seed is not None:
        environment["ORCH_TEST_SEED"] = str(args.seed)
    if args.all_seeds:
        environment.update(ORCH_TEST_SEEDS="3", ORCH_TEST_STEPS="1000000")
    for suite in chosen:
        if not all(built.get(preset, True) for preset in suite.presets):
            notes.append(f"{suite.name}: not run, its build failed")
            continue
        # A run that was asked to be long is.
        outcome = execute(suite, environment, limited=not (args.kills or args.minutes or args.all_seeds))
        total.passed += outcome.passed
        total.failed += outcome.failed
        total.skipped += outcome.skipped
        notes += [f"{suite.name}: {reason}" for reason in outcome.reasons]
        notes += [f"{suite.name}: FAILED {name}" for name in outcome.failures[:MOST_NAMED]]
        if len(outcome.failures) > MOST_NAMED:
            notes.append(f"{suite.name}: FAILED and {len(outcome.failures) - MOST_NAMED} more")
    say("\nsummary")
    for note in notes:
        say(f"  {note}")
    say(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed or not total.passed + total.skipped else 0


if __name__ == "__main__":
    sys.exit(main())

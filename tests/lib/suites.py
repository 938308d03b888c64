"""The suites of tests/run: what each is, what it needs, how it is run, and how its results are counted."""
import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
JOBS = str(os.cpu_count() or 2)


class Result:
    def __init__(self, passed=0, failed=0, skipped=0, reasons=()):
        self.passed, self.failed, self.skipped, self.reasons = passed, failed, skipped, list(reasons)


class Skip(Exception):
    """The suite's platform cannot be had here; the text says why."""


class Context:
    """What the suites share: CI or not, and one build a preset."""

    def __init__(self, ci):
        self.ci = ci
        self.built = set()

    def build(self, preset):
        if preset in self.built:
            return True
        configure = ["cmake", "--preset", preset]
        if self.ci:
            configure.append("-DORCH_WERROR=ON")
        started = time.monotonic()
        print(f"-- build {preset}", flush=True)
        for command in (configure, ["cmake", "--build", "--preset", preset, "-j", JOBS]):
            code, text = execute(command, 5400, quiet=True)
            if code != 0:
                print(text[-8000:])
                return False
        print(f"-- built {preset} in {time.monotonic() - started:.0f} s", flush=True)
        self.built.add(preset)
        return True


def execute(command, seconds, quiet=False, env=None):
    """Runs a command in a session of its own; on time-out its process group is ended. Returns (code, output)."""
    with tempfile.TemporaryFile() as sink:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sink if quiet else subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **(env or {})})
        text = bytearray()
        timer_end = time.monotonic() + seconds
        try:
            if quiet:
                process.wait(seconds)
            else:
                os.set_blocking(process.stdout.fileno(), False)
                while process.poll() is None or True:
                    chunk = process.stdout.read()
                    if chunk:
                        text += chunk
                        sys.stdout.buffer.write(chunk)
                        sys.stdout.flush()
                    elif process.poll() is not None:
                        break
                    elif time.monotonic() > timer_end:
                        raise subprocess.TimeoutExpired(command, seconds)
                    else:
                        time.sleep(0.05)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if isinstance(error, KeyboardInterrupt):
                raise
            text += f"\nended after {seconds} s\n".encode()
            return 124, text.decode(errors="replace")
        if quiet:
            sink.seek(0)
            text += sink.read()
        return process.returncode, text.decode(errors="replace")


def count_ctest(code, text):
    """ctest says `98% tests passed, 2 tests failed out of 100`; skipped and disabled ones are listed below it."""
    found = re.search(r"tests passed, (\d+) tests? failed out of (\d+)", text)
    if not found:
        return Result(failed=1, reasons=["ctest ran no test"])
    failed, total = int(found[1]), int(found[2])
    skipped = len(re.findall(r"\*\*\*(?:Skipped|Not Run)", text))
    if code != 0 and failed == 0:
        failed = 1
    if total == 0:
        return Result(failed=1, reasons=["ctest found no test"])
    return Result(total - failed - skipped, failed, skipped)


def count_unittest(code, text):
    ran = re.findall(r"^Ran (\d+) tests? in", text, re.M)
    if not ran:
        return Result(failed=1, reasons=["no test ran"])
    total = int(ran[-1])

    def of(word):
        found = re.findall(rf"\b{word}=(\d+)", text.rsplit("Ran ", 1)[-1])
        return int(found[-1]) if found else 0
    failed, skipped = of("failures") + of("errors") + of("unexpected successes"), of("skipped")
    reasons = sorted(set(re.findall(r"skipped ['\"](.+?)['\"]$", text, re.M)))
    if code != 0 and failed == 0:
        failed = 1
    if total == 0 and failed == 0:
        return Result(failed=1, reasons=["no test was found"])
    return Result(max(0, total - failed - skipped), failed, skipped, reasons)


def ctest(preset, exclude=None):
    def run(context):
        if not context.build(preset):
            return Result(failed=1, reasons=[f"the {preset} build failed"])
        command = ["ctest", "--preset", preset, "--no-tests=error"]
        if exclude:
            command += ["-LE", exclude]
        return count_ctest(*execute(command, 1800))
    return run


def unittests(folder, pattern="test_*.py", builds=True, seconds=1800, env=None):
    def run(context):
        if not (ROOT / folder).is_dir() or not list((ROOT / folder).glob(pattern)):
            raise Skip(f"{folder} has no {pattern} yet")
        if builds and not context.build("release"):
            return Result(failed=1, reasons=["the release build failed"])
        package = (ROOT / folder / "__init__.py").exists()
        command = [PYTHON, "-B", "-m", "unittest", "discover", "-v", "-s", folder, "-p", pattern]
        return count_unittest(*execute(command + (["-t", "."] if package else []), seconds, env=env))
    return run


def run_format(context):
    files = subprocess.run(["git", "ls-files", "*.cc", "*.h"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.split()
    bad = []
    for start in range(0, len(files), 50):
        code, text = execute(["clang-format", "--dry-run", "-Werror", *files[start:start + 50]], 300, quiet=True)
        if code != 0:
            bad += re.findall(r"^([^:\s]+):\d+:\d+: error", text, re.M) or [text]
    bad = sorted(set(bad))
    for name in bad:
        print(f"not formatted: {name} (clang-format -i {name})")
    return Result(len(files) - len(bad), len(bad))


def run_clang_tidy(context):
    if not context.build("dev"):
        return Result(failed=1, reasons=["the dev build failed"])
    code, _ = execute(["run-clang-tidy", "-quiet", "-p", "build/dev", "-j", JOBS, "/(server|backends|client)/"], 3600)
    return Result(1, 0) if code == 0 else Result(0, 1)


def run_bench(context):
    if not context.build("release"):
        return Result(failed=1, reasons=["the release build failed"])
    code, _ = execute([PYTHON, "-B", "tests/bench/run"], 3600)
    return Result(1, 0) if code == 0 else Result(0, 1, reasons=["see the table above"])


# name: (estimated minutes after the build on 2 cores, in the default run, required in CI, what it is, how it is run)
SUITES = {
    "format": (0.1, True, True, "clang-format has nothing to change", run_format),
    "tidy": (0.1, True, True, "layers, banned calls, words, links, proto baseline, deploy files",
             unittests("tests/tidy", builds=False)),
    "unit": (1, True, True, "C++ tests, release build", ctest("release")),
    "python": (1, True, True, "the Python client, the steps of digits by themselves", unittests("tests/python")),
    "e2e": (3, True, True, "a real daemon by orchctl, HTTP and gRPC: pipelines, bad input, faults",
            unittests("tests/e2e")),
    "crash": (2, True, True, "kill -9 of the daemon and the supervisor at random instants",
              unittests("tests/crash", env={"ORCH_CRASH_ROUNDS": "5"})),
    "asan": (2, False, True, "C++ tests, clang, AddressSanitizer and UBSan", ctest("asan")),
    "tsan": (2, False, True, "C++ tests without gRPC, clang, ThreadSanitizer", ctest("tsan")),
    "bench": (6, False, False, "the figures, with ninja and make beside ours", run_bench),
    "clang-tidy": (15, False, False, "the short clang-tidy list over all sources", run_clang_tidy),
    "crash-long": (15, False, False, "20 random kills in digits, 100 in the marker-file pipeline",
                   unittests("tests/crash", env={"ORCH_CRASH_ROUNDS": "100", "ORCH_CRASH_DIGITS": "20"}, seconds=5400)),
}


def chosen(options):
    if options.all:
        return list(SUITES)
    if options.names:
        unknown = [name for name in options.names if name not in SUITES]
        if unknown:
            print(f"tests/run: no suite `{unknown[0]}`; there are: {' '.join(SUITES)}", file=sys.stderr)
            sys.exit(2)
        return options.names
    return [name for name, (_, default, required, _, _) in SUITES.items() if (required if options.ci else default)]


def main():
    parser = argparse.ArgumentParser(prog="tests/run", description="Builds and runs test suites.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUITES))
    parser.add_argument("--all", action="store_true", help="every suite")
    parser.add_argument("--ci", action="store_true", help="warnings are errors; required suites may not be skipped")
    parser.add_argument("--list", action="store_true", help="show the suites and stop")
    options = parser.parse_args()
    names = list(SUITES) if options.list else chosen(options)

    print("suites, with estimated minutes once all is built:")
    for name in names:
        print(f"  {name:<11} {SUITES[name][0]:>5} min  {SUITES[name][3]}")
    if options.list:
        return 0
    print(f"  {'together':<11} {sum(SUITES[name][0] for name in names):>5.1f} min")
    for name in SUITES:
        if name not in names:
            print(f"left out: {name} ({SUITES[name][0]} min): tests/run {name}")

    context = Context(options.ci)
    rows, total = [], Result()
    for name in names:
        _, _, required, about, run = SUITES[name]
        print(f"\n== {name}: {about}", flush=True)
        started = time.monotonic()
        try:
            result = run(context)
        except Skip as reason:
            result = Result(skipped=1, reasons=[str(reason)])
        if options.ci and required and result.skipped:
            result.failed += result.skipped
            result.skipped = 0
            result.reasons.append("required in CI: may not skip")
        rows.append((name, result, time.monotonic() - started))
        total.passed += result.passed
        total.failed += result.failed
        total.skipped += result.skipped

    print("\nsuite        passed  failed  skipped  seconds")
    for name, result, seconds in rows:
        print(f"{name:<11} {result.passed:>7} {result.failed:>7} {result.skipped:>8} {seconds:>8.0f}")
        for reason in result.reasons:
            print(f"            {reason}")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Pipelines that end badly, or are watched while they run."""
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from zenml import pipeline, step
from zenml.config.retry_config import StepRetryConfig

from orchd.zenml import _entry


def die(how: str) -> None:
    if how == "exit":
        os._exit(3)
    if how == "crash":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "all":  # the step's first process too
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    mine = f"ORCH_FENCE={os.environ['ORCH_FENCE']}".encode() in (entry / "environ").read_bytes()
                except OSError:
                    continue
                if mine:
                    os.kill(int(entry.name), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@step
def dying(how: str) -> int:
    die(how)
    return 1


@step
def beside() -> int:
    return 2


@pipeline(enable_cache=False)
def dies(how: str):
    dying(how)
    beside()


@step(retry=StepRetryConfig(max_retries=2, delay=0, backoff=1))
def dying_once(how: str, mark: str) -> int:
    path = pathlib.Path(mark)
    if not path.exists():
        path.write_text("")
        die(how)
    return 7


@pipeline(enable_cache=False)
def dies_once(how: str, mark: str):
    dying_once(how, mark)


@step(retry=StepRetryConfig(max_retries=1, delay=0, backoff=1))
def dying_always() -> int:
    os._exit(4)


@pipeline(enable_cache=False)
def dies_always():
    dying_always()


@step
def waiting(mark: str, until: str = "") -> int:
    pathlib.Path(mark).write_text(f"{os.getpid()} {os.getppid()}")
    while not until or not os.path.exists(until):
        time.sleep(0.05)
    return 5


@step
def afterwards(n: int) -> int:
    return n + 1


@pipeline(enable_cache=False)
def waits(mark: str, until: str = ""):
    afterwards(waiting(mark, until))


@step(runtime="isolated")
def waiting_apart(mark: str) -> int:
    pathlib.Path(mark).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


@pipeline(dynamic=True, enable_cache=False)
def dies_around(how: str, mark: str):
    waiting_apart.submit(mark)
    while not os.path.exists(mark):
        time.sleep(0.05)
    die(how)


@step(runtime="isolated")
def apart() -> int:
    return 1


@pipeline(dynamic=True, enable_cache=False)
def around():
    apart()


@step
def talks() -> int:
    for _ in range(3000):
        print("x" * 999)
    pid = os.fork()
    if pid == 0:
        return 9
    os.waitpid(pid, 0)
    return 1


@pipeline(enable_cache=False)
def talkative():
    talks()


@step
def unkeepable() -> object:
    return threading.Lock()


@pipeline(enable_cache=False)
def keeps_a_lock():
    unkeepable()


@step
def imports() -> int:
    import there_is_no_such_module

    return there_is_no_such_module.number


@pipeline(enable_cache=False)
def imports_what_is_not_there():
    imports()


@step
def who() -> dict[str, str]:
    parent = pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode().replace("\0", " ")
    return {"parent": parent, "pandas": str("pandas" in sys.modules), "cwd": os.getcwd(), "file": __file__}


@pipeline(enable_cache=False)
def identity():
    who()


@step
def token(mark: str) -> int:
    value = os.environ.get("ZENML_STORE_API_TOKEN", "")
    pathlib.Path(mark).write_text(value)
    print("the token is", value)
    return len(value)


@pipeline(enable_cache=False)
def tokens(mark: str):
    token(mark)


@step
def look_around(elsewhere: str) -> dict[str, object]:
    try:
        from orchd_test_colour import COLOUR as colour
    except ImportError:
        colour = ""
    sees = os.path.exists(elsewhere)
    return {"cwd": os.getcwd(), "colour": colour, "shade": os.environ.get("SHADE", ""), "sees_tests": sees}


@pipeline(enable_cache=False)
def looks(elsewhere: str):
    look_around(elsewhere)


@step
def two() -> int:
    return 2


@step
def total_of(a: int, b: int) -> int:
    return a + b + 1


@pipeline(dynamic=True, enable_cache=False)
def counts():
    if two().load() == 2:
        total_of(two(), two())


@step
def is_boxed() -> bool:
    return "ZENML_ORCHD_CONTAINER" in os.environ


@pipeline(enable_cache=False)
def mixed():
    is_boxed()
    is_boxed.with_options(settings={"orchestrator": {"orchestrator": "boxes"}})(id="inside")


@step
def knows(number: int) -> list[str]:
    """Which steps its worker knew when it began."""
    return sorted(name for of_run in _entry.step_runs.values() for name in of_run)


@pipeline(enable_cache=False)
def passes_on():
    knows(beside())


_left: list[int] = []


@step
def leaves(before: dict[str, object], mark: str) -> dict[str, object]:
    """What those before it in its process have left, and leaves it too."""
    found = {"pid": os.getpid(), "modules": list(_left), "variable": os.environ.get("LEFT", ""), "cwd": os.getcwd()}
    beside = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    pathlib.Path(mark).write_text(str(beside.pid))
    _left.append(os.getpid())
    os.environ["LEFT"] = "something"
    os.chdir("/")
    print("step after", len(_left) - 1)
    return found


@pipeline(enable_cache=False)
def leaves_things(folder: str):
    made = leaves({}, f"{folder}/0")
    for number in (1, 2):
        made = leaves(made, f"{folder}/{number}")


@pipeline(enable_cache=False)
def dies_in_between(how: str, mark: str):
    afterwards(dying_once(how, mark, after=[beside()]))


@step(retry=StepRetryConfig(max_retries=1, delay=0, backoff=1))
def failing_once(mark: str) -> list[str]:
    """The control groups that it ran in."""
    group = pathlib.Path("/proc/self/cgroup").read_text()
    path = pathlib.Path(mark)
    if not path.exists():
        path.write_text(group)
        raise RuntimeError("once")
    return [path.read_text(), group]


@pipeline(enable_cache=False)
def fails_once(mark: str):
    failing_once(mark)

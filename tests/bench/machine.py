"""What the figures were taken on, and how a spread of them is written."""
from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from pathlib import Path


def sync_ms(folder: Path) -> float:
    """The median of 200 fdatasyncs of 4 KiB appended."""
    took = []
    with (folder / "sync").open("wb") as out:
        for _ in range(200):
            out.write(b"x" * 4096)
            out.flush()
            begin = time.perf_counter()
            os.fdatasync(out.fileno())
            took.append((time.perf_counter() - begin) * 1000)
    return statistics.median(took)


def spawn_ms() -> float:
    """The median of 300 posix_spawns of /bin/true, each waited for: what no starter of processes goes below."""
    took = []
    for _ in range(300):
        begin = time.perf_counter()
        pid = os.posix_spawn("/bin/true", ["/bin/true"], {})
        os.waitpid(pid, 0)
        took.append((time.perf_counter() - begin) * 1000)
    return statistics.median(took)


def first_line(*command: str) -> str:
    if not shutil.which(command[0]):
        return f"{command[0]}: not here"
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]


def describe(folder: Path) -> str:
    cpus = len(os.sched_getaffinity(0))
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown CPU")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC; {cpus} x {model}, {memory:.0f} GiB, {platform.machine()}, "
            f"Linux {platform.release()}; load {os.getloadavg()[0]:.1f}\n"
            f"fdatasync of 4 KiB in {folder.parent}: {sync_ms(folder):.3f} ms; posix_spawn and wait of /bin/true: {spawn_ms():.3f} ms "
            f"(medians)\nninja {first_line('ninja', '--version')}; {first_line('make', '--version')}; "
            f"{first_line('parallel', '--version')}")


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident and private MiB."""
    rss = private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            rss = int(line.split()[1])
        elif line.startswith(("Private_Clean:", "Private_Dirty:")):
            private += int(line.split()[1])
    return rss / 1024, private / 1024


def anonymous_mib(pid: int) -> float:
    """What the process has allocated and holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(values: list[float], digits: int = 3) -> str:
    return f"{min(values):.{digits}f} / {statistics.median(values):.{digits}f} / {max(values):.{digits}f}"


def bar(good: bool) -> str:
    return "met" if good else "FALLS SHORT"

"""A daemon with the shim of faults in front of its disk and its clock, and small file systems."""
from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Iterator

from tests.lib.daemon import BIN, Daemon, wait_for

NAMES = ("sync_delay", "sync_error", "write_error", "clock", "hits", "create_error", "which")
DATABASE, OUTPUTS = 1, 2


class FaultyDaemon(Daemon):
    """`told(sync_error=errno.EIO)` makes its disk fail from now on; `told()` nothing any more."""

    def __init__(self, config: str = "", data_dir: str | None = None, prefix: list[str] | None = None) -> None:
        super().__init__(config, data_dir)
        self.prefix = prefix or []
        control = self.home / "shim"
        control.write_bytes(bytes(8 * len(NAMES)))
        with control.open("r+b") as file:
            self.numbers = mmap.mmap(file.fileno(), 8 * len(NAMES))

    def command(self) -> list[str]:
        return [*self.prefix, "/usr/bin/env", f"LD_PRELOAD={BIN / 'fault_shim.so'}", f"FAULT_SHIM={self.home / 'shim'}",
                *super().command()]

    def told(self, **numbers: int) -> None:
        self.numbers[:] = struct.pack(f"{len(NAMES)}q", *(numbers.get(name, 0) for name in NAMES))

    def hits(self) -> int:
        return int(struct.unpack_from("q", self.numbers, 8 * NAMES.index("hits"))[0])

    def ended(self, seconds: float = 30) -> int:
        """The exit code, once it has ended by itself."""
        assert self.process is not None
        return self.process.wait(seconds)

    def ask(self, method: str, body: dict[str, Any], timeout: float = 30) -> tuple[int, bytes]:
        return self.http(f"/orch.v1.{method}", body, timeout=timeout)


def can_mount() -> str:
    """Why a small file system cannot be had here; empty: it can."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return "a small file system needs root"
    place = tempfile.mkdtemp(prefix="orchd-mount-")
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True).returncode != 0:
            return "this machine does not let a test mount a file system"
        subprocess.run(["umount", place], check=True)
        return ""
    finally:
        os.rmdir(place)


@contextlib.contextmanager
def small_file_system(kind: str, mib: int) -> Iterator[Path]:
    """A tmpfs, or ext4 in a file through a loop device; raises OSError if this machine has no such thing."""
    place = Path(tempfile.mkdtemp(prefix="orchd-small-"))
    image = Path(tempfile.mkdtemp(prefix="orchd-image-")) / "image"
    try:
        if kind == "tmpfs":
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", place], capture_output=True, text=True)
        else:
            with image.open("wb") as out:
                out.truncate(mib << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)
            done = subprocess.run(["mount", "-o", "loop", image, place], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(done.stderr)
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(image.parent, ignore_errors=True)


def fill(folder: Path, keep: int = 0) -> Path:
    """Takes all the space of a file system but `keep` bytes."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as out:
        for block in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > keep + block:
                    out.write(b"x" * block)
        if keep == 0:
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"x" * 512)
    return path


def gated(name: str, gate: Path, marks: Path, more: str = "") -> str:
    """A step that marks its start and ends once `gate` is there."""
    return (f"  - name: {name}\n    command: [sh, -c, 'echo x >> {marks}; while [ ! -e {gate} ]; do sleep 0.02; done; "
            f"echo end']\n{more}")


def wait_marks(marks: Path) -> None:
    wait_for("the step to run", marks.exists)

"""Artifacts on their way: through the daemon's HTTP, by its launcher and by curl; in and out of S3 beside curl alone."""
from __future__ import annotations

import calendar
import hashlib
import hmac
import json
import os
import shutil
import statistics
import subprocess
import threading
import time
import unittest
import urllib.parse
from pathlib import Path

from tests.bench.machine import anonymous_mib, bar, peak_mib, spread
from tests.lib.daemon import BIN, Daemon, wait_for
from tests.lib.s3 import Server

LARGE = 2 << 30


class Peak:
    """The most memory that the daemon has allocated, and that any launcher has had, between two lines."""

    def __init__(self, daemon_pid: int) -> None:
        self.pid, self.launcher, self.stop = daemon_pid, 0.0, threading.Event()
        self.before = self.daemon = anonymous_mib(daemon_pid)
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self) -> "Peak":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def watch(self) -> None:
        while not self.stop.wait(0.02):
            self.daemon = max(self.daemon, anonymous_mib(self.pid))
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    if os.readlink(entry / "exe") == str(BIN / "orch-launch"):
                        self.launcher = max(self.launcher, peak_mib(int(entry.name)))
                except (OSError, IndexError):
                    pass


def floor(folder: Path, size: int, rounds: int) -> None:
    """What nothing that keeps bytes in files goes above on this machine: a plain write into the page cache, nothing synced."""
    took = []
    block = os.urandom(1 << 20)
    for n in range(rounds):
        begin = time.perf_counter()
        with (folder / "floor").open("wb", buffering=0) as out:
            for _ in range(size >> 20):
                out.write(block)
        took.append(time.perf_counter() - begin)
        (folder / "floor").unlink()
    print(f"a file of {size / 2**30:.2f} GiB written and not synced: {size / statistics.median(took) / 1e6:.0f} MB/s ({spread(took)} s)", flush=True)


def rate(size: int, seconds: list[float], most: float = 300) -> str:
    middle = size / statistics.median(seconds) / 1e6
    return f"{middle:.0f} MB/s ({spread(seconds)} s)   bar {most:.0f}: {bar(middle >= most)}"


def launcher() -> None:
    program = BIN / "orch-launch"
    kind = subprocess.run(["ldd", program], capture_output=True, text=True)
    took = []
    for _ in range(300):
        begin = time.perf_counter()
        os.waitpid(os.posix_spawn(program, [str(program), "--version"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]), 0)
        took.append((time.perf_counter() - begin) * 1000)
    size = program.stat().st_size / 1e6
    static = "not a dynamic executable" in kind.stdout + kind.stderr or "statically linked" in kind.stdout
    print(f"orch-launch: {size:.1f} MB, {'static' if static else 'DYNAMIC'}; spawned, said its version and waited for: {spread(took, 2)} ms   "
          f"bar static, 5 ms: {bar(static and statistics.median(took) <= 5)}\n", flush=True)


def http(folder: Path, rounds: int, scale: float) -> None:
    size = max(8 << 20, int(LARGE * scale))
    daemon = Daemon("flavors: {fake: true}\n", data_dir=str(folder / "artifacts"))
    daemon.start()
    assert daemon.process is not None
    work = folder / "artifacts-work"
    work.mkdir()
    whole = work / "whole"
    fill(whole, size)
    digest = sha256(whole)
    floor(work, size, rounds)
    try:
        daemon.ctl("register-orchestrator", "far", "--flavor", "local", "--config", "artifacts=daemon")
        up: list[float] = []
        down: list[float] = []
        text = (f"name: big\nsteps:\n  - {{name: a, command: [sh, -c, 'cp {whole} $ORCH_OUTPUT_F; date +%s.%N > {work}/made'], outputs: {{f: {{}}}}}}\n"
                f"  - {{name: b, inputs: {{f: a.f}}, command: [sh, -c, 'date +%s.%N > {work}/got']}}\n")
        with Peak(daemon.process.pid) as peak:
            for _ in range(rounds):
                run = daemon.submit(text, "--orchestrator", "far")
                daemon.ctl("wait-run", run, timeout=600)
                attempt = {n: daemon.json("get-step", run, n)["attempts"][0] for n in ("a", "b")}
                up.append(seconds_of(daemon.json("get-step", run, "a")["end_time"]) - float((work / "made").read_text()))
                down.append(float((work / "got").read_text()) - seconds_of(attempt["b"]["start_time"]))
                daemon.ctl("delete-run", run)
        print(f"{size / 2**30:.2f} GiB by the launcher, end of the command → its step has ended (hashed, sent, hashed, stored): {rate(size, up)}")
        print(f"  the same down, start of the launcher → start of the command: {rate(size, down)}")
        grown = peak.daemon - peak.before
        print(f"  memory: daemon {peak.before:.1f} MiB allocated before, at most {peak.daemon:.1f}; launcher at most {peak.launcher:.1f} in all   "
              f"flat: {bar(grown <= 32 and peak.launcher <= 32)}", flush=True)
        by_curl(daemon, work, whole, digest, size, rounds)
    finally:
        daemon.close()
        shutil.rmtree(work, ignore_errors=True)


def by_curl(daemon: Daemon, work: Path, whole: Path, digest: str, size: int, rounds: int) -> None:
    text = (f"name: big\nsteps:\n  - {{name: a, command: [sh, -c, 'cp {whole} $ORCH_OUTPUT_F'], outputs: {{f: {{}}}}}}\n"
            f"  - name: b\n    inputs: {{f: a.f}}\n    outputs: {{o: {{}}}}\n"
            f"    command: [sh, -c, 'echo $ORCH_TOKEN > {work}/token.part; mv {work}/token.part {work}/token; until test -e {work}/go; do sleep 0.05; done']\n")
    up: list[float] = []
    down: list[float] = []
    with Peak(daemon.process.pid if daemon.process else 0) as peak:
        for _ in range(rounds):
            for name in ("go", "token"):
                (work / name).unlink(missing_ok=True)
            run = daemon.submit(text, "--orchestrator", "far")
            token = wait_for("the step", lambda: (work / "token").exists() and (work / "token").read_text().strip(), 600)
            base = daemon.server["http"] + "/attempt/v1/"
            own = ["curl", "-sf", "-H", f"Authorization: Bearer {token}", "-H", "Expect:"]
            up.append(timed([*own, "-X", "PATCH", "-T", str(whole), "-H", "Upload-Offset: 0", "-H", f"Upload-Length: {size}",
                             f"{base}blobs/sha256:{digest}"]))
            down.append(timed([*own, "-o", "/dev/null", f"{base}inputs/f"]))
            (work / "go").touch()
            daemon.ctl("wait-run", run, code=None)
            daemon.ctl("delete-run", run)
    print(f"  the same through curl over TCP, up until it is checked: {rate(size, up)}")
    print(f"  down, to /dev/null: {rate(size, down)}")
    print(f"  memory: daemon {peak.before:.1f} MiB before, at most {peak.daemon:.1f}\n", flush=True)


def timed(command: list[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command[:4])} …: exit code {done.returncode}")
    return time.perf_counter() - begin


def seconds_of(stamp: str) -> float:
    whole, _, part = stamp.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (part or "0"))


def fill(path: Path, size: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        for n in range(0, size, 1 << 20):
            out.write((n.to_bytes(8, "big") + block[8:])[:size - n])


def sha256(path: Path) -> str:
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def presigned(method: str, address: str, path: str, access: str, secret: str) -> str:
    """A pre-signed address as AWS describes it, of this file's own: the peer owes nothing to our client."""
    host = address.removeprefix("http://")
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = f"{stamp[:8]}/us-east-1/s3/aws4_request"
    query = "&".join(f"{k}={urllib.parse.quote(v, safe='')}" for k, v in sorted({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{access}/{scope}", "X-Amz-Date": stamp,
        "X-Amz-Expires": "600", "X-Amz-SignedHeaders": "host"}.items()))
    canonical = "\n".join([method, path, query, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for word in (stamp[:8], "us-east-1", "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return f"{address}{path}?{query}&X-Amz-Signature={hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()}"


def s3(folder: Path, rounds: int, scale: float) -> None:
    server = Server("versitygw")
    try:
        server.up()
    except unittest.SkipTest as skip:
        print(f"S3: {skip}\n", flush=True)
        return
    try:
        access, secret = server.keys("writer")
        keys = {**os.environ, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
        server.bucket("bench")
        size = max(8 << 20, int((1 << 30) * scale))
        whole, back = folder / "s3-whole", folder / "s3-back"
        fill(whole, size)
        took: dict[str, list[float]] = {"put": [], "curl put": [], "curl checked": [], "get": [], "curl get": []}
        digest = sha256(whole)

        def ours(op: str, file: Path) -> None:
            done = subprocess.run([BIN / "s3_bench", op, server.address, "bench", "ours", file], env=keys, capture_output=True, text=True)
            if done.returncode != 0:
                raise SystemExit(f"bench: s3_bench {op}: {done.stderr}")
            took[op].append(float(json.loads(done.stdout)["seconds"]))
        for _ in range(rounds):
            ours("put", whole)
            took["curl put"].append(timed(["curl", "-sf", "-H", "Expect:", "-T", str(whole), presigned("PUT", server.address, "/bench/theirs", access, secret)]))
            took["curl checked"].append(timed(["curl", "-sf", "-H", "Expect:", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{access}:{secret}",
                                               "-H", f"x-amz-content-sha256: {digest}", "-T", str(whole), f"{server.address}/bench/checked"]))
            back.unlink(missing_ok=True)
            ours("get", back)
            took["curl get"].append(timed(["curl", "-sf", "-o", str(back), presigned("GET", server.address, "/bench/theirs", access, secret)]))
        for op, word in (("put", "up"), ("get", "down")):
            mine, theirs = (size / statistics.median(took[k]) / 1e6 for k in (op, f"curl {op}"))
            print(f"{size / 2**30:.2f} GiB {word} to VersityGW: {mine:.0f} MB/s ({spread(took[op])} s); curl alone {theirs:.0f} MB/s "
                  f"({spread(took['curl ' + op])} s); ours / curl's {mine / theirs:.2f}   bar 0.8: {bar(mine >= 0.8 * theirs)}", flush=True)
        print(f"  up by curl with the digest for the server to check, as ours is sent: {spread(took['curl checked'])} s\n", flush=True)
    finally:
        server.down()


def measure(folder: Path, rounds: int, scale: float) -> None:
    launcher()
    http(folder, min(rounds, 3), scale)
    s3(folder, rounds, scale)

"""A real registry of images with a password, in the networks of a test's engine and cluster, started and stopped by
tests/platforms/registry."""
from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from urllib.parse import quote

from tests.lib.daemon import ROOT
from tests.lib.engine import Engine
from tests.lib.kubernetes import Cluster

SCRIPTS = ROOT / "tests/platforms/registry"
USER, PASSWORD = "reader", "open-sesame"


class Registry:
    """`up` skips the test where none can be had, and says why. What the engine pushes there a cluster's nodes can pull."""

    def __init__(self, engine: Engine, cluster: Cluster | None = None) -> None:
        self.engine = engine
        self.cluster = cluster
        self.folder = Path(tempfile.mkdtemp(prefix="orchd-registry-"))
        self.host = ""

    def up(self) -> None:
        processes = [self.engine.folder / "pid"] + ([self.cluster.folder / "init"] if self.cluster else [])
        pids = [file.read_text().strip() for file in processes]
        with (self.folder / "up.log").open("w+") as log:
            done = subprocess.run([SCRIPTS / "up", self.folder, *pids], stdout=subprocess.PIPE, stderr=log, text=True, timeout=300)
            log.seek(0)
            if done.returncode != 0:
                reason = log.read().strip()[-300:]
                self.down()
                raise unittest.SkipTest("no registry: " + reason)
        self.host = done.stdout.strip()

    def down(self) -> None:
        subprocess.run([SCRIPTS / "down", self.folder], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def push(self, image: str, name: str) -> str:
        """Puts an image of the engine there and takes its tag away from the engine; the image's name with its digest."""
        full = f"{self.host}/{name}"
        assert self.engine.call("POST", f"/images/{image}/tag?repo={quote(full)}&tag=1")[0] == 201
        auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
        status, text = self.engine.call("POST", f"/images/{full}/push?tag=1", headers={"X-Registry-Auth": auth})
        assert status == 200, text
        said = text if isinstance(text, str) else text.decode() if isinstance(text, bytes) else json.dumps(text)
        digest = next(json.loads(line)["aux"]["Digest"] for line in said.splitlines() if '"aux"' in line)
        self.forget(f"{full}:1")
        return f"{full}@{digest}"

    def forget(self, image: str) -> None:
        """The engine does not have it any more."""
        self.engine.call("DELETE", f"/images/{image}?force=1")

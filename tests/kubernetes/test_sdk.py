"""One file of `@step` and `@pipeline`, unchanged, on this machine and in the pods of a real cluster."""
from __future__ import annotations

import unittest

from tests.lib.daemon import ROOT
from tests.lib.on_a_cluster import OnACluster
from tests.lib.portable_flow import check_portable

# What this machine's own Python is made of, and the package, which an image for such steps has in it.
MOUNTS = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64", "/etc": "/etc", str(ROOT / "client/python/src"): "/package"}


class Sdk(OnACluster):
    def test_the_same_file_here_and_in_pods(self) -> None:
        names = {path: f"m{n}" for n, path in enumerate(MOUNTS)}
        volumes = [{"name": name, "hostPath": {"path": path}} for path, name in names.items()]
        mounts = [{"name": name, "mountPath": MOUNTS[path], "readOnly": True} for path, name in names.items()]
        self.register(self.daemon, "there", pull="never", env={"PYTHONPATH": "/package"}, volumes=[*volumes, {"name": "mark", "emptyDir": {}}],
                      volume_mounts=[*mounts, {"name": "mark", "mountPath": "/inside"}])
        check_portable(self, self.daemon)


if __name__ == "__main__":
    unittest.main()

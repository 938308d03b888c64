"""One file of `@step` and `@pipeline`, unchanged, on this machine and in containers of a real Docker engine."""
import os
import re
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import Daemon
from tests.lib.engine import Engine, shared_engine
from tests.lib.portable_flow import check_portable

def image_of_this_python(engine: Engine) -> None:
    """The image `orch-python`: Debian's python3 of this machine, and nothing else."""
    linked = subprocess.run(["ldd", "/usr/bin/python3"], capture_output=True, text=True, check=True).stdout
    files = re.findall(r"/\S+", linked)
    with tempfile.TemporaryFile() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name in (*files, "/usr/bin/python3"):
                archive.add(os.path.realpath(name), name, recursive=False)
            library = Path(os.path.realpath("/usr/bin/python3")).name
            archive.add(f"/usr/lib/{library}", f"/usr/lib/{library}",
                        filter=lambda info: None if "__pycache__" in info.name or "/test/" in info.name else info)
            for name in ("/tmp", "/inside", "/etc"):
                folder = tarfile.TarInfo(name)
                folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(folder)
        out.seek(0)
        subprocess.run(["curl", "-sf", "--unix-socket", str(engine.socket), "-X", "POST", "-H", "Content-Type: application/x-tar",
                        "--data-binary", "@-", "http://docker/v1.41/images/create?fromSrc=-&repo=orch-python&tag=latest"
                        "&changes=ENV%20PATH=/usr/bin:/bin"], stdin=out, check=True, stdout=subprocess.DEVNULL)


class Sdk(unittest.TestCase):
    def test_the_same_file_here_and_in_containers(self) -> None:
        engine = shared_engine()
        image_of_this_python(engine)
        with Daemon() as daemon:
            daemon.ctl("register-orchestrator", "there", "--flavor", "local_docker", "--config", f"host={engine.address}",
                       "--config", "image=orch-python", "--config", "network=none", "--config", "pull=never")
            check_portable(self, daemon)


if __name__ == "__main__":
    unittest.main()

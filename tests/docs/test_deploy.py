"""What deploy/ ships: the unit keeps steps alive over a restart, the sample configuration is valid and complete."""
import configparser
import fnmatch
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.lib.daemon import BIN, ROOT

UNIT = ROOT / "deploy/orchd.service"
CONFIG = ROOT / "deploy/orchd.yaml"


class Service(unittest.TestCase):
    def test_a_restart_leaves_steps_running(self) -> None:
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(UNIT)
        service = unit["Service"]
        self.assertEqual(service["KillMode"], "process", "with control-group a restart would kill every local step")
        self.assertEqual(service["Delegate"], "yes", "the supervisor makes groups below the unit's")
        self.assertEqual(service["OOMPolicy"], "continue", "a step's OOM kill would stop the daemon")
        self.assertEqual(service["Restart"], "always")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not on this machine")
    def test_systemd_takes_the_unit(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            unit = Path(folder) / "orchd.service"
            # The binary and the user of an installed system are not here.
            text = re.sub(r"/usr/local/bin/orchd", "/bin/true", UNIT.read_text())
            unit.write_text(re.sub(r"^(User|Group)=orchd$", r"\1=root", text, flags=re.M))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
                                  capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


class SampleConfiguration(unittest.TestCase):
    def print_config(self, text: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "orchd.yaml"
            file.write_text(text)
            done = subprocess.run([str(BIN / "orchd"), "--config", str(file), "--print-config"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return done.stdout

    def test_it_is_valid_and_its_defaults_are_true(self) -> None:
        text = CONFIG.read_text()
        shown = re.sub(r"^#(?=\s*\w+:)", "", text, flags=re.M)
        shown = re.sub(r"^public_url:.*$", "", shown, flags=re.M)
        self.assertEqual(self.print_config(shown), self.print_config(text))

    def test_every_field_is_in_it(self) -> None:
        fields = re.findall(r"^\s*(\w+):", self.print_config("data_dir: /var/lib/orchd\n"), flags=re.M)
        text = CONFIG.read_text()
        self.assertEqual([f for f in fields if not re.search(rf"^#?\s*{f}:", text, flags=re.M)], [])


class Image(unittest.TestCase):
    def test_what_its_build_sees_is_enough(self) -> None:
        """Without tests/, which .dockerignore leaves out, and without GoogleTest, which the build's packages have not."""
        asked = re.search(r"RUN (cmake --preset release.*) \\\n && (cmake --build .*) \\\n", (ROOT / "deploy/Containerfile").read_text())
        assert asked is not None
        left_out = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("#", "!", "")]
        with tempfile.TemporaryDirectory() as folder:
            for entry in ROOT.iterdir():
                if any(fnmatch.fnmatch(entry.name, pattern) for pattern in left_out):
                    continue
                (shutil.copytree if entry.is_dir() else shutil.copy)(entry, Path(folder) / entry.name)
            # Dry: that every file is there and every target is known.
            for command in (f"{asked[1]} -DCMAKE_DISABLE_FIND_PACKAGE_GTest=ON", f"{asked[2]} -- -n"):
                done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])


if __name__ == "__main__":
    unittest.main()

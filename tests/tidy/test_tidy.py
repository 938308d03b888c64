"""The tree keeps its rules. The baseline of the API grows by `python3 tests/tidy/test_tidy.py --accept`, never shrinks."""
import configparser
import pathlib
import shutil
import subprocess
import sys
import unittest

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from tests.tidy import rules

BASELINE = pathlib.Path(__file__).with_name("orch_v1.baseline")


class Tidy(unittest.TestCase):
    maxDiff = None

    def none(self, faults):
        self.assertFalse(faults, f"{len(faults)} faults:\n" + "\n".join(faults))

    def test_layers(self):
        self.none(rules.check_layers())

    def test_banned_calls(self):
        self.none(rules.check_banned())

    def test_words(self):
        self.none(rules.check_words())

    def test_headers_say_what_they_are_for(self):
        self.none(rules.check_headers())

    def test_links_of_the_docs(self):
        self.none(rules.check_links())

    def test_fuzz_targets_have_rows(self):
        self.none(rules.check_fuzz_targets())
        self.assertEqual(len(rules.check_fuzz_targets("| `pipeline` | | |\n| `nothing` | | |\n")),
                         len(list((rules.ROOT / "tests/fuzz/targets").glob("*.cc"))))

    def test_proto_fields_have_comments(self):
        self.none(rules.check_field_comments())

    def test_the_api_breaks_no_client(self):
        gone = sorted(set(BASELINE.read_text().splitlines()) - set(rules.surface()))
        self.none([f"gone or changed: {line}" for line in gone])

    def test_the_baseline_is_current(self):
        new = sorted(set(rules.surface()) - set(BASELINE.read_text().splitlines()))
        self.none([f"not in the baseline: {line} (accept: python3 tests/tidy/test_tidy.py --accept)" for line in new])

    def test_the_unit_keeps_steps_alive(self):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str
        unit.read(rules.ROOT / "deploy" / "orchd.service")
        self.assertEqual(unit["Service"]["KillMode"], "process")

    def test_scripts_parse(self):
        for name in ("deploy/install-packages", "deploy/quickstart", "tests/run", ".ci/run"):
            subprocess.run(["bash", "-n", rules.ROOT / name], check=True)

    @unittest.skipUnless((rules.ROOT / "build/release/bin/orchd").exists(), "orchd is not built yet")
    def test_the_sample_configuration(self):
        subprocess.run([rules.ROOT / "build/release/bin/orchd", "--config", rules.ROOT / "deploy/orchd.yaml",
                        "--check-config"], check=True, capture_output=True)


class TheRulesCanFail(unittest.TestCase):
    """A check that finds nothing anywhere is no check."""

    def setUp(self):
        self.name = "server/core/zz_tidy_probe.h"
        path = rules.ROOT / self.name
        self.addCleanup(path.unlink, missing_ok=True)
        path.write_text('#include "server/store/writer.h"\n#include <grpcpp/grpcpp.h>\n'
                        "inline void Probe() { usleep(1); absl::Now(); }\n")

    def test_each(self):
        for check in (rules.check_layers, rules.check_banned, rules.check_headers):
            self.assertTrue([f for f in check() if f.startswith(self.name)], check.__name__)

    def test_a_folder_without_a_layer(self):
        for folder in ("server/zz_tidy_probe", "backends/zz_tidy_probe", "client/zz_tidy_probe"):
            path = rules.ROOT / folder / "probe.h"
            self.addCleanup(shutil.rmtree, path.parent, ignore_errors=True)
            path.parent.mkdir()
            path.write_text("// Nothing, in a folder that no layer is for.\n")
            self.assertEqual([f for f in rules.check_layers() if folder in f],
                             [f"{folder}/probe.h:1: {folder} has no layer: say in tests/tidy/rules.py what it may include"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--accept"]:
        BASELINE.write_text("\n".join(sorted(set(BASELINE.read_text().splitlines() if BASELINE.exists() else [])
                                             | set(rules.surface()))) + "\n")
    else:
        unittest.main()

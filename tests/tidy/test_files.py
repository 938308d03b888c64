"""Every file says what it is for, and nothing lies about that should not."""
import os
import re
import subprocess
import unittest

from tests.lib import tree
from tests.lib.tree import ROOT

TOP = {"CMakeLists.txt", "CMakePresets.json", "README.md", "CONTRIBUTING.md", "LICENSE", ".gitignore", ".clang-format",
       ".clang-tidy", ".gitattributes", ".editorconfig", ".dockerignore"}
FOLDERS = {"proto", "server", "client", "backends", "migrations", "tests", "deploy", "docs", "examples", "cmake", ".ci"}


class Files(unittest.TestCase):
    def test_the_top_level_is_fixed(self) -> None:
        self.assertEqual(sorted({n.split("/")[0] for n in tree.files()} - TOP - FOLDERS), [])

    def test_headers_begin_with_their_purpose(self) -> None:
        wrong = [n for n in tree.under("server", "backends", "client", "tests", ext=(".h",))
                 if not re.match(r"// \S.{10,}", tree.text(n))]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_headers_are_guarded(self) -> None:
        wrong = [n for n in tree.under("server", "backends", "client", "tests", ext=(".h",)) if "#pragma once" not in tree.text(n)]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_python_files_begin_with_their_purpose(self) -> None:
        wrong = []
        for name in tree.under(ext=(".py",)):
            text = tree.text(name)
            if text.strip() and not name.endswith("setup.py") and not re.match(r'(#!.*\n)?(#.*\n)*r?"""\S', text):
                wrong.append(name)
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_scripts_are_executable_and_only_they(self) -> None:
        wrong = []
        for name in tree.files():
            script = tree.text(name).startswith("#!")
            if script != os.access(ROOT / name, os.X_OK):
                wrong.append(f"{name}: {'a script that is not executable' if script else 'executable, but no script'}")
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_shell_scripts_stop_at_errors_and_parse(self) -> None:
        for name in tree.files():
            first = tree.text(name).split("\n", 1)[0]
            if first.startswith("#!") and re.search(r"\b(ba)?sh$", first):
                with self.subTest(name):
                    self.assertIn("set -euo pipefail", tree.text(name))
                    self.assertEqual(subprocess.run(["bash", "-n", str(ROOT / name)]).returncode, 0)

    def test_texts_end_with_a_line_end_and_have_no_blanks_before_one(self) -> None:
        wrong = []
        for name in tree.files():
            text = tree.text(name)
            if not text or name.startswith("tests/spec/vectors/") or "corpus" in name or name.endswith(".golden"):
                continue
            if not text.endswith("\n") or text.endswith("\n\n"):
                wrong.append(f"{name}: its end")
            for number, line in enumerate(text.split("\n"), 1):
                if line != line.rstrip(" \t\r"):
                    wrong.append(f"{name}:{number}: blanks at the end of the line")
                    break
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_lines_of_code_are_at_most_120_wide(self) -> None:
        wrong = [f"{name}:{number}: {len(line)}" for name in tree.under("server", "backends", "client", "tests", "proto", "examples",
                                                                         ext=(".h", ".cc", ".proto"))
                 for number, line in enumerate(re.sub(r'R"(\w*)\(.*?\)\1"', lambda m: re.sub(r".", "", m[0]), tree.text(name),
                                                      flags=re.S).splitlines(), 1)
                 if len(line) > 120 and "http" not in line and '"' not in line]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_nothing_large_is_checked_in(self) -> None:
        wrong = [f"{n}: {(ROOT / n).stat().st_size} bytes" for n in tree.files() if (ROOT / n).stat().st_size > 1 << 20]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_migrations_are_numbered_without_gaps(self) -> None:
        numbers = [int(n.split("/")[1][:4]) for n in tree.under("migrations", ext=(".sql",))]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))

    def test_packages_are_listed_where_they_are_needed(self) -> None:
        listed = subprocess.run([str(ROOT / "deploy/install-packages"), "--print"], capture_output=True, text=True, check=True)
        installed = set(listed.stdout.split())
        self.assertGreater(len(installed), 20)
        documented = tree.text("docs/dependencies.md")
        self.assertEqual([p for p in sorted(installed) if f"`{p}`" not in documented], [], "docs/dependencies.md")


if __name__ == "__main__":
    unittest.main()

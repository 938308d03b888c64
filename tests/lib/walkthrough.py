"""A page that is a walk-through: its commands are run in order, and print what the page says they print.

A block ```bash holds commands, to be copied as they are; the block ```text behind it is all that they print, stdout and
stderr together. A block without one may print anything. A command that fails ends the walk, so the page shows that it
does (`… || echo "exit code $?"`). In a ```text a line `…` stands for any number of lines.

What no two machines print alike is compared by its form: see FORMS. ORCH_UPDATE_GOLDEN=1 writes what was printed into the
page, where its form is another than the page's.
"""
from __future__ import annotations

import contextlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

UPDATE = os.environ.get("ORCH_UPDATE_GOLDEN") == "1"

_TIME = r"\d+(?:\.\d+)?(?:ms|s)|\d+m\d\ds|\d+h\d\dm"
# In this order. Names of tables' columns may move: blanks count as one.
FORMS = [
    (r"http://127\.0\.0\.1:\d+/\S+", "URL"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID"),
    (r"sha256:[0-9a-f]{12,64}", "DIGEST"),
    (r"\b[0-9a-f]{12} → [0-9a-f]{12}\b", "DIGEST → DIGEST"),
    (r"\d\d:\d\d:\d\d UTC", "CLOCK"),
    (rf"\bjust now|(?:{_TIME}) ago", "AGO"),
    (rf"\+?(?:{_TIME})(?:–(?:{_TIME}))?(?![\w/])", "TIME"),
    (r"(?m)^ *(?:[|] |stderr-\d+-)? *[\^~]+\n", ""),  # where in a line, as newer Pythons tell
    (r"\] \* ", "] "),  # which of equals is on the longest way
    (r"way \(\*\): (\w+)\[\d+\]", r"way (*): \1[N]"),
    (r" {2,}", "  "),
]


@dataclass
class Block:
    line: int
    commands: str
    printed: str | None
    begin: int = 0  # of what is printed, in the page
    end: int = 0


def blocks(page: str) -> list[Block]:
    out: list[Block] = []
    for found in re.finditer(r"^```(bash|text)\n(.*?)^```$", page, re.M | re.S):
        line = page.count("\n", 0, found.start()) + 1
        if found[1] == "bash":
            out.append(Block(line, found[2], None))
        else:
            if not out or out[-1].printed is not None:
                raise AssertionError(f"line {line}: what is printed stands behind no commands")
            out[-1].printed, out[-1].begin, out[-1].end = found[2], found.start(2), found.end(2)
    return out


def form(text: str) -> str:
    for pattern, word in FORMS:
        text = re.sub(pattern, word, text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def alike(page: str, printed: str) -> bool:
    pattern = "".join(".*" if line == "…" else re.escape(line) + "\n" for line in form(page).splitlines())
    return re.fullmatch(pattern, form(printed), re.S) is not None


def walk(page: Path, folder: Path, environment: dict[str, str], stand_for: dict[str, str]) -> list[str]:
    """Runs the page's commands in one shell in `folder`; the faults. `stand_for`: what is printed here → in the page."""
    text = page.read_text()
    faults: list[str] = []
    changes: list[tuple[Block, str]] = []
    mark = "walkthrough-block-ended"
    shell = subprocess.Popen(["bash", "-eu"], cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    assert shell.stdin is not None and shell.stdout is not None
    for block in blocks(text):
        # `{ … }` takes all of the block before any of it runs, so that none of its commands reads the rest as input.
        shell.stdin.write(f"{{\n{block.commands}}} < /dev/null\necho {mark}\n")
        shell.stdin.flush()
        printed = ""
        while (line := shell.stdout.readline()) and not line.startswith(mark):
            printed += line
        if not line:
            faults.append(f"{page.name}:{block.line}: ended with exit code {shell.wait(30)}\n{block.commands}{printed}")
            break
        for here, there in stand_for.items():
            printed = printed.replace(here, there)
        if block.printed is not None and not alike(block.printed, printed):
            faults.append(f"{page.name}:{block.line}: {block.commands.strip()}\n--- the page says\n{block.printed}"
                          f"--- it printed\n{printed}")
            changes.append((block, printed))
    with contextlib.suppress(BrokenPipeError):
        shell.stdin.close()
    shell.wait(30)
    shell.stdout.close()
    if UPDATE:
        for block, printed in reversed(changes):
            text = text[:block.begin] + printed + text[block.end:]
        page.write_text(text)
    return faults

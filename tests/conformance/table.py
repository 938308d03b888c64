#!/usr/bin/python3
"""The tables of docs/flavors.md between `<!-- conformance:begin -->` and its end: a row for each test of the two suites, a column
for each flavor, a word where the test has passed.

`tests/conformance/table.py --write` puts in what the runs since the last build folder was made have filled; what has not run keeps
what the page has. Without it the tables are printed.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.conformance.cases import RESULTS, Cases, column, rows, takes_part, word_of  # noqa: E402
from tests.conformance.flavors import flavors  # noqa: E402

PAGE = ROOT / "docs/flavors.md"
BEGIN, END = "<!-- conformance:begin -->\n", "<!-- conformance:end -->\n"
HEADS = {"contract": "What a backend does", "pipelines": "What a pipeline can say", "resources": "What `resources` become"}


def suites() -> dict[str, type[Cases]]:
    from tests.conformance import test_contract, test_pipelines, test_resources
    found = {}
    for module in (test_contract, test_pipelines, test_resources):
        made = next(value for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, Cases) and value is not Cases)
        base = made.__bases__[0]
        found[base.table] = base  # type: ignore[attr-defined]
    return found


def read(page: str) -> dict[tuple[str, str, str], str]:
    """(table, what the row is called, column) → word."""
    part = page.split(BEGIN, 1)[1].split(END, 1)[0]
    cells, table, columns = {}, "", []
    titles = {title: name for name, title in HEADS.items()}
    for line in part.splitlines():
        if not line.startswith("|") or line.startswith("|--") or line.startswith("|-"):
            continue
        parts = [cell.strip() for cell in line.strip("|\n").split("|")]
        if parts[0] in titles:
            table, columns = titles[parts[0]], parts[1:]
        else:
            cells.update({(table, parts[0], at): word for at, word in zip(columns, parts[1:])})
    return cells


def faults(page: str) -> list[str]:
    """Cells that no test fills, words that a test would not fill in, and cells left empty though a test fills them."""
    known = {}
    for table, suite in suites().items():
        for row, title in rows(suite).items():
            for flavor in (f for f in flavors() if takes_part(suite, f)):
                known[table, title, column(flavor)] = "" if row in flavor.lacks else word_of(suite, flavor, row)
    found = []
    for place, word in read(page).items():
        if place not in known:
            found.append(f"{' / '.join(place)}: there is no such test or flavor")
        elif word and word != known[place]:
            found.append(f"{' / '.join(place)}: the page says `{word}`, " + (f"its test `{known[place]}`" if known[place] else "no test fills it"))
        elif not word and known[place]:
            found.append(f"{' / '.join(place)}: the page says nothing, its test `{known[place]}`")
    return found


def short(title: str) -> str:
    """A row's title up to its colon; a colon between backticks is none."""
    parts = title.split(": ")
    for count in range(1, len(parts)):
        if (begin := ": ".join(parts[:count])).count("`") % 2 == 0:
            return begin
    return title


def tables() -> str:
    page = PAGE.read_text()
    old = read(page) if BEGIN in page else {}
    out = []
    for table, suite in suites().items():
        here = [flavor for flavor in flavors() if takes_part(suite, flavor)]
        columns = [column(flavor) for flavor in here]
        if table == "resources":
            out += ["", "### Resources"]
        out += ["", f"| {HEADS[table]} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        filled = {}
        for name in columns:
            path = RESULTS / f"{table}.{name}.json"
            filled[name] = json.loads(path.read_text()) if path.exists() else {}
        for row, title in rows(suite).items():
            words = []
            for flavor, name in zip(here, columns):
                word = filled[name].get(row, old.get((table, title, name), ""))
                words.append("" if row in flavor.lacks else word)
            out.append(f"| {title} | " + " | ".join(words) + " |")
    lacking = [f"- {column(flavor)}: " + "; ".join(f"{short(rows(suite)[row])} – {why}" for suite in suites().values() if takes_part(suite, flavor)
                                                for row, why in flavor.lacks.items() if row in rows(suite))
               for flavor in flavors() if flavor.lacks]
    return "\n".join(out[1:] + ["", "Empty cells:", "", *lacking]) + "\n"


def main() -> int:
    made = tables()
    if "--write" not in sys.argv[1:]:
        print(made, end="")
        return 0
    page = PAGE.read_text()
    PAGE.write_text(page.split(BEGIN, 1)[0] + BEGIN + made + END + page.split(END, 1)[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())

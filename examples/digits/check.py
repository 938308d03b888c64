"""Refuses a table that is not what training expects, naming every fault."""
import csv
import json
import os
import sys
from collections import Counter

PIXELS = 64
DARKEST = 16
FEWEST_PER_DIGIT = 100
MOST_FAULTS = 20


def faults_of(rows):
    for line, row in enumerate(rows, start=2):
        if len(row) != PIXELS + 1:
            yield f"line {line}: {len(row)} columns, expected {PIXELS + 1}"
        elif not all(cell.isdigit() for cell in row):
            yield f"line {line}: a cell is no whole number"
        elif int(row[0]) > 9:
            yield f"line {line}: the label {row[0]} is no digit"
        elif max(map(int, row[1:])) > DARKEST:
            yield f"line {line}: a grey value above {DARKEST}"
        elif not any(map(int, row[1:])):
            yield f"line {line}: the image is empty"


def main():
    with open(os.environ["ORCH_INPUT_TABLE"], encoding="ascii", newline="") as table:
        header, *rows = csv.reader(table)
    faults = list(faults_of(rows))
    if header[:1] != ["label"]:
        faults.insert(0, "line 1: the first column is not `label`")
    images = Counter(row[0] for row in rows)
    for digit in map(str, range(10)):
        if images[digit] < FEWEST_PER_DIGIT:
            faults.append(f"only {images[digit]} images of a {digit}, at least {FEWEST_PER_DIGIT} are needed")
    if faults:
        for fault in faults[:MOST_FAULTS]:
            print(fault, file=sys.stderr)
        sys.exit(f"the table has {len(faults)} faults")
    copies = len(rows) - len(set(map(tuple, rows)))
    facts = {"rows": len(rows), "copies": copies, "images": {digit: images[digit] for digit in sorted(images)}}
    with open(os.environ["ORCH_OUTPUT_FACTS"], "w", encoding="ascii") as out:
        json.dump(facts, out)
    print(f"{len(rows)} rows are good; {min(images.values())} to {max(images.values())} images of each digit")


if __name__ == "__main__":
    main()

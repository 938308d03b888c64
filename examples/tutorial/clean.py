"""Reads what one station measured on one day, and sums it up."""
import csv
import json
import os
import sys


def main():
    path, station = sys.argv[1:]
    celsius = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            celsius.append(float(row["celsius"]))
    with open(os.environ["ORCH_OUTPUT_DAY"], "w") as out:
        json.dump({"station": station, "count": len(celsius), "sum": round(sum(celsius), 1),
                   "low": min(celsius), "high": max(celsius)}, out)


if __name__ == "__main__":
    main()

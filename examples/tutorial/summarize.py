"""Adds up what all stations measured on all days: one line for each station, the warmest first."""
import csv
import json
import os


def main():
    with open(os.environ["ORCH_INPUT_DAYS"]) as file:
        days = json.load(file)  # of a fan-in of values: one list, in the order of the fan-out
    stations = {}
    for day in days:
        stations.setdefault(day["station"], []).append(day)
    means = {name: sum(day["sum"] for day in of) / sum(day["count"] for day in of) for name, of in stations.items()}
    with open(os.environ["ORCH_OUTPUT_TABLE"], "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["station", "measurements", "mean", "low", "high"])
        for name in sorted(means, key=means.get, reverse=True):
            of = stations[name]
            out.writerow([name, sum(day["count"] for day in of), f"{means[name]:.2f}",
                          min(day["low"] for day in of), max(day["high"] for day in of)])


if __name__ == "__main__":
    main()

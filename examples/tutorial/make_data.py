"""Writes the measurements of 20 weather stations on 10 days: data/STATION/DAY.csv, one line every ten minutes.

The same each time it is run: the numbers are made, not measured. One station's thermometer froze on one morning.
"""
import math
import pathlib
import random

STATIONS = ["aalen", "bergen", "cork", "delft", "espoo", "faro", "ghent", "horta", "imst", "jena", "krems", "lund",
            "mons", "nice", "oulu", "pisa", "riga", "split", "turku", "ulm"]


def main():
    for number, station in enumerate(STATIONS):
        folder = pathlib.Path("data") / station
        folder.mkdir(parents=True, exist_ok=True)
        for day in range(1, 11):
            chance = random.Random(f"{station}-{day}")
            lines = ["time,celsius"]
            for minute in range(0, 24 * 60, 10):
                warmth = 4 + number * 0.7 + 6 * math.sin((minute - 9 * 60) / (24 * 60) * 2 * math.pi) + chance.gauss(0, 0.4)
                lines.append(f"{minute // 60:02}:{minute % 60:02},{warmth:.1f}")
            if (station, day) == ("oulu", 7):
                lines[38:40] = ["06:10,---", "06:20,---"]
            (folder / f"{day}.csv").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""Writes the handwritten digits as one CSV file: `label`, then 64 grey values (0 white to 16 black), row by row."""
import json
import os
import sys

try:
    from sklearn.datasets import load_digits
except ImportError as missing:
    sys.exit(f"python3-sklearn is missing ({missing}): apt-get install python3-sklearn")


def main():
    digits = load_digits()
    with open(os.environ["ORCH_OUTPUT_TABLE"], "w", encoding="ascii") as out:
        out.write("label," + ",".join(f"p{row}{column}" for row in range(8) for column in range(8)) + "\n")
        for label, pixels in zip(digits.target, digits.data):
            out.write(",".join(str(int(number)) for number in (label, *pixels)) + "\n")
    with open(os.environ["ORCH_OUTPUT_ROWS"], "w", encoding="ascii") as out:
        json.dump(len(digits.target), out)
    print(f"{len(digits.target)} images of 8 x 8 pixels")


if __name__ == "__main__":
    main()

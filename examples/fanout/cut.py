"""Cuts a text into parts of so many words; writes them as one JSON list."""
import json
import os
import sys

words = sys.argv[1].split()
width = int(sys.argv[2])
parts = [" ".join(words[at:at + width]) for at in range(0, len(words), width)]
with open(os.environ["ORCH_OUTPUT_PARTS"], "w", encoding="utf-8") as out:
    json.dump(parts, out)

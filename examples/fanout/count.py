"""Counts the letters of one part."""
import json
import os
import sys

with open(os.environ["ORCH_OUTPUT_LETTERS"], "w", encoding="utf-8") as out:
    json.dump(sum(letter.isalpha() for letter in sys.argv[1]), out)

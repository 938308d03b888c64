"""The Python reader of pipelines against the vectors it shares with the C++ reader."""
import json
import os
import pathlib
import unittest

from google.protobuf import json_format

from orchd import OrchdError
from orchd.spec import load

VECTORS = pathlib.Path(__file__).resolve().parents[1] / "spec" / "vectors"


class VectorTest(unittest.TestCase):
    def test_valid_files_give_the_same_message(self):
        for expected in sorted(VECTORS.glob("*.json")):
            source = expected.with_suffix(".yaml")
            if not source.exists():
                continue
            with self.subTest(source.name):
                message = load(str(source)).message
                got = json_format.MessageToDict(message, preserving_proto_field_name=True)
                wanted = json.loads(expected.read_text())
                for step in wanted["steps"]:  # `load` makes folders absolute, as orchctl does
                    if "source" in step:
                        step["source"]["path"] = os.path.normpath(VECTORS / step["source"]["path"])
                self.assertEqual(got, wanted)

    def test_bad_files_are_refused_at_the_same_places(self):
        for expected in sorted(VECTORS.glob("*.errors")):
            source = expected.with_suffix(".yaml")
            with self.subTest(source.name):
                with self.assertRaises(OrchdError) as caught:
                    load(str(source))
                wanted = {int(line.split(":")[0]) for line in expected.read_text().splitlines() if line[:1].isdigit()}
                got = {violation.line for violation in caught.exception.violations}
                self.assertEqual(got, wanted)


if __name__ == "__main__":
    unittest.main()

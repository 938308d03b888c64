"""Names that the daemon makes: by the time, and no two alike."""
import json
import unittest
from concurrent.futures import ThreadPoolExecutor

from tests.lib.daemon import Daemon


class Names(unittest.TestCase):
    def test_runs_that_are_submitted_in_the_same_microsecond(self) -> None:
        with Daemon("flavors: {fake: true}\n") as daemon:
            daemon.ctl("register-orchestrator", "fake", "--flavor", "fake")
            request = {"orchestrator": "fake", "pipeline": {"name": "p", "steps": [{"name": "a", "command": ["-"]}]}}
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(lambda _: daemon.http("/orch.v1.RunService/SubmitRun", request), range(600)))
            self.assertEqual({status for status, _ in answers}, {200})
            self.assertEqual(len({json.loads(body)["name"] for _, body in answers}), 600)


if __name__ == "__main__":
    unittest.main()

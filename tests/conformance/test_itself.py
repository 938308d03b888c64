"""The suites judge as they say: what should be refused and is taken fails, what has no test is skipped with its reason, and only a test
that has passed fills a cell."""
import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from tests.conformance import cases
from tests.conformance.cases import Cases, generate, rows
from tests.conformance.flavor import DAEMON, REFUSED, STEPWISE
from tests.conformance.flavors.fake import Fake


class Small(Cases):
    table = "small"
    usual = {"": DAEMON}

    def setUp(self) -> None:
        self.begin()
        self.addCleanup(self.daemon.close)

    def test_runs(self) -> None:
        """a step runs"""
        self.wait(self.submit(self.step("a")))

    def test_is_wrong(self) -> None:
        """what never holds"""
        self.wait(self.submit(self.step("a")), code=1)

    def test_too_much(self) -> None:
        """more than there is"""
        self.submit(self.step("a", resources={"cpu": 1000}))


class Itself(unittest.TestCase):
    def judge(self, **more: object) -> tuple[unittest.TestResult, dict[str, str]]:
        flavor = Fake()
        for name, value in more.items():
            setattr(flavor, name, value)
        made: dict[str, object] = {"__name__": __name__}
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(cases, "RESULTS", Path(folder)), \
                mock.patch.object(cases, "flavors", lambda: [flavor]), mock.patch.dict("os.environ", ORCH_TEST_FLAVORS=""):
            generate(Small, made)
            [one] = [value for name, value in made.items() if name.startswith("Small_fake")]
            suite = unittest.defaultTestLoader.loadTestsFromTestCase(one)  # type: ignore[arg-type]
            result = unittest.TestResult()
            suite.run(result)
            return result, json.loads(next(Path(folder).iterdir()).read_text())

    def test_a_cell_is_filled_by_a_test_that_passes(self) -> None:
        result, cells = self.judge(words={"too_much": REFUSED}, lacks={})
        self.assertEqual(len(result.failures) + len(result.errors), 1, "what never holds")
        self.assertEqual(cells, {"runs": DAEMON, "is_wrong": "", "too_much": REFUSED})

    def test_what_is_taken_though_it_should_be_refused_fails(self) -> None:
        result, cells = self.judge(words={"runs": REFUSED, "too_much": REFUSED}, lacks={"is_wrong": "it never holds"})
        self.assertEqual([test.id().rsplit(".", 1)[1] for test, _ in result.failures + result.errors], ["test_runs"])
        self.assertEqual([reason for _, reason in result.skipped], ["fake: it never holds"])
        self.assertEqual(cells["runs"], "")

    def test_what_is_refused_though_it_should_be_taken_fails(self) -> None:
        result, cells = self.judge(words={}, lacks={"is_wrong": "it never holds"})
        self.assertEqual([test.id().rsplit(".", 1)[1] for test, _ in result.failures + result.errors], ["test_too_much"])
        self.assertEqual(cells["too_much"], "")

    def test_a_flavor_of_whole_runs_says_which_rows_go_step_by_step(self) -> None:
        known = {"too_much": REFUSED, "is_wrong": DAEMON}
        result, cells = self.judge(granularity="run", words={**known, "runs": DAEMON + STEPWISE}, lacks={"is_wrong": "it never holds"})
        self.assertTrue(result.wasSuccessful(), result.failures)
        self.assertEqual(cells, {"runs": "daemon, step by step", "too_much": REFUSED})
        result, cells = self.judge(granularity="run", words=known, lacks={"is_wrong": "it never holds"})
        self.assertIn("whole runs are whole unless the word says that they are not", result.failures[0][1])
        self.assertEqual(cells["runs"], "")

    def test_rows_are_the_tests_in_order(self) -> None:
        self.assertEqual(rows(Small), {"runs": "a step runs", "is_wrong": "what never holds", "too_much": "more than there is"})


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    return unittest.TestSuite(loader.loadTestsFromTestCase(Itself))  # those of Small are run by these

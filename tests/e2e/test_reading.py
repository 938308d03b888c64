"""Lists by filter and order, page by page, through the real daemon."""
import base64
import json
import unittest
from typing import Any

from tests.lib.daemon import Daemon, wait_for

WIDE = """
name: wide
steps:
  - {name: a, command: ['true']}
  - name: f
    foreach: {n: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]}
    command: [sh, -c, 'test ${item.n} -ne 7']
    after: [a]
  - {name: z, command: ['true'], after: [f]}
"""


class Lists(unittest.TestCase):
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = Daemon()
        cls.addClassCleanup(cls.daemon.close)
        cls.daemon.start()

    def call(self, method: str, body: dict[str, Any], status: int = 200) -> Any:
        got, text = self.daemon.http(f"/orch.v1.{method}", body)
        self.assertEqual(got, status, text)
        return json.loads(text)

    def pages(self, method: str, what: str, body: dict[str, Any]) -> list[str]:
        out, token = [], ""
        for _ in range(1000):
            page = self.call(method, {**body, "page_token": token})
            out += [thing["name"] for thing in page[what]]
            token = page.get("next_page_token", "")
            if not token:
                return out
        raise AssertionError("the pages have no end")

    def test_runs_by_filter_and_order(self) -> None:
        for name in ("m-2", "m-1", "m-10", "n-3"):
            self.daemon.submit("name: m\nsteps:\n  - {name: a, command: ['true']}\n", "--name", name, "--wait",
                               "--label", f"kind={name[0]}")
        mine = {"filter": "pipeline=m", "page_size": 1}
        for order, expected in (("", ["n-3", "m-10", "m-1", "m-2"]), ("create_time desc", ["n-3", "m-10", "m-1", "m-2"]),
                                ("create_time", ["m-2", "m-1", "m-10", "n-3"]), ("name", ["m-1", "m-10", "m-2", "n-3"]),
                                ("name desc", ["n-3", "m-2", "m-10", "m-1"])):
            self.assertEqual(self.pages("RunService/ListRuns", "runs", {**mine, "order_by": order}), expected, order)
        for terms, expected in (("name=m-1", ["m-1"]), ("name=m-*", ["m-1", "m-10", "m-2"]), ("name:M-1", ["m-1", "m-10"]),
                                ("label.kind=n", ["n-3"]), ("label.kind=m AND name=m-1*", ["m-1", "m-10"]),
                                ("state=FAILED,SUCCEEDED AND name:n-", ["n-3"]), ("state=FAILED AND name=n-3", [])):
            self.assertEqual(self.pages("RunService/ListRuns", "runs", {"filter": terms, "order_by": "name"}), expected, terms)
        self.assertEqual(self.daemon.ctl("list-runs", "--filter", "pipeline=m", "--order-by", "name", "-o", "name").stdout.split(),
                         ["m-1", "m-10", "m-2", "n-3"])

    def test_what_has_no_index_is_refused_with_what_has(self) -> None:
        for body, word, said in (({"filter": "priority=3"}, "FILTER_INVALID", "pipeline="),
                                 ({"filter": "create_time=3"}, "FILTER_INVALID", "label.KEY="),
                                 ({"filter": "state=NOT_A_STATE"}, "FILTER_INVALID", "CANCELLED"),
                                 ({"order_by": "priority"}, "ORDER_BY_INVALID", "create_time, name"),
                                 ({"order_by": "name down"}, "ORDER_BY_INVALID", "create_time, name"),
                                 ({"order_by": "name, create_time"}, "ORDER_BY_INVALID", "create_time, name")):
            answer = self.call("RunService/ListRuns", body, 400)
            self.assertIn(word, json.dumps(answer["details"]) + self.words(answer), (body, answer))
            self.assertIn(said, answer["message"])
        run = self.daemon.submit("name: one\nsteps:\n  - {name: a, command: ['true']}\n", "--wait")
        for body, word in (({"filter": "attempt=1"}, "FILTER_INVALID"), ({"order_by": "name"}, "ORDER_BY_INVALID")):
            answer = self.call("RunService/ListSteps", {"run": run, **body}, 400)
            self.assertIn(word, json.dumps(answer["details"]) + self.words(answer), (body, answer))

    @staticmethod
    def words(answer: Any) -> str:
        """The details with their binary values as text."""
        return " ".join(base64.b64decode(d.get("value", "") + "==").decode(errors="replace") for d in answer["details"])

    def test_a_token_of_another_list_is_refused(self) -> None:
        for name in ("t-1", "t-2", "t-3"):
            self.daemon.submit("name: t\nsteps:\n  - {name: a, command: ['true']}\n", "--name", name, "--wait")
        base = {"filter": "pipeline=t", "page_size": 1}
        token = self.call("RunService/ListRuns", base)["next_page_token"]
        for other in ({**base, "filter": "pipeline=m"}, {**base, "order_by": "name"}, {**base, "order_by": "create_time"}):
            answer = self.call("RunService/ListRuns", {**other, "page_token": token}, 400)
            self.assertIn("another list, filter or order", answer["message"])
        self.call("RunService/ListRuns", {**base, "order_by": "create_time desc", "page_token": token})  # the same order
        self.call("RunService/ListSteps", {"run": "t-1", "page_token": token}, 400)

    def test_steps_by_state_also_those_that_wait(self) -> None:
        held = self.daemon.home / "held"
        text = WIDE.replace("command: ['true']}\n  - name: f", f"command: [sh, -c, 'until test -e {held}; do sleep 0.02; done']}}\n  - name: f")
        run = self.daemon.submit(text)
        wait_for("a to run", lambda: self.daemon.steps(run)["a"]["state"] == "RUNNING")
        every = ["a", *(f"f[{i}]" for i in range(12)), "z"]

        def names(**body: Any) -> list[str]:
            return self.pages("RunService/ListSteps", "steps", {"run": run, "page_size": 5, **body})

        self.assertEqual(names(), every)
        self.assertEqual(names(order_by="index desc"), every[::-1])
        self.assertEqual(names(filter="state=WAITING"), every[1:])
        self.assertEqual(names(filter="state=WAITING", order_by="index desc"), every[:0:-1])
        self.assertEqual(names(filter="state=RUNNING,WAITING"), every)
        self.assertEqual(names(filter="state=RUNNING"), ["a"])
        self.assertEqual(names(filter="state=SUCCEEDED"), [])
        self.assertEqual(names(filter="template_name=f AND name:1"), ["f[1]", "f[10]", "f[11]"])
        self.assertEqual(names(filter="name=f[3]"), ["f[3]"])
        self.assertEqual(names(filter="name=f[3] AND template_name=z"), [])
        self.assertEqual(names(filter="name=f[99]"), [])
        held.touch()
        self.daemon.ctl("wait-run", run, code=1)
        self.assertEqual(names(filter="state=WAITING"), [])
        self.assertEqual(names(filter="state=FAILED"), ["f[7]"])
        self.assertEqual(names(filter="state=SKIPPED,FAILED", order_by="index desc"), ["z", "f[7]"])
        self.assertEqual(self.daemon.ctl("list-steps", run, "--filter", "state=FAILED", "--order-by", "index desc",
                                         "-o", "name").stdout.split(), ["f[7]"])


if __name__ == "__main__":
    unittest.main()

"""Steps that die, runs that are stopped, clients that go away: what ZenML and orchd say of it. The test is the client."""
import gc
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from unittest import mock

from waiting import wait_for
from world import HERE, daemon, python  # before ZenML

import orchd
from orchd import _processes
from orchd.errors import OrchdError
from orchd.zenml import _workers, orchestrator, reconcile
from zenml.client import Client
from zenml.config.schedule import Schedule
from zenml.enums import ExecutionStatus
from zenml.utils import source_utils
from zenml.utils.run_utils import refresh_run_status, stop_run

sys.path.insert(0, str(HERE / "faulty"))
source_utils.set_custom_source_root(str(HERE / "faulty"))

import steps  # noqa: E402

LATER = {"settings": {"orchestrator": {"synchronous": False}}}


class World(unittest.TestCase):
    def setUp(self):
        daemon()
        Client().activate_stack("orchd")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def run_of(self, made):
        return Client().get_pipeline_run(made.id)

    def bad(self, pipeline, *args, **kwargs):
        """Runs it; the run, which has failed, as the call has told."""
        with self.assertRaises(RuntimeError) as raised:
            pipeline(*args, **kwargs)
        run = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
        return Client().get_pipeline_run(run.id), str(raised.exception)

    def in_orchd(self, run):
        known = daemon().client.get_run(run.orchestrator_run_id)
        return known, {step.name: step for step in daemon().client.list_steps(known)}

    def begun(self, **options):
        """A run of `waits`, whose first step is in the middle."""
        mark = self.folder / "mark"
        made = steps.waits.with_options(**LATER)(mark=str(mark), **options)
        pids = wait_for("the step to begin", lambda: mark.exists() and mark.read_text()).split()
        return made, [int(pid) for pid in pids]


class Lost(World):
    def lost(self, how, reason, told):
        run, message = self.bad(steps.dies, how)
        self.assertIn("dying", message)
        self.assertEqual(run.status, ExecutionStatus.FAILED)
        self.assertEqual({name: s.status.value for name, s in run.steps.items()}, {"dying": "failed", "beside": "completed"})
        self.assertIn(told, run.steps["dying"].exception_info.traceback)
        known, inside = self.in_orchd(run)
        self.assertEqual((known.state, inside["dying"].state, inside["dying"].reason), ("FAILED", "FAILED", reason))

    def test_exit_in_the_middle(self):
        self.lost("exit", "EXIT_CODE", "ended with exit code 3 in the middle")

    def test_a_crash_of_native_code(self):
        self.lost("crash", "SIGNALED", "SIGSEGV")

    def test_a_kill(self):
        self.lost("kill", "SIGNALED", "SIGKILL")

    def test_a_kill_of_all_its_processes(self):
        self.lost("all", "SIGNALED", "orchd: ")

    def test_a_lost_step_is_started_again_within_its_retries(self):
        for how in ("exit", "kill"):
            with self.subTest(how=how):
                run = self.run_of(steps.dies_once(how, str(self.folder / how)))
                self.assertEqual(run.status, ExecutionStatus.COMPLETED)
                step = run.steps["dying_once"]
                self.assertEqual((step.version, step.outputs["output"][0].load()), (2, 7))
                self.assertEqual(self.in_orchd(run)[1]["dying_once"].attempt, 2)

    def test_retries_have_an_end(self):
        run, _ = self.bad(steps.dies_always)
        self.assertEqual((run.status, run.steps["dying_always"].status), (ExecutionStatus.FAILED,) * 2)
        self.assertEqual(run.steps["dying_always"].version, 2)
        self.assertEqual(self.in_orchd(run)[1]["dying_always"].attempt, 2)

    def test_nobody_waits_for_a_run_whose_step_is_lost(self):
        made, pids = self.begun()
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)
        self.assertEqual(self.run_of(made).steps["waiting"].status, ExecutionStatus.FAILED)

    def test_nobody_waits_and_even_its_first_process_is_lost(self):
        made = steps.dies.with_options(**LATER)("all")
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)
        self.assertEqual(self.run_of(made).steps["dying"].status, ExecutionStatus.FAILED)

    def test_a_dynamic_pipeline_ends_what_it_has_started(self):
        for how in ("exit", "all"):
            with self.subTest(how=how):
                mark = self.folder / how
                made = steps.dies_around.with_options(**LATER)(how, str(mark))
                wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)
                (apart,) = daemon().client.list_runs(f"label.zenml.of={made.id}")
                self.assertEqual(daemon().client.wait(apart, timeout=300).state, "CANCELLED")
                self.assertFalse(os.path.exists(f"/proc/{mark.read_text()}"))


class Secrets(World):
    def names(self):
        return [secret.name for secret in daemon().client.list_secrets()]

    def test_they_go_with_a_submission_that_fails(self):
        for more, fault in (({}, KeyError), ({"no name": "3"}, OrchdError)):
            with self.subTest(fault=fault), self.assertRaises(fault):
                with reconcile.secrets_set(daemon().client, {"zenml.one.a": "1", "zenml.one.b": "2", **more}):
                    self.assertEqual(self.names(), ["zenml.one.a", "zenml.one.b"])
                    raise KeyError
            self.assertEqual(self.names(), [])

    def test_the_sweep_leaves_those_of_a_run_that_is_gone_on_with(self):
        go = self.folder / "go"
        made, _ = self.begun(until=str(go))
        client = daemon().client
        old, new = f"zenml.{made.id}.first.a", f"zenml.{made.id}.again.a"
        client.set_secret(old, "1")
        reconcile.sweep(client)
        self.assertEqual(self.names(), [old])  # it runs
        go.write_text("")
        client.wait(made.name)
        client.set_secret(new, "2")
        reconcile.sweep(client)
        self.assertEqual(self.names(), [new])
        with mock.patch("time.time", return_value=time.time() + 3700):
            reconcile.sweep(client)
        self.assertEqual(self.names(), [])

    def test_each_submission_has_names_of_its_own(self):
        first, again = (mock.Mock(id="1", orchestrator_run_id=known) for known in (None, "2"))
        prefixes = [orchestrator._Submission.of(run).prefix for run in (first, again, again)]
        self.assertEqual(prefixes[0], "zenml.1.first")
        self.assertEqual(len(set(prefixes)), 3)


class Stopped(World):
    def stopped(self, made):
        wait_for("ZenML to say stopped", lambda: self.run_of(made).status == ExecutionStatus.STOPPED)
        run = self.run_of(made)
        self.assertEqual({name: step.status.value for name, step in run.steps.items()}, {"waiting": "stopped"})
        daemon().client.wait(run.orchestrator_run_id)
        known, inside = self.in_orchd(run)
        self.assertEqual(known.state, "CANCELLED")
        self.assertEqual({step.state for step in inside.values()}, {"CANCELLED"})

    def test_by_zenml(self):
        for graceful in (True, False):
            with self.subTest(graceful=graceful):
                made, _ = self.begun()
                stop_run(self.run_of(made), graceful=graceful)
                self.stopped(made)
                (self.folder / "mark").unlink()

    def test_by_orchd(self):
        made, _ = self.begun()
        daemon().client.cancel_run(made.name)
        self.stopped(made)

    def test_the_status_is_refreshed(self):
        go = self.folder / "go"
        made, _ = self.begun(until=str(go))
        self.assertEqual(refresh_run_status(self.run_of(made), include_step_updates=True).status, ExecutionStatus.RUNNING)
        go.write_text("")
        daemon().client.wait(made.name)
        self.assertEqual(refresh_run_status(self.run_of(made)).status, ExecutionStatus.COMPLETED)


class Survives(World):
    def test_the_end_of_its_client(self):
        go, mark = self.folder / "go", self.folder / "mark"
        program = f"import steps; steps.waits({str(mark)!r}, {str(go)!r})"
        script = self.folder / "client.py"
        script.write_text(program)
        environment = {**os.environ, "PYTHONPATH": f"{HERE / 'faulty'}:{os.environ['PYTHONPATH']}"}
        client = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
        wait_for("the step to begin", lambda: mark.exists() and mark.read_text())
        client.kill()
        client.wait()
        go.write_text("")
        run = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
        self.assertEqual(daemon().client.wait(run.name).state, "SUCCEEDED")
        run = self.run_of(run)
        self.assertEqual((run.status, run.steps["afterwards"].outputs["output"][0].load()), (ExecutionStatus.COMPLETED, 6))

    def test_the_death_of_the_daemon(self):
        go = self.folder / "go"
        made, _ = self.begun(until=str(go))
        daemon().kill()
        go.write_text("")
        daemon().start()
        self.assertEqual(daemon().client.wait(made.name).state, "SUCCEEDED")
        self.assertEqual(self.run_of(made).status, ExecutionStatus.COMPLETED)


class ByServer(World):
    """The daemon is named, and is not where a step or hook would look for one."""

    def setUp(self):
        super().setUp()
        address = f"unix:{daemon().data_dir}/grpc.sock"
        python("-m", "orchd.zenml", "setup", "--server", address, "--name", "by_server", "--stack", "by_server", "--no-activate")
        Client().activate_stack("by_server")
        self.addCleanup(Client().activate_stack, "orchd")

    def test_steps_of_a_dynamic_pipeline_find_it(self):
        run = self.run_of(steps.around())
        self.assertEqual((run.status, {s.status for s in run.steps.values()}), (ExecutionStatus.COMPLETED, {ExecutionStatus.COMPLETED}))
        (apart,) = daemon().client.list_runs(f"label.zenml.of={run.id}")
        self.assertEqual(apart.state, "SUCCEEDED")

    def test_the_hook_at_the_end_finds_it(self):
        made = steps.dies.with_options(**LATER)("all")
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.FAILED)


class Settings(World):
    def test_of_a_pipeline(self):
        own = {"max_parallelism": 2, "run_timeout": "20m", "timeout": 600, "priority": 3}
        run = self.run_of(steps.identity.with_options(settings={"orchestrator": own})())
        known = daemon().client.get_run(run.name)
        asked = daemon().client._request("GetPipelineRequest", name=known.pipeline, version=known.pipeline_version)
        stored = daemon().client._call("PipelineService.GetPipeline", asked).pipeline
        (step,) = stored.steps
        self.assertEqual((stored.max_parallel, stored.timeout.seconds), (2, 1200))
        self.assertEqual((step.timeout.run.seconds, step.priority), (600, 3))


class Clients(World):
    def test_none_stays_open(self):
        def connected():
            gc.collect()
            return [one for one in gc.get_objects() if isinstance(one, orchd.Client) and one._calls._connection._channel]

        before = connected()
        run = self.run_of(steps.identity())
        refresh_run_status(run, include_step_updates=True)
        self.assertEqual([one for one in connected() if one not in before], [])


class Refused(World):
    def test_a_schedule(self):
        before = Client().list_pipeline_runs(size=1).total
        with self.assertRaisesRegex(ValueError, "schedul"):
            steps.identity.with_options(schedule=Schedule(cron_expression="* * * * *"))()
        self.assertEqual((Client().list_schedules().total, Client().list_pipeline_runs(size=1).total), (0, before))

    def test_an_orchestrator_that_is_none(self):
        with self.assertRaisesRegex(Exception, "nowhere"):
            steps.identity.with_options(settings={"orchestrator": {"orchestrator": "nowhere"}})()
        run = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
        self.assertEqual(run.status, ExecutionStatus.FAILED)

    def test_more_than_there_is(self):
        from zenml.config import ResourceSettings

        with self.assertRaisesRegex(Exception, "gpu"):
            steps.identity.with_options(settings={"resources": ResourceSettings(gpu_count=512)})()

    def test_a_setting_that_is_none(self):
        with self.assertRaisesRegex(Exception, "isolation"):
            steps.identity.with_options(settings={"orchestrator": {"isolation": "perfect"}})()

    def test_a_zenml_of_another_version(self):
        from orchd.zenml import _versions

        with mock.patch("importlib.metadata.version", return_value="0.96.3"):
            with self.assertRaisesRegex(ImportError, r"works with zenml>=0\.97,<0\.99, and ZenML 0\.96\.3 is installed"):
                _versions.check()


class Shared(World):
    """`isolation: shared`: steps of one run take turns in a process."""

    SHARED = {"settings": {"orchestrator": {"isolation": "shared"}}}

    def test_what_stays_and_what_does_not(self):
        run = self.run_of(steps.leaves_things.with_options(**self.SHARED)(str(self.folder)))
        names = ["leaves", "leaves_2", "leaves_3"]
        found = [run.steps[name].outputs["output"][0].load() for name in names]
        pid = found[0]["pid"]
        self.assertEqual([one["pid"] for one in found], [pid] * 3)
        self.assertEqual([one["modules"] for one in found], [[], [pid], [pid] * 2])
        self.assertEqual([(one["variable"], one["cwd"]) for one in found], [("", os.getcwd())] * 3)
        for number, name in enumerate(names):
            self.assertIn(f"step after {number}", daemon().client.log_text(run.name, name))
            left = (self.folder / str(number)).read_text()
            wait_for("what it has started to be gone", lambda: not os.path.exists(f"/proc/{left}"))
        again = self.run_of(steps.leaves_things.with_options(**self.SHARED)(str(self.folder)))
        first = again.steps["leaves"].outputs["output"][0].load()
        self.assertEqual((first["pid"] == pid, first["modules"]), (False, []))

    def test_one_that_dies_is_lost_alone(self):
        for how in ("exit", "kill"):
            with self.subTest(how=how):
                run = self.run_of(steps.dies_in_between.with_options(**self.SHARED)(how, str(self.folder / how)))
                self.assertEqual({name: (one.status, one.version) for name, one in run.steps.items()},
                                 {"beside": (ExecutionStatus.COMPLETED, 1), "dying_once": (ExecutionStatus.COMPLETED, 2),
                                  "afterwards": (ExecutionStatus.COMPLETED, 1)})  # fmt: skip
                self.assertEqual(run.steps["afterwards"].outputs["output"][0].load(), 8)

    def test_what_zenml_repeats_is_where_it_was(self):
        run = self.run_of(steps.fails_once.with_options(**self.SHARED)(str(self.folder / "mark")))
        first, second = run.steps["failing_once"].outputs["output"][0].load()
        self.assertEqual(first, second)
        self.assertNotEqual(first, pathlib.Path("/proc/self/cgroup").read_text())

    def test_a_stop_ends_the_one_that_runs(self):
        mark = self.folder / "mark"
        made = steps.waits.with_options(settings={"orchestrator": {"isolation": "shared", "synchronous": False}})(mark=str(mark))
        pid, _ = wait_for("the step to begin", lambda: mark.exists() and mark.read_text()).split()
        stop_run(self.run_of(made), graceful=False)
        wait_for("its process to be gone", lambda: not os.path.exists(f"/proc/{pid}"))
        wait_for("ZenML to know", lambda: self.run_of(made).status == ExecutionStatus.STOPPED)


class Steps(World):
    def test_what_cannot_be_kept(self):
        run, _ = self.bad(steps.keeps_a_lock)
        self.assertEqual((run.status, run.steps["unkeepable"].status), (ExecutionStatus.FAILED,) * 2)
        self.assertRegex(daemon().client.log_text(run.name, "unkeepable", stream="stderr"), "cannot pickle '_thread.lock' object")

    def test_an_import_that_fails(self):
        run, _ = self.bad(steps.imports_what_is_not_there)
        told = run.steps["imports"].exception_info.traceback
        self.assertIn("No module named 'there_is_no_such_module'", told)
        self.assertNotIn("orchd", told)

    def test_megabytes_and_forks(self):
        run = self.run_of(steps.talkative())
        self.assertEqual((run.status, run.steps["talks"].outputs["output"][0].load()), (ExecutionStatus.COMPLETED, 1))

    def test_isolation(self):
        found = self.run_of(steps.identity()).steps["who"].outputs["output"][0].load()
        self.assertIn("orchd.zenml._worker", found["parent"])
        self.assertEqual((found["cwd"], found["file"]), (os.getcwd(), str(HERE / "faulty/steps.py")))
        apart = {"settings": {"orchestrator": {"isolation": "process"}}}
        found = self.run_of(steps.identity.with_options(**apart)()).steps["who"].outputs["output"][0].load()
        self.assertNotIn("orchd.zenml._worker", found["parent"])

    def test_what_those_before_it_were_is_not_asked_for(self):
        for isolation, known in (("worker", ["beside"]), ("process", [])):
            apart = {"settings": {"orchestrator": {"isolation": isolation}}}
            with self.subTest(isolation):
                run = self.run_of(steps.passes_on.with_options(**apart)())
                self.assertEqual(run.steps["knows"].outputs["output"][0].load(), known)
                self.assertEqual([version.id for version in run.steps["knows"].inputs["number"]],
                                 [version.id for version in run.steps["beside"].outputs["output"]])  # fmt: skip

    def test_one_worker_serves_many_runs(self):
        parents = set()
        for number in range(2):
            go = self.folder / f"go-{number}"
            go.write_text("")
            made, pids = self.begun(until=str(go))
            self.assertEqual(daemon().client.wait(made.name).state, "SUCCEEDED")
            (self.folder / "mark").unlink()
            parents.add(pids[1])
        self.assertEqual(len(parents), 1)

    def test_a_worker_that_nobody_asks_ends(self):
        environment = {"PYTHONPATH": os.environ["PYTHONPATH"], "ZENML_CONFIG_PATH": os.environ["ZENML_CONFIG_PATH"]}
        socket = _workers.socket_of(environment, str(self.folder))
        with mock.patch.object(_processes, "leave") as leave:
            _workers.start(socket, environment, str(self.folder), 1)
        (started,) = leave.call_args.args
        self.assertEqual(started.wait(300), 0)  # it has forked what serves: nothing has failed
        wait_for("it to end", lambda: not os.path.exists(socket))


if __name__ == "__main__":
    unittest.main()

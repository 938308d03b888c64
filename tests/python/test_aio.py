"""The asyncio client: every test of the blocking one, driven through an event loop, and what only a loop can show."""
import asyncio
import inspect
import threading
import unittest
from unittest import mock

import grpc
import test_client
import test_reading
from double import Failure, event_message, run_message
from real import RealCase

import orchd
from orchd import AsyncClient, Client

Code = grpc.StatusCode
PIPELINE = test_client.PIPELINE


class FromOutside:
    """An AsyncClient in a loop of another thread, with calls that wait for it."""

    def __init__(self, **options):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = AsyncClient(**options)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def done(*args, **kwargs):
            answer = call(*args, **kwargs)
            return self._items(answer) if inspect.isasyncgen(answer) else self._run(answer)

        return done

    def _items(self, feed):
        try:
            while True:
                try:
                    item = self._run(feed.__anext__())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self._run(feed.aclose())

    def close(self):
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ThroughALoop:
    def client(self, **options):
        client = FromOutside(**options)
        self.addCleanup(client.close)
        return client


class AsyncFindingTest(ThroughALoop, test_client.FindingTest):
    pass


class AsyncCallTest(ThroughALoop, test_client.CallTest):
    pass


class AsyncStreamTest(ThroughALoop, test_client.StreamTest):
    pass


class AsyncStartTest(ThroughALoop, test_client.StartTest):
    pass


class AsyncReadingTest(ThroughALoop, test_reading.ReadingTest):
    pass


class AsyncSecretsTest(ThroughALoop, test_reading.SecretsTest):
    pass


class SameTest(unittest.TestCase):
    def test_names_arguments_and_words_are_those_of_the_blocking_client(self):
        def public(kind):
            return {name for name in dir(kind) if not name.startswith("_")}

        self.assertEqual(public(Client), public(AsyncClient))
        for name in ["__init__", *sorted(public(Client))]:
            ours, theirs = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))
            self.assertEqual(list(ours.parameters.values()), list(theirs.parameters.values()), name)
            self.assertEqual(ours.return_annotation, theirs.return_annotation.replace("AsyncIterator", "Iterator"), name)
            self.assertEqual(inspect.getdoc(getattr(Client, name)), inspect.getdoc(getattr(AsyncClient, name)), name)
        self.assertFalse(inspect.iscoroutinefunction(Client.get_run))
        self.assertFalse(inspect.isasyncgenfunction(Client.watch))


class LoopTest(test_client.ClientCase):
    def test_waiting_for_a_daemon_holds_nothing_up(self):
        self.serve({"RunService.GetRun": [Failure(Code.UNAVAILABLE, "starting", "STARTING", retry_after=0.3), run_message()]})

        async def main():
            async with AsyncClient() as client:
                call = asyncio.ensure_future(client.get_run("r1"))
                turns = 0
                while not call.done():
                    await asyncio.sleep(0.001)
                    turns += 1
                return turns, (await call).name

        with mock.patch("time.sleep", side_effect=AssertionError("it sleeps in the loop")):
            turns, name = asyncio.run(main())
        self.assertEqual(name, "r1")
        self.assertGreater(turns, 5)

    def test_many_calls_at_once(self):
        self.serve({"RunService.GetRun": [lambda request: run_message(request.name)]})

        async def main():
            async with AsyncClient() as client:
                return [run.name for run in await asyncio.gather(*(client.get_run(f"r{n}") for n in range(50)))]

        self.assertEqual(asyncio.run(main()), [f"r{n}" for n in range(50)])

    def test_a_call_that_is_cancelled_ends_and_the_client_goes_on(self):
        entered, release = threading.Event(), threading.Event()
        self.addCleanup(release.set)

        def slow(request):
            entered.set()
            release.wait(60)
            return run_message("late")

        self.serve({"RunService.WaitRun": [slow], "RunService.GetRun": [run_message()]})

        async def main():
            async with AsyncClient() as client:
                waiting = asyncio.ensure_future(client.wait("r1"))
                await asyncio.get_running_loop().run_in_executor(None, entered.wait, 60)
                waiting.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await waiting
                return (await client.get_run("r1")).name

        self.assertEqual(asyncio.run(main()), "r1")

    def test_a_stream_that_is_left_ends_at_the_server(self):
        ended = threading.Event()
        double = self.serve()

        def events(request):
            yield event_message(1)
            ended.wait(60)  # set when the call ends

        double.script["RunService.WatchRuns"] = [events]
        double.on_end = ended.set

        async def main():
            async with AsyncClient() as client:
                feed = client.watch("r1")
                async for _ in feed:
                    break
                await feed.aclose()
                self.assertTrue(await asyncio.get_running_loop().run_in_executor(None, ended.wait, 60))

        asyncio.run(main())
        ended.clear()
        with Client() as client:  # and of the blocking one as soon as nobody holds the iterator
            next(client.watch("r1"))
            self.assertTrue(ended.wait(60))

    def test_one_client_in_two_loops(self):
        self.serve({"RunService.GetRun": [run_message()]})
        client = AsyncClient()

        async def name():
            return (await client.get_run("r1")).name

        self.assertEqual([asyncio.run(name()), asyncio.run(name())], ["r1", "r1"])
        asyncio.run(client.close())
        with self.assertRaisesRegex(orchd.OrchdError, "closed"):
            asyncio.run(name())

    def test_the_blocking_client_within_a_loop(self):
        self.serve({"RunService.WatchRuns": [[event_message(1), event_message(2, "SUCCEEDED")]], "RunService.GetRun": [run_message()]})

        async def main():
            with Client() as client:
                return client.get_run("r1").name, [event.sequence for event in client.watch("r1")], next(client.watch("r1")).sequence

        self.assertEqual(asyncio.run(main()), ("r1", [1, 2], 1))


class RealTest(RealCase):
    """A real daemon that is killed and comes back."""

    def test_submit_wait_and_read(self):
        async def main():
            async with AsyncClient() as client:
                pipeline = {"name": "p", "steps": [{"name": "a", "command": ["sh", "-c", "echo said; echo 42 > ${outputs.n}"],
                                                    "outputs": {"n": {"value": True}}}]}
                runs = await asyncio.gather(*(client.submit(pipeline, name=f"p-{n}") for n in range(5)))
                ended = await asyncio.gather(*map(client.wait, runs))
                self.assertEqual({run.state for run in ended}, {"SUCCEEDED"})
                self.assertEqual(await client.log_text("p-0", "a"), "said\n")
                artifact, = await client.list_artifacts("p-3")
                self.assertEqual((artifact.value, await client.read_artifact(artifact.id)), (42, b"42"))
                self.assertEqual(len(await client.list_runs("pipeline=p")), 5)

        asyncio.run(main())

    def test_a_pipeline_of_functions(self):
        import importlib.util
        from pathlib import Path

        file = Path(self.daemon.folder, "code", "sums.py")
        file.parent.mkdir()
        file.write_text("from orchd import pipeline, step\n@step\ndef add(n: int, m: int) -> int:\n    return n + m\n"
                        "@pipeline\ndef sums(n: int):\n    add(add(n, 1), 2)\n")
        spec = importlib.util.spec_from_file_location("sums", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        async def main():
            async with AsyncClient() as client:
                run = await client.wait(await client.submit(module.sums.spec(), {"n": 4}))
                step = await client.get_step(run, "add-2")
                return run.state, (await client.get_artifact(step.outputs["output"])).value

        self.assertEqual(asyncio.run(main()), ("SUCCEEDED", 7))

    def test_watch_goes_over_a_kill_of_the_daemon(self):
        from pathlib import Path

        go = Path(self.daemon.folder, "go")
        steps = [{"name": "a", "command": ["true"]},
                 {"name": "b", "after": ["a"], "command": ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done"]}]

        async def main():
            seen = []
            loop = asyncio.get_running_loop()
            async with AsyncClient(patience=120) as client:
                run = await client.submit({"name": "p", "steps": steps})

                async def watch():
                    async for event in client.watch(run):
                        seen.append((event.sequence, event.step, event.state))

                watching = asyncio.ensure_future(watch())
                while ("b", "RUNNING") not in {one[1:] for one in seen}:
                    await asyncio.sleep(0.01)
                await loop.run_in_executor(None, self.daemon.kill)
                await loop.run_in_executor(None, self.daemon.start)
                go.touch()
                await asyncio.wait_for(watching, 120)
                self.assertEqual((await client.wait(run)).state, "SUCCEEDED")
                logged = [(e.sequence, e.step, e.state) for e in await client.list_events(run)]
            numbers = [sequence for sequence, _, _ in seen]
            self.assertEqual(numbers, sorted(set(numbers)), "no event twice")
            self.assertEqual(seen, [one for one in logged if one[0] >= numbers[0]], "and none missed")

        asyncio.run(main())

    def test_the_daemon_is_away_or_does_not_know_us(self):
        async def main():
            async with AsyncClient(token="wrong", server=f"unix:{self.daemon.data_dir}/grpc.sock") as client:
                with self.assertRaises(orchd.PermissionDenied):
                    await client.get_run("x")
            self.daemon.stop()
            async with AsyncClient(start=False) as client:
                with self.assertRaises(orchd.Unreachable) as caught:
                    await client.get_run("x")
                self.assertEqual(caught.exception.reason, "DAEMON_NOT_RUNNING")

        asyncio.run(main())


if __name__ == "__main__":
    unittest.main()

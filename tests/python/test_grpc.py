"""What gRPC says by itself on stderr of whoever uses the client."""
import asyncio
import logging
import os
import subprocess
import sys
import threading
import unittest

from double import run_message
from test_client import ClientCase

from orchd import AsyncClient, _grpc

# A daemon that ends while a stream is open.
ENDS = """
import os, sys, threading
from orchd import Client, OrchdError
client = Client(data_dir=sys.argv[1], patience=0.1)  # gRPC is imported
print(os.environ.get("GRPC_VERBOSITY"))
from double import ServerDouble, event_message
ended = threading.Event()
def events(request):
    yield event_message(1)
    ended.wait(60)
double = ServerDouble(sys.argv[1], script={"RunService.WatchRuns": [events]})
double.on_end = ended.set
feed = client.watch("r1")
print(next(feed).sequence)
double.stop()
try:
    client.get_run("r1")
except OrchdError as fault:
    print(type(fault).__name__)
sys.stdout.flush()
os._exit(0)
"""


class SilenceTest(ClientCase):
    def ends(self, **environment):
        path = os.pathsep.join(p for p in sys.path if p)
        done = subprocess.run([sys.executable, "-c", ENDS, str(self.folder / "data")], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "PYTHONPATH": path, **environment})  # fmt: skip
        return done.stdout.split(), done.stderr

    def test_a_daemon_that_ends_is_no_line_of_the_core(self):
        self.assertEqual(self.ends(), (["None", "1", "Unreachable"], ""))

    def test_who_wants_its_log_has_it(self):
        words, said = self.ends(GRPC_VERBOSITY="INFO")
        self.assertEqual(words, ["INFO", "1", "Unreachable"])
        import grpc

        if tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 70):
            self.assertIn("log.cc", said)  # its first line, of the level itself

    def test_loops_of_several_threads_say_nothing(self):
        self.serve({"RunService.GetRun": [run_message()]})

        async def calls():
            async with AsyncClient() as client:
                for _ in range(20):
                    await asyncio.gather(*(client.get_run("r1") for _ in range(10)))

        with self.assertNoLogs("asyncio") if hasattr(self, "assertNoLogs") else self.subTest():
            threads = [threading.Thread(target=asyncio.run, args=(calls(),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def test_only_that_line_is_left_out(self):
        _grpc.aio()
        _grpc.aio()
        self.assertEqual(logging.getLogger("asyncio").filters.count(_grpc._is_news), 1)

        def logged(callback, kind):
            try:
                raise kind
            except OSError:
                logging.getLogger("asyncio").error("Exception in callback %s(...)", callback, exc_info=True)

        poller = "PollerCompletionQueue._handle_events"
        with self.assertLogs("asyncio") as seen:
            logged(poller, BlockingIOError)
            logged(poller, ConnectionError)
            logged("mine", BlockingIOError)
            logging.getLogger("asyncio").error("Exception in callback %s(", poller)
        self.assertEqual([record.exc_info and record.exc_info[0] for record in seen.records], [ConnectionError, BlockingIOError, None])


if __name__ == "__main__":
    unittest.main()

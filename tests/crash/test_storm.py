"""The daemon, its supervisor or both are killed at random instants while mixed pipelines run; the oracle judges.

ORCH_TEST_KILLS kills (or ORCH_TEST_MINUTES minutes) from ORCH_TEST_SEED. A seed repeats the kills and the pipelines, not
the interleaving: the instants are wall time.
"""
import contextlib
import os
import random
import signal
import statistics
import time
import unittest

from tests.lib import dags
from tests.lib.daemon import Daemon
from tests.lib.oracle import Oracle, Traffic

KILLS = int(os.environ.get("ORCH_TEST_KILLS", "40"))
MINUTES = float(os.environ.get("ORCH_TEST_MINUTES", "0"))
SEED = int(os.environ.get("ORCH_TEST_SEED", str(random.randrange(1 << 30))))
CONFIG = "grace: 400ms\n"
# Now and then the next daemon stalls where the races are.
STALLS = ["commit.after", "outbox.next", "outbox.prepared", "local.spawn_sent", "start.before_adopt", "store.named",
          "outbox.before_release", "start.adopted"]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def end(supervisor: int) -> None:
    """0: there is none."""
    with contextlib.suppress(ProcessLookupError):
        if supervisor:
            os.kill(supervisor, signal.SIGKILL)


class Storm(unittest.TestCase):
    def test_kills_at_random_instants(self) -> None:
        print(f"\nseed {SEED}", flush=True)
        rng = random.Random(SEED)
        recoveries: list[float] = []
        kills = {"daemon": 0, "supervisor": 0, "both": 0}
        began = time.monotonic()
        until = began + MINUTES * 60 if MINUTES else float("inf")
        most = KILLS if not MINUTES else 1 << 30
        with Daemon(CONFIG) as daemon:
            oracle = Oracle(daemon, random.Random(SEED + 1))
            traffic = Traffic(oracle, dags.KINDS, open_runs=6)
            traffic.start()
            traffic.on.set()
            try:
                while sum(kills.values()) < most and time.monotonic() < until:
                    time.sleep(10 ** rng.uniform(-3, 0.7))  # the random instant is the test
                    mode = rng.choices(["daemon", "supervisor", "both"], [70, 15, 15])[0]
                    kills[mode] += 1
                    supervisor = daemon.supervisor_pid() if mode != "daemon" else 0
                    if mode != "daemon":
                        oracle.supervisors_killed += 1
                    if mode == "supervisor":
                        end(supervisor)
                        continue
                    oracle.serving.clear()
                    daemon.kill(signal.SIGKILL)
                    end(supervisor)
                    stall = rng.random() < 0.2
                    daemon.faults = f"{rng.choice(STALLS)}:{rng.randint(1, 3)}=stall:{rng.randint(1, 300)}" if stall else ""
                    begin = time.monotonic()
                    daemon.start()
                    if not stall:
                        recoveries.append((time.monotonic() - begin) * 1000)
                    oracle.serving.set()
                    if rng.random() < 0.3:
                        oracle.look()
                    if sum(kills.values()) % 25 == 0:
                        oracle.settle(traffic)
                        traffic.on.set()
                oracle.settle(traffic)
            except BaseException:
                print(f"seed {SEED}, after {kills}\n{daemon.log()[-2000:]}", flush=True)
                raise
            finally:
                oracle.ended = True
            totals = oracle.totals
            print(f"{sum(kills.values())} kills ({', '.join(f'{n} {k}' for k, n in kills.items())}) over {totals.runs} runs, "
                  f"{totals.steps} steps, {totals.attempts} attempts ({totals.lost} lost with a supervisor), "
                  f"{totals.events} events watched over {oracle.watch.resumed} streams, {totals.repeats} repeats\n"
                  f"recovery to serving in ms: p50 {statistics.median(recoveries):.0f}, p99 {percentile(recoveries, 0.99):.0f}, "
                  f"max {max(recoveries):.0f}; {time.monotonic() - began:.0f} s, seed {SEED}", flush=True)


if __name__ == "__main__":
    unittest.main()

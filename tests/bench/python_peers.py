"""A chain and a wide run of N steps on a library that keeps the state of steps: prints the seconds it took.

    PYTHON tests/bench/python_peers.py dbos|luigi chain|wide N FOLDER

Run by a Python that has the library (`ORCH_BENCH_PYTHON`, or the one that runs the benchmark). DBOS: a Python function a step in
its own process, on SQLite, durable. Luigi: /bin/true a step, forked by two workers; finished is what has its output file.
"""
from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable


def dbos(folder: Path) -> dict[str, Callable[[int], Any]]:
    from dbos import DBOS

    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/sys.sqlite", "application_version": "1",
                 "run_admin_server": False, "log_level": "CRITICAL"})

    @DBOS.step()
    def add(x: int) -> int:
        return x + 1

    @DBOS.workflow()
    def chain(n: int) -> int:
        x = 0
        for _ in range(n):
            x = add(x)
        return x

    @DBOS.workflow()
    def one(x: int) -> int:
        return int(add(x))

    @DBOS.workflow()
    def wide(n: int) -> int:
        return len([handle.get_result() for handle in [DBOS.enqueue_workflow("q", one, i) for i in range(n)]])

    DBOS.launch()
    DBOS.register_queue("q", worker_concurrency=50)
    chain(3)
    return {"chain": chain, "wide": wide}


def luigi(folder: Path) -> dict[str, Callable[[int], Any]]:
    import luigi as library
    from luigi.contrib.external_program import ExternalProgramTask

    logging.disable(logging.CRITICAL)

    class Step(ExternalProgramTask):  # type: ignore[misc]
        number = library.IntParameter()
        chained = library.BoolParameter()
        capture_output = False

        def program_args(self) -> list[str]:
            return ["/bin/true"]

        def requires(self) -> list["Step"]:
            return [Step(number=self.number - 1, chained=True)] if self.chained and self.number else []

        def output(self) -> Any:
            return library.LocalTarget(str(folder / f"{self.chained}-{self.number}"))

        def run(self) -> None:
            super().run()
            Path(self.output().path).touch()

    def run(tasks: list[Step]) -> None:
        if not library.build(tasks, workers=2, local_scheduler=True, log_level="CRITICAL"):
            raise SystemExit("luigi: a step failed")

    return {"chain": lambda n: run([Step(number=n - 1, chained=True)]),
            "wide": lambda n: run([Step(number=i, chained=False) for i in range(n)])}


def main() -> None:
    name, workload, n, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    run = {"dbos": dbos, "luigi": luigi}[name](folder)[workload]
    begin = time.perf_counter()
    run(n)
    print(time.perf_counter() - begin, flush=True)
    os._exit(0)  # their threads may take seconds to end


if __name__ == "__main__":
    main()

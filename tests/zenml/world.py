"""A world for tests of the flavor: ZenML's configuration in a temporary folder, its SQLite store, a daemon, the stack."""
import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
_FOLDER = tempfile.TemporaryDirectory(prefix="orchd-zenml-")
FOLDER = pathlib.Path(_FOLDER.name)
# Before ZenML is imported.
os.environ.update(
    ZENML_CONFIG_PATH=str(FOLDER / "config"), ZENML_ANALYTICS_OPT_IN="false", ZENML_LOGGING_COLORS_DISABLED="true",
    ORCH_DATA_DIR=str(FOLDER / "data"), NO_COLOR="1", PYTHONPATH=str(HERE.parents[1] / "client/python/src"),
)  # fmt: skip
for name in ("ORCH_SERVER", "ORCH_TOKEN"):
    os.environ.pop(name, None)
(FOLDER / "config").mkdir()

from orchd.testing import Daemon  # noqa: E402


PIPELINES = HERE / "pipelines"
FLAGS = {}  # of the daemon, as its client's `testing` has them


@functools.lru_cache(maxsize=None)
def daemon():
    """One for all tests of this process, with the stack `orchd`."""
    made = Daemon(flags=FLAGS)
    atexit.register(_FOLDER.cleanup)
    atexit.register(made.close)
    os.environ["ORCH_DATA_DIR"] = made.data_dir
    python("-m", "orchd.zenml", "setup")
    return made


def check_sums(case, run):
    """That it is of pipelines/first.py, has gone well, and that orchd tells the same of it; what orchd does."""
    case.assertEqual(run.steps["load"].outputs["output"][0].load(), [1, 2, 3])
    case.assertEqual(run.steps["total"].outputs["output"][0].load(), 12.0)
    client = daemon().client
    known = client.get_run(run.orchestrator_run_id)
    case.assertEqual((known.name, known.state), (run.name, "SUCCEEDED"))
    case.assertEqual(run.run_metadata["orchestrator_url"], str(known.run_metadata["orchestrator_url"]))
    case.assertIn("loading", client.log_text(known.name, "load"))
    version = run.steps["load"].outputs["output"][0]
    kept = json.loads(b"".join(client._pieces_of(client.get_step(known.name, "load").outputs["output"])))
    case.assertEqual((kept["id"], kept["uri"]), (str(version.id), version.uri))


def python(*words, check=True, timeout=1200, **more):
    done = subprocess.run([sys.executable, *map(str, words)], text=True, capture_output=True, timeout=timeout, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{words}: {done.stdout[-3000:]}\n{done.stderr[-6000:]}")
    return done

"""`client.py NAME`: sets the stack up, plays one of these, and says what became of it."""
import json
import os
import sys
import time

import steps
from zenml.client import Client
from zenml.utils import source_utils
from zenml.utils.run_utils import stop_run

from orchd.zenml.__main__ import main as orchd_zenml

more = ["--orchestrator", os.environ["ON"]] if "ON" in os.environ else []
assert orchd_zenml(["setup", *more]) == 0
source_utils.set_custom_source_root(os.path.dirname(os.path.abspath(__file__)))


def stopped():
    made = steps.waits.with_options(settings={"orchestrator": {"synchronous": False}})(os.environ["MARK"])
    while not os.path.exists(os.environ["MARK"]):
        time.sleep(0.05)
    stop_run(Client().get_pipeline_run(made.id), graceful=True)
    return made


made = {
    "stopped": stopped,
    "refused": lambda: steps.identity.with_options(settings={"orchestrator": {"orchestrator": "nowhere"}})(),
    "tokens": lambda: steps.tokens(os.environ["MARK"]),
    "waits": lambda: steps.waits(os.environ["MARK"], os.environ["UNTIL"]),
}[sys.argv[1]]()
run = Client().get_pipeline_run(made.id)
print(json.dumps({
    "name": run.name, "status": run.status.value, "id": run.orchestrator_run_id,
    "steps": {name: step.status.value for name, step in run.steps.items()},
    "outputs": {name: step.outputs["output"][0].load() for name, step in run.steps.items() if step.outputs},
}))  # fmt: skip

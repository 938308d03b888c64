"""`play.py NAME…`: the files of this folder in one process, on the active stack; a JSON line for each with its time."""
import contextlib
import importlib
import json
import sys
import time
import traceback

from zenml.client import Client

for name in sys.argv[1:]:
    module = importlib.import_module(name)
    before = {run.id for run in Client().list_pipeline_runs(size=500).items}
    began = time.monotonic()
    fault = ""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module.main()
    except BaseException:
        fault = traceback.format_exc()
    seconds = time.monotonic() - began
    runs = [str(run.id) for run in Client().list_pipeline_runs(size=500, sort_by="asc:created").items if run.id not in before]
    print(json.dumps({"name": name, "seconds": seconds, "fault": fault, "runs": runs}), flush=True)

"""What a job wrote: two files on the shared folder, read from an offset."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Iterator

from orch.backend.v1 import plugin_pb2 as pb

PIECE = 256 << 10


def read(folder: Path, out: int, err: int, wait: float, ended: Callable[[], bool], alive: Callable[[], bool]) -> Iterator[pb.LogsResponse]:
    offsets = {"out": out, "err": err}
    streams = {"out": pb.LogsResponse.STDOUT, "err": pb.LogsResponse.STDERR}
    idle_since = time.monotonic()
    while alive():
        over = ended()  # before the reading: what is written later is read next time
        moved = False
        for name, stream in streams.items():
            try:
                with (folder / name).open("rb") as file:
                    file.seek(offsets[name])
                    while piece := file.read(PIECE):
                        yield pb.LogsResponse(stream=stream, offset=offsets[name], data=piece)
                        offsets[name] += len(piece)
                        moved = True
            except FileNotFoundError:
                pass
        if over:
            yield pb.LogsResponse(complete=True)
            return
        if moved:
            idle_since = time.monotonic()
        elif time.monotonic() - idle_since >= wait:
            return
        time.sleep(0.1)

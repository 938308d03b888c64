"""The clients: `Client` blocks; of `AsyncClient` the same calls are coroutines, its streams asynchronous iterators.

Each call is written once, in `_reading` and `_changing`.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, TypeVar

from ._blocking import blocking, one_by_one, run_now
from ._calls import AsyncConnection, BlockingConnection
from ._changing import Changing
from ._discover import Endpoint

_Client = TypeVar("_Client", bound="Client")
_AsyncClient = TypeVar("_AsyncClient", bound="AsyncClient")


class Client:
    """Talks to orchd. One object serves any number of threads.

    Without arguments it finds the daemon and the token by itself: ORCH_SERVER and ORCH_TOKEN, else the data directory
    (ORCH_DATA_DIR, else ~/.local/share/orchd). A daemon on another machine is `https://HOST:PORT`, whose certificate an
    authority in the file `ca` (else ORCH_CA, else the system's) has signed. `submit` starts a daemon for this user if
    none runs, unless `start` is false or a server was named. `timeout` limits one call, in seconds; `patience` is for
    how long a call is tried again while the daemon is away, which never does a thing twice. Nothing is opened before
    the first call.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        start: bool = True,
        *,
        project: str = "",
        timeout: float = 30.0,
        patience: float = 15.0,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        self._calls = Changing(BlockingConnection, server, token, data_dir, start, project, timeout, patience, ca)

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Its calls that are under way end with an error."""
        run_now(self._calls._connection.close())

    # Reading

    get_run = blocking(Changing.get_run)
    get_pipeline_run = blocking(Changing.get_pipeline_run)
    list_runs = blocking(Changing.list_runs)
    list_steps = blocking(Changing.list_steps)
    get_step = blocking(Changing.get_step)
    list_events = blocking(Changing.list_events)
    why = blocking(Changing.why)
    diff_runs = blocking(Changing.diff_runs)
    logs = one_by_one(Changing.logs)
    log_text = blocking(Changing.log_text)
    search_logs = one_by_one(Changing.search_logs)
    get_artifact = blocking(Changing.get_artifact)
    list_artifacts = blocking(Changing.list_artifacts)
    read_artifact = blocking(Changing.read_artifact)
    _pieces_of = one_by_one(Changing._pieces_of)
    lineage = blocking(Changing.lineage)
    server_info = blocking(Changing.server_info)

    # Changing, and waiting

    submit = blocking(Changing.submit)
    _ensure_daemon = blocking(Changing._ensure_daemon)
    validate = blocking(Changing.validate)
    plan = blocking(Changing.plan)
    cancel_run = blocking(Changing.cancel_run)
    pause_run = blocking(Changing.pause_run)
    resume_run = blocking(Changing.resume_run)
    skip_step = blocking(Changing.skip_step)
    retry_run = blocking(Changing.retry_run)
    delete_run = blocking(Changing.delete_run)
    wait = blocking(Changing.wait)
    watch = one_by_one(Changing.watch)
    set_secret = blocking(Changing.set_secret)
    list_secrets = blocking(Changing.list_secrets)
    delete_secret = blocking(Changing.delete_secret)
    sign_in_link = blocking(Changing.sign_in_link)

    # For this package

    def _request(self, kind: str, /, **fields: Any) -> Any:
        return self._calls._request(kind, **fields)

    def _call(self, name: str, request: Any) -> Any:
        return run_now(self._calls._connection.unary(name, request))

    def _endpoint(self) -> Endpoint:
        return self._calls._connection.open()[1]


class AsyncClient(Changing):
    """Talks to orchd from an event loop: the calls of `Client`, with the same arguments, answers and errors.

        async with AsyncClient() as client:
            run = await client.submit("pipeline.yaml")
            async for event in client.watch(run):
                print(event.step, event.state)

    Used in another loop it connects again.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        start: bool = True,
        *,
        project: str = "",
        timeout: float = 30.0,
        patience: float = 15.0,
        ca: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(AsyncConnection, server, token, data_dir, start, project, timeout, patience, ca)

    async def __aenter__(self: _AsyncClient) -> _AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Its calls that are under way end with an error."""
        await self._connection.close()


__all__ = ["AsyncClient", "Client"]

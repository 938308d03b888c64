"""Fixtures for pytest, there as soon as this package is installed (else `pytest_plugins = ["orchd.pytest_plugin"]`).

`orchd_daemon`  a throw-away daemon for the whole session; pipelines and clients of the tests that ask for it use it.
`orchd_client`  a client of it.

Nothing is imported or started for tests that do not ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .client import Client
    from .testing import Daemon

_VARIABLES = ("ORCH_SERVER", "ORCH_TOKEN", "ORCH_TOKEN_FILE", "ORCH_CA")


@pytest.fixture(scope="session")
def _orchd_session_daemon() -> Iterator[Daemon]:
    from .testing import Daemon

    with Daemon() as daemon:
        yield daemon


@pytest.fixture
def orchd_daemon(_orchd_session_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A throw-away daemon, which the test's pipelines and clients find by themselves."""
    from .runs import default_client

    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCH_DATA_DIR", _orchd_session_daemon.data_dir)
    default_client.cache_clear()
    yield _orchd_session_daemon
    default_client().close()
    default_client.cache_clear()


@pytest.fixture
def orchd_client(orchd_daemon: Daemon) -> Client:
    """A client of the throw-away daemon."""
    return orchd_daemon.client

"""What a step may ask the daemon for with its own token: how its run is. Without gRPC, which an image need not have."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from urllib.parse import urlsplit

_SECONDS = 30


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("orchd", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection() -> http.client.HTTPConnection:
    endpoint = os.environ["ORCH_ENDPOINT"]
    if endpoint.startswith("unix:"):
        return _Unix(endpoint[len("unix:") :])
    place = urlsplit(endpoint)
    host, port = place.hostname or "", place.port
    if place.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=_SECONDS)
    trusted = ssl.create_default_context(cafile=os.environ.get("ORCH_CA"), cadata=os.environ.get("ORCH_CA_PEM"))
    return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=trusted)


def state() -> str:
    """As RUNNING or CANCELLING. Raises OSError, HTTPException, KeyError, ValueError."""
    connection = _connection()
    try:
        headers = {"Authorization": f"Bearer {os.environ['ORCH_TOKEN']}", "Content-Type": "application/json"}
        body = json.dumps({"name": os.environ["ORCH_RUN_ID"]})
        connection.request("POST", "/orch.v1.RunService/GetRun", body, headers)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return str(answer["state"]).rpartition("_")[2] if "STATE_" in str(answer["state"]) else str(answer["state"])

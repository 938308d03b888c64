"""What every plug-in in Python needs beside the generated stubs: the socket, the token, the first line, the end.

    class MyPlugin(plugin_pb2_grpc.BackendPluginServicer): ...
    orch_plugin.serve(MyPlugin(orch_plugin.state_dir()))            # one that the daemon starts
    orch_plugin.serve_at("0.0.0.0:7443", MyPlugin(Path("state")),   # one that runs by itself, elsewhere
                         key=Path("plugin.key"), certificate=Path("plugin.pem"), client_ca=Path("ca.pem"))
"""
import hmac
import json
import os
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any, Callable

import grpc

from orch.backend.v1 import plugin_pb2_grpc

PROTOCOL = 1


def state_dir() -> Path:
    """A folder of this plug-in's own that survives it."""
    return Path(os.environ["ORCH_PLUGIN_STATE"])


class _Token(grpc.ServerInterceptor):
    """Only the daemon that started us has the token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def intercept_service(self, continuation: Callable[[Any], Any], call: Any) -> Any:
        given = dict(call.invocation_metadata).get("orch-token", "")
        if hmac.compare_digest(str(given).encode(), self.token.encode()):
            return continuation(call)
        handler = continuation(call)

        def refuse(_: Any, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this is not the daemon that started me")

        if handler is not None and handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)


def _server(plugin: plugin_pb2_grpc.BackendPluginServicer, threads: int, *interceptors: grpc.ServerInterceptor) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(threads), interceptors=interceptors,
                         options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    plugin_pb2_grpc.add_BackendPluginServicer_to_server(plugin, server)
    return server


def serve(plugin: plugin_pb2_grpc.BackendPluginServicer, threads: int = 32) -> None:
    """Serves the daemon that started this program until it is gone. Jobs go on."""
    server = _server(plugin, threads, _Token(os.environ["ORCH_PLUGIN_TOKEN"]))
    server.add_insecure_port("unix:" + os.environ["ORCH_PLUGIN_SOCKET"])
    server.start()
    print(json.dumps({"protocol": PROTOCOL}), flush=True)
    sys.stdin.buffer.read()
    server.stop(None)
    os._exit(0)  # threads that wait for a hanging platform do not keep us


def serve_at(address: str, plugin: plugin_pb2_grpc.BackendPluginServicer, *, key: Path, certificate: Path, client_ca: Path,
             threads: int = 32) -> None:
    """Serves daemons that have a certificate of `client_ca`, over TLS at `address` (`HOST:PORT`; port 0: any free one), until
    SIGTERM or SIGINT. Jobs go on. The first line on stdout names the port.

    The three PEM files are read again for each new connection once one of them has changed, so that certificates can be renewed;
    while they cannot be used, the old ones stay. Call it from the main thread. OSError: a file cannot be read, or the address
    cannot be listened on.
    """
    files = (key, certificate, client_ca)

    def read() -> tuple[Any, list[bytes]]:
        contents = [file.read_bytes() for file in files]
        return grpc.ssl_server_certificate_configuration([(contents[0], contents[1])], contents[2]), contents

    first, known = read()

    def changed() -> Any:
        nonlocal known
        try:
            newer, contents = read()
        except OSError:  # in the middle of being replaced
            return None
        if contents == known:
            return None
        known = contents
        return newer

    server = _server(plugin, threads)
    try:
        port = server.add_secure_port(address, grpc.dynamic_ssl_server_credentials(first, changed, True))
    except RuntimeError:  # newer versions of grpc
        port = 0
    if port == 0:
        raise OSError(f"cannot listen on {address}, or {key} and {certificate} are no pair")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    print(json.dumps({"protocol": PROTOCOL, "port": port}), flush=True)
    stop.wait()
    server.stop(None)
    os._exit(0)

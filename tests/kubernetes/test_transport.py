"""The client's transport against a server that only answers what it was asked: a double of an API server, over real TLS."""
import http.server
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

import yaml

from tests.lib.daemon import BIN, ROOT

CERTIFICATES = ROOT / "tests/platforms/kubernetes/certificates"


class Double(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def chunk(self, text: bytes) -> None:
        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")
        self.wfile.flush()

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path.endswith("/busy"):
            return self.answer(429, b"Too many requests\n", Retry_After="3", Warning='299 - "old"')
        if self.path.endswith("/cut"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        if self.path.endswith(("/hang", "/stream")):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.path.endswith("/hang"):
                self.chunk(b"begun\n")
                self.server.over.wait()  # type: ignore[attr-defined]
                return None
            for piece in (b"on", b"e\ntwo\n", b"three\n", b""):
                self.chunk(piece)
            return None
        peer = {}
        if isinstance(self.connection, ssl.SSLSocket):
            names = dict(part[0] for part in (self.connection.getpeercert() or {}).get("subject", ()))
            peer = {"peer": names.get("commonName"), "sni": getattr(self.connection, "asked_for", None)}
        said = {"method": self.command, "path": self.path, "authorization": self.headers.get("Authorization"), "body": body,
                "type": self.headers.get("Content-Type"), "group": self.headers.get_all("Impersonate-Group"), **peer}
        self.answer(200, json.dumps(said).encode())
        return None

    do_POST = do_PATCH = do_DELETE = do_GET


class Transport(unittest.TestCase):
    def serve(self, context: ssl.SSLContext | None) -> int:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Double)
        server.daemon_threads = True
        server.over = threading.Event()  # type: ignore[attr-defined]
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.addCleanup(server.over.set)  # type: ignore[attr-defined]
        return int(server.server_address[1])

    def test_all_that_the_client_needs_of_it(self) -> None:
        with tempfile.TemporaryDirectory(prefix="orchd-transport-") as name:
            folder = Path(name)
            (folder / "ours").mkdir()
            (folder / "strangers").mkdir()
            for of in ("ours", "strangers"):
                subprocess.run([CERTIFICATES, folder / of, "127.0.0.2", "10.96.0.1"], check=True, timeout=120)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "ours/apiserver.crt", folder / "ours/apiserver.key")
            context.load_verify_locations(folder / "ours/ca.crt")
            context.verify_mode = ssl.CERT_OPTIONAL
            context.sni_callback = lambda connection, server, _: setattr(connection, "asked_for", server)
            secure, plain = self.serve(context), self.serve(None)
            with socket.socket() as taken:  # nobody listens there
                taken.bind(("127.0.0.1", 0))
                nobody = taken.getsockname()[1]
                here, ours = f"https://127.0.0.1:{secure}", "ours/ca.crt"
                clusters: dict[str, dict[str, Any]] = {
                    "good": {"server": f"{here}/prefix", "certificate-authority": ours},
                    "named": {"server": here, "certificate-authority": ours, "tls-server-name": "kubernetes"},
                    "misnamed": {"server": here, "certificate-authority": ours, "tls-server-name": "other"},
                    "stranger": {"server": here, "certificate-authority": "strangers/ca.crt"},
                    "insecure": {"server": here, "insecure-skip-tls-verify": True},
                    "proxied": {"server": "http://api.invalid:8080", "proxy-url": f"http://127.0.0.1:{plain}"},
                    "nobody": {"server": f"http://127.0.0.1:{nobody}"},
                }
                user = {"client-certificate": "ours/admin.crt", "client-key": "ours/admin.key", "token": "t", "as": "x", "as-groups": ["a", "b"]}
                file = folder / "kubeconfig"
                file.write_text(yaml.safe_dump({
                    "clusters": [{"name": name, "cluster": cluster} for name, cluster in clusters.items()], "users": [{"name": "u", "user": user}],
                    "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in clusters]}))
                environment = {**{k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}, "ORCH_TEST_TRANSPORT_KUBECONFIG": str(file)}
                done = subprocess.run([BIN / "kubernetes_test", "--gtest_filter=TransportTest.*"], env=environment, capture_output=True, text=True, timeout=900)
            self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-1000:])
            self.assertNotIn("SKIPPED", done.stdout)


if __name__ == "__main__":
    unittest.main()

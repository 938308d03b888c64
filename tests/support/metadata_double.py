"""A double of the services by which a platform gives credentials: a container's, and a machine's (IMDSv2). Not the real thing.

What the real ones refuse it refuses too: a container's address without its token (401), a machine's without a session or with one of
another machine (401), a session asked for without its life or through a proxy (400, 403).
"""
from __future__ import annotations

import http.server
import json
import secrets
import threading
import time


class MetadataDouble:
    def __init__(self, access: str, secret: str, token: str = "the-token", lasts: int = 3600) -> None:
        self.keys, self.token, self.lasts = (access, secret), token, lasts
        self.calls: list[str] = []
        self.sessions: set[str] = set()
        self.role = "orchd"
        self.until = ""  # the end of what it grants; empty: as it lasts
        double = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status: int, body: str = "") -> None:
                double.calls.append(f"{self.command} {self.path} {status}")
                data = body.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_PUT(self) -> None:
                if self.path != "/latest/api/token":
                    return self.answer(404)
                if not 1 <= int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0")) <= 21600:
                    return self.answer(400)
                if self.headers.get("X-Forwarded-For"):
                    return self.answer(403)
                session = secrets.token_urlsafe(20)
                double.sessions.add(session)
                self.answer(200, session)

            def do_GET(self) -> None:
                if self.path == "/container":
                    return self.answer(200, double.grant()) if self.headers.get("Authorization") == double.token else self.answer(401)
                if self.headers.get("X-aws-ec2-metadata-token") not in double.sessions:
                    return self.answer(401)
                roles = "/latest/meta-data/iam/security-credentials/"
                if self.path == roles and double.role:
                    return self.answer(200, double.role)
                if double.role and self.path == roles + double.role:
                    return self.answer(200, double.grant())
                self.answer(404)

            def log_message(self, *_: object) -> None:
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def grant(self) -> str:
        until = self.until or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.lasts))
        return json.dumps({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.keys[0], "SecretAccessKey": self.keys[1],
                           "Expiration": until, "LastUpdated": "2026-01-01T00:00:00Z"})

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

"""Where the daemon is and what proves that we may talk to it.

The address: what is given, else ORCH_SERVER, else `server.json` in the data directory (its Unix socket first).
The token: what is given, else ORCH_TOKEN, else the file ORCH_TOKEN_FILE, else the file `token` in the data directory,
which is never sent to another machine.
Who signs the daemon's certificate: what is given, else ORCH_CA, else the system's authorities.
The data directory: what is given, else ORCH_DATA_DIR, else $XDG_DATA_HOME/orchd, else ~/.local/share/orchd.
"""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from dataclasses import dataclass, field

from .errors import OrchdError, Refused, Unreachable

_LONGEST_SOCKET = 107
_TLS = "https://"
_HOST = re.compile(r"[A-Za-z0-9._\[\]:%-]+")


@dataclass(frozen=True)
class Endpoint:
    address: str  # `127.0.0.1:7117`, `unix:/path`, or with TLS `https://host:7433`
    token: str = field(repr=False, default="")
    pid: int = 0  # 0: the address was given
    ca: str = field(repr=False, default="")  # certificates in PEM form; empty: the system's

    @property
    def tls(self) -> bool:
        return self.address.startswith(_TLS)


def find_data_dir(given: str | None) -> str:
    if given:
        return os.path.abspath(os.path.expanduser(given))
    if os.environ.get("ORCH_DATA_DIR"):
        return os.environ["ORCH_DATA_DIR"]
    if os.environ.get("XDG_DATA_HOME"):
        return os.path.join(os.environ["XDG_DATA_HOME"], "orchd")
    home = os.path.expanduser("~")
    if home == "~":
        raise Refused("DATA_DIR_UNKNOWN", "there is no home folder: set ORCH_DATA_DIR or ORCH_SERVER")
    return os.path.join(home, ".local", "share", "orchd")


def data_dir_around(folder: str) -> str:
    """The data directory of the daemon whose step or hook has this folder of its own; empty if there is none."""
    while folder not in ("", "/"):
        if os.path.exists(os.path.join(folder, "server.json")):
            return folder
        folder = os.path.dirname(folder)
    return ""


def given_server(server: str | None) -> str:
    return server or os.environ.get("ORCH_SERVER", "")


def normal_address(address: str) -> str:
    def refuse(why: str) -> OrchdError:
        return Refused(
            "SERVER_ADDRESS_INVALID",
            f"the server address `{address}` {why}: give https://HOST:PORT, 127.0.0.1:PORT or unix:PATH",
        )

    if address.startswith("/"):
        address = "unix:" + address
    if address.startswith("unix:"):
        path = address[len("unix:") :]
        path = path[2:] if path.startswith("//") else path
        if not path:
            raise refuse("has no path")
        if len(os.fsencode(path)) > _LONGEST_SOCKET:
            raise refuse(f"is longer than the {_LONGEST_SOCKET} bytes a socket may have")
        return "unix:" + path
    if address.startswith("http://"):
        raise refuse("is a web address without TLS, not the gRPC one")
    tls = address.startswith(_TLS)
    plain = address[len(_TLS) :].removesuffix("/") if tls else address
    if "/" in plain:
        raise refuse("has a path")
    host, colon, port = plain.rpartition(":")
    if not colon:
        raise refuse("has no port")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise refuse("has a bad port")
    if not _HOST.fullmatch(host):
        raise refuse("has no host")
    if not tls and not _is_loopback(host):
        raise refuse("is not on this machine, which needs TLS")
    return _TLS + plain if tls else plain


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def find_ca(given: str | None) -> str:
    origin = given or os.environ.get("ORCH_CA", "")
    if not origin:
        return ""
    try:
        with open(origin, encoding="ascii", errors="replace") as file:
            text = file.read(4 << 20)
    except OSError as fault:
        raise Refused("CA_UNREADABLE", f"cannot use the CA file {origin}: {fault.strerror}") from None
    if "-----BEGIN " not in text:
        raise Refused("CA_UNREADABLE", f"cannot use the CA file {origin}: it holds no certificates in PEM form")
    return text


def find_token(given: str | None, data_dir: str) -> str:
    token, origin = given or os.environ.get("ORCH_TOKEN", ""), "ORCH_TOKEN"
    if given:
        origin = "the argument"
    file_name = os.environ.get("ORCH_TOKEN_FILE", "")
    if not token and file_name:
        origin = file_name
        try:
            with open(origin, encoding="ascii", errors="replace") as file:
                token = file.read(65536).strip()
        except OSError as fault:
            raise Refused("TOKEN_UNREADABLE", f"cannot read the token file {origin}: {fault.strerror}") from None
    if not token and data_dir:
        origin = os.path.join(data_dir, "token")
        try:
            with open(origin, encoding="ascii", errors="replace") as file:
                token = file.read(65536).strip()
        except OSError:
            return ""  # the Unix socket may do without; the server says if not
    if not all("!" <= char <= "~" for char in token):
        raise Refused("TOKEN_UNREADABLE", f"the token from {origin} has spaces or control characters: copy it again")
    return token


def answers(path: str) -> bool:
    """The pid in server.json may be another process by now: only a listener proves that a daemon is there."""
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) in (0, errno.EAGAIN, errno.EINPROGRESS)


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _not_running(data_dir: str, why: str) -> Unreachable:
    return Unreachable(
        "DAEMON_NOT_RUNNING",
        f"no daemon is running on {data_dir} ({why}): start one with `orchd --data-dir {data_dir}`, "
        "or name one with ORCH_SERVER",
    )


def _find_in(data_dir: str) -> tuple[str, int]:
    path = os.path.join(data_dir, "server.json")
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except PermissionError:
        raise Unreachable(
            "DATA_DIR_FORBIDDEN",
            f"cannot read {path}: the data directory is another user's; name your own with ORCH_DATA_DIR",
        ) from None
    except OSError:
        raise _not_running(data_dir, "it has no server.json") from None
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise _not_running(data_dir, "its server.json is no JSON object")
    pid = known.get("pid")
    pid = pid if isinstance(pid, int) and pid > 0 else 0
    if pid and _gone(pid):
        raise _not_running(data_dir, f"process {pid} of its server.json is gone")
    unix, tcp = known.get("grpc_unix") or "", known.get("grpc") or ""
    if unix and answers(unix):
        return f"unix:{unix}", pid
    if unix and os.path.exists(unix):
        raise _not_running(data_dir, "nobody listens on its socket")
    if unix or not tcp:
        raise _not_running(data_dir, "its socket is gone")
    return normal_address(_TLS + tcp if known.get("tls") is True else tcp), pid


def discover(
    server: str | None = None, token: str | None = None, data_dir: str | None = None, ca: str | None = None
) -> Endpoint:
    """Finds the daemon without talking to it, but for one connect() to its Unix socket. Raises Unreachable, Refused."""
    address, pid = given_server(server), 0
    if address:
        address = normal_address(address)
        try:
            folder = find_data_dir(data_dir)
        except Refused:
            folder = ""
    else:
        folder = find_data_dir(data_dir)
        address, pid = _find_in(folder)
    tls = address.startswith(_TLS)
    # The data directory's token opens the daemon on this machine: no other machine is to see it.
    here = not tls or _is_loopback(address[len(_TLS) :].rpartition(":")[0])
    return Endpoint(address, find_token(token, folder if here else ""), pid, find_ca(ca) if tls else "")

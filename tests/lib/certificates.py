"""Certificates for tests, made by `openssl`: an authority, and what it signs."""
from __future__ import annotations

import subprocess
from pathlib import Path

NAMES = "DNS:localhost,IP:127.0.0.1"


def openssl(*args: object, stdin: str | None = None) -> str:
    done = subprocess.run(["openssl", *map(str, args)], input=stdin, text=True, capture_output=True, timeout=120)
    if done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(map(str, args))}: {done.stderr}")
    return done.stdout


class Authority:
    """`Authority(folder).sign("name")` leaves folder/name.pem and folder/name.key; its own certificate is folder/ca.pem."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out",
                self.certificate, "-days", "30", "-subj", f"/CN={name} of the tests")

    def sign(self, name: str, names: str = NAMES, first: str = "", last: str = "") -> tuple[Path, Path]:
        """The certificate (with that of the authority behind it) and its key. `first`, `last`: `20200101000000Z`."""
        certificate, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request,
                "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}")
        key.chmod(0o600)
        if first or last:
            # Only `openssl ca` takes dates.
            settings = self.folder / "ca.conf"
            (self.folder / "index.txt").write_text("")
            settings.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nnew_certs_dir={self.folder}\n"
                                "rand_serial=yes\ndefault_md=sha256\npolicy=p\ncopy_extensions=copy\n[p]\ncommonName=supplied\n")
            openssl("ca", "-batch", "-notext", "-config", settings, "-in", request, "-out", certificate, "-cert",
                    self.certificate, "-keyfile", self.key, "-startdate", first or "20200101000000Z",
                    "-enddate", last or "20400101000000Z")
        else:
            openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-out",
                    certificate, "-days", "30", "-copy_extensions", "copy")
        certificate.write_text(certificate.read_text() + self.certificate.read_text())
        return certificate, key


def flags(pair: tuple[Path, Path]) -> list[str]:
    return ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]

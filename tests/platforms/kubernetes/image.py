#!/usr/bin/env python3
"""Makes an OCI archive of an image with busybox, without any registry: `ctr images import` takes it.

    image.py OUT.tar NAME:TAG [--entrypoint WORD,WORD…] [--file PATH=SOURCE]…
"""
import argparse
import hashlib
import io
import json
import os
import posixpath
import subprocess
import tarfile

BUSYBOX = "/bin/busybox"


class Layer:
    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)
        self.folders: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        path = path.strip("/")
        if not path or path in self.folders:
            return
        self.folder(posixpath.dirname(path))
        self.folders.add(path)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def bytes(self, path: str, content: bytes, mode: int) -> None:
        self.folder(posixpath.dirname(path))
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = len(content), mode
        self.tar.addfile(entry, io.BytesIO(content))

    def link(self, path: str, target: str) -> None:
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)

    def done(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("--entrypoint", default="")
    parser.add_argument("--file", action="append", default=[])
    args = parser.parse_args()
    layer = Layer()
    with open(BUSYBOX, "rb") as program:
        layer.bytes(BUSYBOX, program.read(), 0o755)
    for applet in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            layer.link(f"/bin/{applet}", "busybox")
    layer.bytes("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
    layer.folder("/tmp", 0o1777)
    for file in args.file:
        path, source = file.split("=", 1)
        with open(source, "rb") as content:
            layer.bytes(path, content.read(), os.stat(source).st_mode & 0o777)
    blob = layer.done()
    config: dict[str, object] = {"Env": ["PATH=/usr/bin:/bin"]}
    if args.entrypoint:
        config["Entrypoint"] = args.entrypoint.split(",")
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    dump = lambda value: json.dumps(value, sort_keys=True).encode()  # noqa: E731
    kind = "application/vnd.oci.image."
    image = dump({"architecture": machine, "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": [digest(blob)]}})
    manifest = dump({"schemaVersion": 2, "mediaType": kind + "manifest.v1+json",
                     "config": {"mediaType": kind + "config.v1+json", "digest": digest(image), "size": len(image)},
                     "layers": [{"mediaType": kind + "layer.v1.tar", "digest": digest(blob), "size": len(blob)}]})
    index = dump({"schemaVersion": 2, "manifests": [
        {"mediaType": kind + "manifest.v1+json", "digest": digest(manifest), "size": len(manifest),
         "platform": {"os": "linux", "architecture": machine}, "annotations": {"io.containerd.image.name": args.name}}]})
    with tarfile.open(args.out, "w") as archive:
        files = [("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("index.json", index)]
        for path, content in files + [("blobs/sha256/" + digest(b)[7:], b) for b in (blob, image, manifest)]:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


main()

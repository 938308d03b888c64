"""An image with this interpreter and the ZenML that it has, made here without a registry: what ZenML's own images on
the public registry are for its users."""
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "/opt/python"
# Neither ZenML nor a step has any use for them: this client's own, and what its tests need.
_LEFT_OUT = re.compile(
    r"/(__pycache__|test|tests|idlelib|ensurepip|tkinter|turtledemo|lib2to3|config-3[^/]*|grpc|grpcio-[^/]*|mypy|mypyc|[^/]*__mypyc[^/]*)(/|$)"
    r"|\.a$"
)


def _libraries(files):
    """The shared libraries of Debian's that they are linked with."""
    found = set()
    for start in range(0, len(files), 200):
        told = subprocess.run(["ldd", *files[start : start + 200]], capture_output=True, text=True, check=False).stdout
        found |= {path for path in re.findall(r"(?:=> |^\s+)(/\S+)", told, re.M) if path.startswith(("/lib", "/usr/lib"))}
    return found


def make(engine, name, more=None):
    """`more`: further files, bytes by path. Of the image: `python`, `pip` and `uv`, as in ZenML's own, a shell, and
    nothing else."""
    base = pathlib.Path(sys.base_prefix)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    packages = pathlib.Path(sysconfig.get_path("purelib"))
    binaries = []

    def wanted(info):
        if _LEFT_OUT.search("/" + info.name):
            return None
        info.uid = info.gid = 0
        return info

    with tempfile.TemporaryFile() as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(os.path.realpath(sys.executable), f"{INSIDE}/bin/python", recursive=False)
            binaries.append(os.path.realpath(sys.executable))
            for entry in sorted(library.iterdir()):
                if entry.name != "site-packages":
                    archive.add(entry, f"{INSIDE}/lib/{version}/{entry.name}", filter=wanted)
            archive.add(packages, f"{INSIDE}/lib/{version}/site-packages", filter=wanted)
            for folder in (library / "lib-dynload", packages):
                binaries += [str(path) for path in folder.rglob("*.so") if not _LEFT_OUT.search(str(path.relative_to(folder)))]
            shared = base / "lib" / (sysconfig.get_config_var("INSTSONAME") or "")
            if shared.suffix != ".a" and shared.is_file():
                archive.add(shared, f"/usr/lib/{shared.name}")
            for path in sorted(_libraries(binaries)):
                archive.add(os.path.realpath(path), path, recursive=False)
            archive.add("/bin/busybox", "/bin/busybox")
            told = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
            for applet in set(told.split()) - {"busybox"}:
                _link(archive, f"/bin/{applet}", "busybox")
            _file(archive, f"{INSIDE}/bin/pip", f'#!/bin/sh\nexec {INSIDE}/bin/python -m pip "$@"\n'.encode(), 0o755)
            archive.add(pathlib.Path(sys.prefix, "bin/uv"), f"{INSIDE}/bin/uv")
            _link(archive, f"{INSIDE}/bin/python3", "python")
            _file(archive, "/etc/passwd", b"root:x:0:0::/root:/bin/sh\n")
            for path, data in (more or {}).items():
                _file(archive, path, data)
            for folder in ("/tmp", "/root"):
                made = tarfile.TarInfo(folder)
                made.type, made.mode = tarfile.DIRTYPE, 0o1777
                archive.addfile(made)
        out.seek(0)
        changes = f"changes=ENV%20PATH={INSIDE}/bin:/bin&changes=ENV%20UV_SYSTEM_PYTHON=1%20UV_OFFLINE=1%20PIP_NO_INDEX=1"
        repo, _, tag = name.partition(":")
        subprocess.run(
            ["curl", "-sSf", "--unix-socket", str(engine.socket), "-X", "POST", "-H", "Content-Type: application/x-tar", "-T", "-",
             f"http://docker/v1.41/images/create?fromSrc=-&repo={repo}&tag={tag or 'latest'}&{changes}"],
            stdin=out, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def _link(archive, path, target):
    made = tarfile.TarInfo(path)
    made.type, made.linkname = tarfile.SYMTYPE, target
    archive.addfile(made)


def _file(archive, path, data, mode=0o644):
    import io

    made = tarfile.TarInfo(path)
    made.size, made.mode = len(data), mode
    archive.addfile(made, io.BytesIO(data))

#!/usr/bin/env python3
"""Writes src/orchd/_proto/orch.binpb: the descriptors of the API, from which the package makes its messages.

Needs protoc (Debian: protobuf-compiler) or the Python package grpcio-tools. A source archive has the file already.
"""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
OUT = HERE / "src" / "orchd" / "_proto" / "orch.binpb"


def command():
    if shutil.which("protoc"):
        return ["protoc"]
    try:
        import grpc_tools.protoc
    except ImportError:
        sys.exit("protoc is missing: apt-get install protobuf-compiler (or pip install grpcio-tools)")
    include = pathlib.Path(grpc_tools.protoc.__file__).with_name("_proto")
    return [sys.executable, "-m", "grpc_tools.protoc", f"-I{include}"]


def generate():
    files = sorted([*PROTO.glob("orch/v1/*.proto"), *PROTO.glob("google/rpc/*.proto")])
    if not files:
        if OUT.exists():
            return
        sys.exit(f"{PROTO} has no .proto files, and {OUT} does not exist: build from a checkout")
    OUT.parent.mkdir(exist_ok=True)
    fresh = OUT.with_suffix(".new")
    names = [str(file.relative_to(PROTO)) for file in files]
    done = subprocess.run(
        [*command(), f"-I{PROTO}", "--include_imports", f"--descriptor_set_out={fresh}", *names], check=False
    )
    if done.returncode != 0:
        sys.exit(f"protoc ended with {done.returncode}")
    fresh.replace(OUT)


if __name__ == "__main__":
    generate()

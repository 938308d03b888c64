"""What the tree has to keep; each check gives a list of `FILE:LINE: what is wrong`."""
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include what, by the first folders of a path; the longest prefix decides. What stands in server or backends itself
# puts all together and may include everything.
LAYERS = {
    "server/base": {"server/base"},
    "server/model": {"server/base", "server/model"},
    "server/jq": {"server/base", "server/jq"},
    "server/s3": {"server/base", "server/s3"},
    "server/core": {"server/base", "server/model", "server/core"},
    "server/store": {"server/base", "server/model", "server/store", "migrations"},
    "backends/api": {"server/base", "server/model", "backends/api"},
    "backends/local": {"server/base", "server/model", "backends/api", "backends/local"},
    "backends/docker": {"server/base", "server/model", "backends/api", "backends/local", "backends/docker"},
    "backends/kubernetes": {"server/base", "server/model", "backends/api", "backends/local", "backends/kubernetes"},
    "backends/kubernetes/api": {"server/base", "backends/kubernetes/api"},
    "backends/tekton": {"server/base", "server/model", "backends/api", "backends/kubernetes", "backends/tekton"},
    "backends/plugin": {"proto", "server/base", "server/model", "backends/api", "backends/local", "backends/plugin"},
    "backends/plugins": {"proto", "backends/plugins"},
    "backends/fake": {"server/base", "server/model", "backends/api", "backends/fake"},
    "server/engine": {"server/base", "server/model", "server/core", "server/store", "backends/api", "server/jq", "server/s3", "server/engine"},
    # The configuration is that of everything below it: the engine's limits, the form of addresses.
    "server/config": {"server/base", "server/model", "server/engine", "server/http", "server/config"},
    "server/rpc": {"proto", "server/base", "server/model", "server/core", "server/store", "server/engine", "backends/api", "server/rpc"},
    "server/http": {"proto", "server/base", "server/engine", "server/rpc", "server/http"},
    "client/spec": {"proto", "server/base", "server/model", "client/spec"},
    "client/lib": {"proto", "server/base", "client/lib", "client/spec"},
    "client/launch": {"server/base", "client/launch"},
    "client/image": {"server/base", "client/launch", "client/image"},
    "client/cli": {"proto", "server/base", "client/lib", "client/spec", "client/image", "client/cli"},
}
LAYERED = ("server/", "backends/", "client/")
MAY_USE_PROTO = ("proto/", "client/", "server/rpc/", "server/http/", "backends/plugin/", "backends/plugins/", "tests/", "examples/")
MAY_USE_PROTO_FILES = {"server/main.cc", "server/daemon.cc", "server/daemon.h"}
PROTO = re.compile(r'^(orch/v1/|orch/backend/|proto/|google/protobuf/|google/rpc/|grpcpp/|grpc/|grpc\+\+/)|\.pb\.h$')

# pattern, what to use instead, folders it holds for, files that may.
BANNED = [
    (r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\(", "wait on a state with a deadline",
     ("server/", "backends/", "client/", "tests/"),
     # a client that waits for a daemon; the supervisor before it serves; benchmarks
     {"client/lib/", "client/launch/", "backends/local/supervisor/supervisor.cc", "tests/bench/"}),
    (r"\bsystem_clock::now\b|\babsl::Now\s*\(|\bgettimeofday\s*\(", "server/base/clock.h",
     ("server/", "backends/"), {"server/base/clock.cc", "server/base/log.cc",
      "server/rpc/grpc_server.cc", "server/rpc/services.cc"}),  # gRPC states its deadlines on that clock
    (r"(?<![\w:.])s?rand\s*\(", "a seeded generator", ("server/", "backends/", "client/"), set()),
    (r"\babsl::(Mutex|CondVar|MutexLock)\b", "server/base/mutex.h", ("server/", "backends/", "client/"), set()),
    (r"\bstd::(cout|cerr)\b", "server/base/log.h", ("server/", "backends/"),
     {"server/main.cc", "server/config/flags.cc", "server/model/state_tables_main.cc"}),
    (r"(?<![\w:.])(system|popen|fork)\s*\(", "posix_spawn without a shell", ("server/", "backends/", "client/"), set()),
]

# Words that name a machine or a registry rather than the project; written in pieces so as not to find themselves.
FORBIDDEN = ["/wo" + "rk/", "/tmp" + "/wt/", "pypi.or" + "g/simple", "deb.debian.or" + "g", "proxy.golang.or" + "g",
             "registry.npmjs.or" + "g", "index.crates." + "io"]
TEXT = (".cc", ".h", ".py", ".proto", ".md", ".txt", ".cmake", ".sql", ".json", ".yaml", ".yml", ".service", ".sh", "")


def files(*suffixes):
    """The tree's own files with these suffixes, as git sees them (also new ones)."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    return sorted(n for n in names if pathlib.PurePosixPath(n).suffix in suffixes and (ROOT / n).is_file())


def lines(name):
    return (ROOT / name).read_text(errors="replace").splitlines()


def includes(name):
    for number, line in enumerate(lines(name), 1):
        found = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
        if found:
            yield number, found[1]


def layer_of(path):
    return max((prefix for prefix in LAYERS if path.startswith(prefix + "/")), key=len, default=None)


def check_layers(names=None):
    faults = []
    for name in files(".cc", ".h") if names is None else names:
        layer = layer_of(name)
        if layer is None and name.startswith(LAYERED) and name.count("/") > 1:
            faults.append(f"{name}:1: {name.rpartition('/')[0]} has no layer: say in tests/tidy/rules.py what it may include")
        for number, path in includes(name):
            if PROTO.search(path) and not name.startswith(MAY_USE_PROTO) and name not in MAY_USE_PROTO_FILES:
                faults.append(f"{name}:{number}: includes {path}; generated protobuf and gRPC stay in proto, client, "
                              "server/rpc, server/http, backends/plugin and main")
            elif layer and path.startswith(("server/", "backends/", "client/", "tests/")) and not any(
                    path.startswith(allowed + "/") for allowed in LAYERS[layer]):
                faults.append(f"{name}:{number}: {layer} may not include {path}")
    return faults


def check_banned():
    faults = []
    for name in files(".cc", ".h"):
        for pattern, instead, folders, allowed in BANNED:
            if not name.startswith(folders) or any(name == a or (a.endswith("/") and name.startswith(a)) for a in allowed):
                continue
            for number, line in enumerate(lines(name), 1):
                found = re.search(pattern, re.sub(r'"(\\.|[^"\\])*"', '""', line.split("//")[0]))
                if found:
                    faults.append(f"{name}:{number}: {found[0].strip()}: use {instead}")
    return faults


def check_words():
    faults = []
    for name in files(*TEXT):
        for number, line in enumerate(lines(name), 1):
            faults += [f"{name}:{number}: `{word}` names a machine or a registry" for word in FORBIDDEN if word in line]
    return faults


def check_headers():
    """A header begins by saying what it is for."""
    return [f"{name}:1: begins with no comment that says what it is for" for name in files(".h")
            if not (lines(name) and lines(name)[0].startswith("//") and len(lines(name)[0]) > 12)]


def anchors(path):
    found = set()
    for line in path.read_text(errors="replace").splitlines():
        heading = re.match(r"#+\s+(.*)", line)
        if heading:
            found.add(re.sub(r"[^\w\- ]", "", heading[1].strip().lower()).replace(" ", "-"))
    return found


def check_links():
    faults = []
    for name in files(".md"):
        code = False
        for number, line in enumerate(lines(name), 1):
            code ^= line.lstrip().startswith("```")
            if code:
                continue
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                path, _, anchor = target.partition("#")
                whole = (ROOT / name).parent / path if path else ROOT / name
                if not whole.exists():
                    faults.append(f"{name}:{number}: {target} does not exist")
                elif anchor and whole.suffix == ".md" and anchor not in anchors(whole):
                    faults.append(f"{name}:{number}: no heading for {target}")
    return faults


def check_fuzz_targets(page=None):
    """Each has a row in tests/fuzz/README.md, and no other row is there."""
    page = (ROOT / "tests/fuzz/README.md").read_text() if page is None else page
    rows = re.findall(r"^\| `(\w+)` \|", page, re.M)
    targets = {pathlib.PurePosixPath(n).stem for n in files(".cc") if n.startswith("tests/fuzz/targets/")}
    return ([f"tests/fuzz/README.md:1: no row for the target {name}" for name in sorted(targets - set(rows))]
            + [f"tests/fuzz/README.md:1: there is no target {name}" for name in sorted(set(rows) - targets)])


def descriptors():
    """The FileDescriptorSet of proto/orch, with comments."""
    from google.protobuf import descriptor_pb2
    import tempfile
    with tempfile.NamedTemporaryFile() as out:
        names = [os.path.relpath(ROOT / n, ROOT / "proto") for n in files(".proto") if n.startswith("proto/orch/")]
        subprocess.run(["protoc", "-I", "proto", "--include_source_info", f"--descriptor_set_out={out.name}", *names],
                       cwd=ROOT, check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())


def walk(file):
    """(path, full name, descriptor) of every message of a file, nested ones too; not the entries of maps."""
    def into(message, path, name):
        if message.options.map_entry:
            return
        yield path, name, message
        for i, nested in enumerate(message.nested_type):
            yield from into(nested, (*path, 3, i), f"{name}.{nested.name}")
    for i, message in enumerate(file.message_type):
        yield from into(message, (4, i), f"{file.package}.{message.name}")


def check_field_comments(found=None):
    """A field has a comment above or beside it, or shares that of the field just above (a paragraph of fields)."""
    faults = []
    for file in (found or descriptors()).file:
        source = lines("proto/" + file.name)
        at = {tuple(l.path): l for l in file.source_code_info.location}
        for path, name, message in walk(file):
            covered = False
            for i, field in enumerate(message.field):
                place = at[(*path, 2, i)]
                commented = bool(place.leading_comments or place.trailing_comments)
                above = source[place.span[0] - 1].strip() if place.span[0] else ""
                joined = covered and above != "" and not above.endswith("{")
                covered = commented or joined
                # The name and project that a call is about are explained once, at the service.
                if not covered and field.name not in ("name", "project", "page_size", "page_token", "next_page_token",
                                                      "request_id", "run", "step", "id", "labels"):
                    faults.append(f"proto/{file.name}:{place.span[0] + 1}: {name}.{field.name} has no comment")
    return faults


def surface(found=None):
    """Every promise of the API as a sorted list of lines: what is taken away or changed breaks clients."""
    out = []
    for file in (found or descriptors()).file:
        for _, name, message in walk(file):
            for field in message.field:
                kind = field.type_name or str(field.type)
                out.append(f"field {name} {field.number} {field.name} {kind} "
                           f"{'repeated' if field.label == 3 else 'single'}")
            for enum in message.enum_type:
                out += [f"value {name}.{enum.name} {value.number} {value.name}" for value in enum.value]
        for enum in file.enum_type:
            out += [f"value {file.package}.{enum.name} {value.number} {value.name}" for value in enum.value]
        for service in file.service:
            for method in service.method:
                out.append(f"call {file.package}.{service.name}.{method.name} {method.input_type} {method.output_type} "
                           f"{'stream' if method.server_streaming else 'unary'}")
    return sorted(out)

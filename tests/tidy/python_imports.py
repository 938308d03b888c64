"""Which module of the Python package imports which; also inside functions and for types alone, since whoever reads or moves a
module follows those too."""
import ast

from tests.tidy import rules

SOURCES = "client/python/src/"


def modules(names=None):
    """Files by module."""
    found = {}
    for name in rules.files(".py") if names is None else names:
        if name.startswith(SOURCES):
            found[name[len(SOURCES):-3].replace("/", ".").removesuffix(".__init__")] = name
    return found


def imported(module, name, text, known):
    """The modules in `known` that it imports, with the first line that does."""
    package = module.split(".") if name.endswith("__init__.py") else module.split(".")[:-1]
    found = {}
    for node in ast.walk(ast.parse(text)):
        asked = []
        if isinstance(node, ast.Import):
            asked = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from . import a` means the module a, where there is one; its package is what holds them.
            asked = [one if (one := f"{base}.{alias.name}") in known else base for alias in node.names]
        for one in asked:
            if one in known and one != module and not module.startswith(f"{one}."):
                found.setdefault(one, node.lineno)
    return found


def circles(graph):
    """Of a graph of modules by those that they import: each circle as `a -> b -> a`."""
    found, done = [], set()

    def visit(module, way):
        if module in way:
            circle = way[way.index(module):]
            first = circle.index(min(circle))
            text = " -> ".join([*circle[first:], *circle[:first], circle[first]])
            if text not in found:
                found.append(text)
        elif module not in done:
            for one in sorted(graph.get(module, ())):
                visit(one, [*way, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def check_circles():
    known = modules()
    graph = {module: imported(module, name, (rules.ROOT / name).read_text(), known) for module, name in known.items()}
    faults = []
    for circle in circles(graph):
        first, second = circle.split(" -> ")[:2]
        faults.append(f"{known[first]}:{graph[first][second]}: {circle}; move what they share into a module below them")
    return faults


def check_processes():
    """What goes on beside the client is started by `_processes` alone, which spawns."""
    faults = []
    for module, name in modules().items():
        for number, line in enumerate(rules.lines(name), 1):
            if module != "orchd._processes" and "subprocess." in line.split("#")[0] and "subprocess.Popen[" not in line \
                    and "TimeoutExpired" not in line:
                faults.append(f"{name}:{number}: use orchd._processes")
    return faults

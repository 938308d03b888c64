"""The fields of pipelines and steps: what each may hold, short forms included, and how they become the message."""

from __future__ import annotations

import sys
from typing import Any, Callable

from ._messages import fill_duration, fill_value, message_class
from ._reader import MOST_ENTRIES, SKIP, Entry, Read, Reader, Ref, quote, variable_name
from ._scalars import MAX_EXACT, Duration
from ._tree import MAX_NODES, Node

_INT32 = 2**31 - 1
_PIPELINE = message_class("Pipeline").DESCRIPTOR
_STEP = message_class("StepSpec").DESCRIPTOR


def _enum(message: Any, field: str) -> Any:
    return message.fields_by_name[field].enum_type


def _part(message: Any, field: str) -> Any:
    return message.fields_by_name[field].message_type


_MODE = _enum(_PIPELINE, "execution_mode")
_RULE = _enum(_STEP, "trigger_rule")
_CONDITION = _enum(_part(_STEP, "retry"), "on")
_PARAMETER_TYPE = message_class("Parameter").DESCRIPTOR.fields_by_name["type"].enum_type


class PipelineReader:
    def __init__(self, reader: Reader) -> None:
        self.r = r = reader
        self.step_fields: dict[str, Read] = {
            "name": self.step_name,
            "command": self.command,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "foreach": self.foreach,
            "after": self.list_of("a list of steps"),
            "when": self.wanted("a jq expression"),
            "trigger_rule": r.word(_RULE),
            "retry": self.retry,
            "timeout": self.timeout,
            "resources": self.resources,
            "cache": self.cache,
            "params": self.list_of("a list of parameters"),
            "image": self.image,
            "working_dir": self.wanted("a folder"),
            "env": self.env,
            "secrets": self.secrets,
            "priority": r.integer(-1000, 1000),
            "pools": self.pools,
            "orchestrator": self.wanted("an orchestrator's name"),
            "settings": lambda ref: r.mapping(
                ref, lambda entry: r.struct(entry.value), "a mapping of flavors to settings"
            ),
            "labels": self.labels,
            "hooks": self.hooks,
            "source": self.source,
            "heartbeat": r.duration,
        }

    def wanted(self, wanted: str) -> Read:
        return lambda ref: self.r.text(ref, wanted)

    def list_of(self, wanted: str) -> Read:
        return lambda ref: self.r.items(ref, self.r.text, wanted)

    def missing(self, node: Node, field: str, hint: str = "") -> None:
        self.r.add(node, "is missing" + (f"; {hint}" if hint else ""), "REQUIRED", field)

    # The pipeline

    def pipeline(self, root: Node) -> Any:
        r = self.r
        defaults = root.get("defaults") if root.kind == "map" else None
        if defaults is not None and r.is_null(defaults):
            defaults = None
        if defaults is not None:  # first, so that what steps inherit is told once, under its own path
            with r.at("defaults"):
                if defaults.kind != "map":
                    r.wrong(defaults, "a mapping of a step's fields")
                    defaults = None
                else:
                    name = defaults.get("name")
                    if name is not None:
                        r.add(name, "a step's name has no default", "UNKNOWN_FIELD", "name")
                    self.fields_of_step(Ref(defaults))
        steps = root.get("steps") if root.kind == "map" else None
        if defaults is not None and steps is not None and defaults.size * len(steps.items) > MAX_NODES:
            many = f"{len(steps.items)} steps that inherit {defaults.size} values each: more than {MAX_NODES}"
            r.add(defaults, many, "TOO_LARGE", "defaults")
            return SKIP
        fields: dict[str, Read] = {
            "name": lambda ref: self.required(ref) or r.name(ref, dots=True),
            "description": self.description,
            "parameters": self.parameters,
            "execution_mode": r.word(_MODE),
            "steps": lambda ref: self.steps(ref, defaults),
            "timeout": r.duration,
            "labels": self.labels,
            "hooks": self.hooks,
            "max_parallel": r.integer(0, _INT32),
            "defaults": lambda ref: SKIP,
        }
        out = r.fields(Ref(root), fields, "a mapping with `name` and `steps`", even_null=("name", "steps"))
        if out is not SKIP:
            for field in ("name", "steps"):
                if root.get(field) is None:
                    self.missing(root, field)
        return out

    def required(self, ref: Ref) -> Any:
        """SKIP, and a fault, if the value is null; else None."""
        return self.r.add(ref.node, "must not be empty", "REQUIRED") if self.r.is_null(ref.node) else None

    def description(self, ref: Ref) -> Any:
        text = self.r.text(ref)
        if text is not SKIP and len(text.encode()) > 10_000:
            return self.r.add(ref.node, "must have at most 10000 bytes", "TOO_LARGE")
        return text

    def steps(self, ref: Ref, defaults: Node | None) -> Any:
        if self.r.is_null(ref.node) or (ref.node.kind == "list" and not ref.node.items):
            return self.r.add(ref.node, "must not be empty; give at least one step", "REQUIRED")
        first: dict[str, Node] = {}

        def read(item: Ref) -> Any:
            step = self.step(Ref(item.node, defaults if item.node.kind == "map" else None))
            name = step.get("name") if step is not SKIP else None
            if name is not None:
                node = item.node.get("name") or item.node
                if name in first:
                    place = f" in line {first[name].line}" if first[name].line else ""
                    self.r.add(node, f"{quote(name)} is also the name of the step{place}", "DUPLICATE_NAME", "name")
                first.setdefault(name, node)
            return step

        return self.r.items(ref, read, "a list of steps")

    def step(self, ref: Ref) -> Any:
        out = self.fields_of_step(ref)
        if out is SKIP:
            return SKIP
        if ref.node.get("name") is None:
            self.missing(ref.node, "name")
        if ref.node.get("command") is None and (ref.base is None or ref.base.get("command") is None):
            self.missing(ref.node, "command", "give a list of words, such as [python3, train.py]")
        return out

    def fields_of_step(self, ref: Ref) -> Any:
        wanted = "a mapping with `name` and `command`"
        return self.r.fields(ref, self.step_fields, wanted, even_null=("name", "command", "foreach"))

    def step_name(self, ref: Ref) -> Any:
        name = self.required(ref) or self.r.name(ref)
        if name == "params":
            hint = "`params` is no name for a step: `when` uses it for the parameters"
            return self.r.add(ref.node, hint, "INVALID_NAME")
        return name

    # Parameters

    def parameters(self, ref: Ref) -> Any:
        def read(entry: Entry) -> Any:
            self.r.key_name(entry)
            return self.parameter(entry.value)

        return self.limited(ref, read, "parameters", "a mapping of names to parameters")

    def limited(self, ref: Ref, read: Callable[[Entry], Any], what: str, wanted: str, most: int = MOST_ENTRIES) -> Any:
        count = 0

        def counted(entry: Entry) -> Any:
            nonlocal count
            count += 1
            if count == most + 1:
                self.r.add(entry.key, f"more than {most} {what}", "TOO_LARGE")
            return read(entry)

        return self.r.mapping(ref, counted, wanted)

    def parameter(self, ref: Ref) -> Any:
        r = self.r
        if ref.node.kind != "map":  # a bare default
            value = self.default(ref, "")
            return SKIP if value is SKIP else {"default": value}
        fields: dict[str, Read] = {
            "type": r.word(_PARAMETER_TYPE),
            "default": lambda inner: inner,
            "description": r.text,
        }
        out = r.fields(ref, fields, "a mapping such as {type: int, default: 3}", even_null=("default",))
        inner = out.pop("default", SKIP) if out is not SKIP else SKIP
        written = ref.node.get("type")
        if inner is SKIP or ("type" not in out and written is not None and not r.is_null(written)):
            return out
        with r.at("default"):
            words = {"INT": "a whole number", "FLOAT": "a number", "BOOL": "true or false", "STRING": "text"}
            kind = out.get("type", "")
            if kind in words and r.is_null(inner.node):
                hint = "leave `default` out if the parameter is required"
                r.add(inner.node, f"must be {words[kind]}; {hint}", "WRONG_TYPE")
                return out
            value = self.default(inner, kind)
            if value is not SKIP:
                out["default"] = value
        return out

    def default(self, ref: Ref, kind: str) -> Any:
        """Under the declared type; a scalar of a text parameter is taken as it is written."""
        r = self.r
        if kind == "STRING":
            return r.text(ref)
        if kind == "INT":
            return r.integer(-MAX_EXACT, MAX_EXACT)(ref)
        if kind == "FLOAT":
            return r.number(-sys.float_info.max, sys.float_info.max)(ref)
        if kind == "BOOL":
            return r.boolean(ref)
        if kind != "JSON" and r.is_null(ref.node):
            hint = "must not be empty; leave `default` out if the parameter is required"
            return r.add(ref.node, hint, "REQUIRED")
        return r.value(Ref(ref.node))

    # Commands and texts

    def command(self, ref: Ref) -> Any:
        r, wanted = self.r, "a list of words, such as [python3, train.py]"
        if r.is_null(ref.node) or (ref.node.kind == "list" and not ref.node.items):
            return r.add(ref.node, f"must not be empty; give {wanted}", "REQUIRED")
        first = ref.node.items[0] if ref.node.items else None

        def read(item: Ref) -> Any:
            text = r.text(item)
            if text == "" and item.node is first:
                return r.add(item.node, "the program must not be empty", "REQUIRED")
            if text is not SKIP and "\0" in text:
                return r.add(item.node, "must not have a NUL character", "WRONG_TYPE")
            return text

        return r.items(ref, read, wanted)

    def labels(self, ref: Ref) -> Any:
        def read(entry: Entry) -> Any:
            if not entry.key.text:
                self.r.add(entry.key, "a label's name must not be empty", "INVALID_NAME")
            if len(entry.key.text.encode()) > 200:
                self.r.add(entry.key, "a label's name has at most 200 bytes", "TOO_LARGE")
            text = self.r.text(entry.value)
            if text is not SKIP and len(text.encode()) > 1000:
                self.r.add(entry.value.node, "a label has at most 1000 bytes", "TOO_LARGE")
            return text

        return self.limited(ref, read, "labels", "a mapping of labels", 64)

    def check_variable(self, entry: Entry) -> None:
        name = entry.key.text
        if not name or "=" in name or "\0" in name:
            hint = f"{quote(name)} is no name of a variable: not empty, without `=`"
            self.r.add(entry.key, hint, "INVALID_NAME")

    def env(self, ref: Ref) -> Any:
        def read(entry: Entry) -> Any:
            self.check_variable(entry)
            text = self.r.text(entry.value)
            if text is not SKIP and "\0" in text:
                self.r.add(entry.value.node, "must not have a NUL character", "WRONG_TYPE")
            return text

        return self.r.mapping(ref, read, "a mapping of variables")

    def secrets(self, ref: Ref) -> Any:
        def read(entry: Entry) -> Any:
            self.check_variable(entry)
            if entry.value.node.kind != "map":
                name = self.r.text(entry.value, "a secret's name", filled=True)
                return SKIP if name is SKIP else {"name": name}
            fields: dict[str, Read] = {"name": self.r.filled, "file": self.r.boolean}
            out = self.r.fields(entry.value, fields, "a secret's name")
            names = [entry.value.node.get("name"), entry.value.base.get("name") if entry.value.base else None]
            if all(name is None or self.r.is_null(name) for name in names):
                self.missing(entry.value.node, "name", "name the secret")
            return out

        return self.r.mapping(ref, read, "a mapping of variables to secrets")

    def source(self, ref: Ref) -> Any:
        if ref.node.kind != "map":
            path = self.r.text(ref, "a folder", filled=True)
            return SKIP if path is SKIP else {"path": path}
        fields: dict[str, Read] = {"path": self.r.filled, "ignore": self.list_of("a list of patterns")}
        return self.r.fields(ref, fields, "a folder")

    # Edges

    def named(self, ref: Ref, what: str, read: Read) -> Any:
        """Inputs or outputs: names that differ also as ORCH_…_<NAME>."""
        variables: dict[str, str] = {}

        def one(entry: Entry) -> Any:
            self.r.key_name(entry)
            other = variables.setdefault(variable_name(entry.key.text), entry.key.text)
            if other != entry.key.text:
                same = f"has the same variable name (`{variable_name(other)}`) as {quote(other)}"
                self.r.add(entry.key, same, "DUPLICATE_NAME")
            return read(entry.value)

        return self.limited(ref, one, what, f"a mapping of names to {what}")

    def inputs(self, ref: Ref) -> Any:
        return self.named(ref, "inputs", self.input)

    def input(self, ref: Ref) -> Any:
        r, wanted = self.r, "step.output, or a mapping with `from`, `artifact` or `uri`"
        if ref.node.kind != "map":
            text = r.text(ref, wanted, filled=True)
            return SKIP if text is SKIP else {"from": text}
        sources: list[str] = []
        early: list[Node] = []

        def source(name: str) -> Read:
            def read(inner: Ref) -> Any:
                sources.append(name)
                text = r.filled(inner)
                if name == "uri" and text is not SKIP and ":" not in text:
                    hint = f"must be a URI such as file:///data/x.csv, is {quote(text)}"
                    return r.add(inner.node, hint, "WRONG_TYPE")
                return text

            return read

        def read_early(inner: Ref) -> Any:
            truth = r.boolean(inner)
            if truth is True:
                early.append(inner.node)
            return truth

        choice = ("from", "artifact", "uri")
        fields = {name: source(name) for name in choice} | {"early": read_early}
        out = r.fields(ref, fields, wanted, choice)
        if not sources:
            r.add(ref.node, "needs one of `from`, `artifact`, `uri`", "REQUIRED")
        elif len(sources) > 1:
            r.add(ref.node, "has more than one of `from`, `artifact`, `uri`", "CONFLICT")
        elif early and sources != ["from"]:
            r.add(early[0], "goes only with `from`", "CONFLICT", "early")
        return out

    def outputs(self, ref: Ref) -> Any:
        fields: dict[str, Read] = {
            "type": self.wanted("a word"),
            "value": self.r.boolean,
            "as": lambda inner: self.r.name(inner, dots=True),
        }
        wanted = "a mapping such as {type: csv} or {value: true}"
        return self.named(ref, "outputs", lambda inner: self.r.fields(inner, fields, wanted))

    def foreach(self, ref: Ref) -> Any:
        r, wanted = self.r, "a mapping such as {model: [a, b]}"
        empty = (
            ref.node.kind != "scalar"
            and not ref.node.items
            and not ref.node.pairs
            and not (ref.base and ref.base.pairs)
        )
        if r.is_null(ref.node) or empty:
            return r.add(ref.node, f"must not be empty; give {wanted}", "REQUIRED")
        if ref.node.kind == "list":  # as the message has it
            return r.items(ref, lambda item: self.foreach_key(item, keyed=True), wanted)

        def read(entry: Entry) -> Any:
            r.key_name(entry)
            if entry.value.node.kind == "list":
                return {"key": entry.key.text, "values": r.list_value(entry.value)}
            source = self.foreach_key(entry.value, keyed=False)
            return SKIP if source is SKIP else {"key": entry.key.text, **source}

        out = r.mapping(ref, read, wanted)
        return SKIP if out is SKIP else list(out.values())

    def foreach_key(self, ref: Ref, keyed: bool) -> Any:
        r = self.r
        fields: dict[str, Read] = {"from": r.filled, "values": r.list_value}
        if keyed:
            fields["key"] = r.name
        out = r.fields(ref, fields, "a list, or {from: step.output}", ("from", "values"))
        if ref.node.kind != "map":
            return out
        written = [node for node in (ref.node, ref.base) if node is not None and node.kind == "map"]
        given = [
            name
            for name in ("key", "from", "values")
            for value in [next((node.get(name) for node in written if node.get(name) is not None), None)]
            if value is not None and not r.is_null(value)
        ]
        if keyed and "key" not in given:
            self.missing(ref.node, "key", "name the key")
        if not {"from", "values"} & set(given):
            r.add(ref.node, "needs a list, or {from: step.output}", "REQUIRED")
        elif ref.node.get("from") is not None and ref.node.get("values") is not None:
            r.add(ref.node, "has both `from` and `values`", "CONFLICT")
        return out

    # Limits

    def retry(self, ref: Ref) -> Any:
        r = self.r
        times = r.integer(1, 1000)
        backoff: dict[str, Read] = {
            "initial": lambda inner: r.duration(inner, zero_allowed=True),
            "multiplier": r.number(1, 100),
            "max": lambda inner: r.duration(inner, zero_allowed=True),
            "jitter": r.number(0, 1),
        }
        fields: dict[str, Read] = {
            "max_attempts": times,
            "backoff": lambda inner: r.fields(
                inner, backoff, "a mapping such as {initial: 1s, multiplier: 2, max: 60s}"
            ),
            "on": lambda inner: r.items(inner, r.word(_CONDITION), "a list of failed, timeout, lost, oom"),
            "exit_codes": lambda inner: r.items(inner, r.integer(0, 255), "a list of exit codes"),
            "platform_attempts": times,
        }
        return r.fields(ref, fields, "a mapping such as {max_attempts: 3}")

    def timeout(self, ref: Ref) -> Any:
        if ref.node.kind != "map":
            limit = self.r.duration(ref)
            return SKIP if limit is SKIP else {"run": limit}
        return self.r.fields(ref, {"queue": self.r.duration, "run": self.r.duration}, "a duration")

    def resources(self, ref: Ref) -> Any:
        r = self.r
        gpus = r.integer(0, 1024)
        fields: dict[str, Read] = {
            "cpu": self.cpu,
            "memory": r.size,
            "disk": r.size,
            "gpu": lambda inner: self.gpu(inner, gpus),
            "custom": self.custom,
        }
        return r.fields(ref, fields, "a mapping such as {cpu: 1, memory: 512Mi}")

    def cpu(self, ref: Ref) -> Any:
        cpu = self.r.number(0, 1_000_000)(ref)
        if cpu is not SKIP and abs(cpu * 1000 - round(cpu * 1000)) > 1e-6:
            return self.r.add(ref.node, "must be in steps of 0.001", "OUT_OF_RANGE")
        return cpu

    def gpu(self, ref: Ref, gpus: Read) -> Any:
        if ref.node.kind != "map":
            count = gpus(ref)
            return SKIP if count is SKIP else {"count": count}
        return self.r.fields(ref, {"count": gpus, "kind": self.wanted("a word")}, "a number of GPUs")

    def custom(self, ref: Ref) -> Any:
        amount = self.r.integer(0, 1_000_000, quoted=True)

        def read(entry: Entry) -> Any:
            if not entry.key.text:
                self.r.add(entry.key, "a name must not be empty", "INVALID_NAME")
            return amount(entry.value)

        out = self.r.mapping(ref, read, "a mapping of names to numbers")
        if out is not SKIP and len(out) > 32:
            self.r.add(ref.node, "more than 32 custom resources", "TOO_LARGE")
        return out

    def cache(self, ref: Ref) -> Any:
        fields: dict[str, Read] = {"enabled": self.r.boolean, "key": self.r.text, "ttl": self.r.duration}
        return self.r.fields(ref, fields, "a mapping such as {enabled: true}")

    def image(self, ref: Ref) -> Any:
        r = self.r
        if ref.node.kind != "map":
            text = r.text(ref, "an image's name, or {build: …}", filled=True)
            return SKIP if text is SKIP else {"reference": text}
        build: dict[str, Read] = {
            "base": r.text,
            "apt_packages": self.list_of("a list of packages"),
            "requirements": self.list_of("a list of requirements"),
            "requirements_file": r.text,
            "env": self.env,
            "platform": r.text,
            "registry": r.text,
        }
        wanted = "a mapping such as {base: debian:12, requirements: [numpy]}"
        given: list[str] = []
        fields = self.counting({"reference": r.filled, "build": lambda inner: r.fields(inner, build, wanted)}, given)
        out = r.fields(ref, fields, "an image's name", ("reference", "build"))
        self.one_of(ref, given, "build", "reference")
        return out

    def counting(self, fields: dict[str, Read], given: list[str]) -> dict[str, Read]:
        """The same readers, which note that they were called."""

        def noting(name: str, read: Read) -> Read:
            def noted(ref: Ref) -> Any:
                given.append(name)
                return read(ref)

            return noted

        return {name: noting(name, read) for name, read in fields.items()}

    def one_of(self, ref: Ref, given: list[str], first: str, second: str) -> None:
        if not given:
            self.r.add(ref.node, f"needs `{first}` or `{second}`", "REQUIRED")
        elif len(given) > 1:
            self.r.add(ref.node, f"has both `{first}` and `{second}`; give one", "CONFLICT")

    def pools(self, ref: Ref) -> Any:
        r, slots = self.r, self.r.integer(1, _INT32)
        if ref.node.kind != "list":

            def read(entry: Entry) -> Any:
                if not entry.key.text:
                    r.add(entry.key, "a pool's name must not be empty", "INVALID_NAME")
                return slots(entry.value)

            return r.mapping(ref, read, "a mapping such as {db: 1}, or a list of names")
        seen: set[str] = set()

        def name(item: Ref) -> Any:
            text = r.text(item, "a pool's name", filled=True)
            if text in seen:
                hint = f"the pool {quote(text)} is there twice; write {{{text}: 2}} for two slots"
                return r.add(item.node, hint, "DUPLICATE_NAME")
            if text is not SKIP:
                seen.add(text)
            return text

        names = r.items(ref, name, "a list of names")
        return dict.fromkeys(names, 1)

    # Hooks

    def hooks(self, ref: Ref) -> Any:
        return self.r.fields(
            ref, {"on_success": self.hook, "on_failure": self.hook}, "a mapping with `on_success`, `on_failure`"
        )

    def hook(self, ref: Ref) -> Any:
        given: list[str] = []
        fields = self.counting({"command": self.hook_command, "webhook": self.webhook}, given)
        out = self.r.fields(ref, fields, "a mapping such as {command: […]} or {webhook: URL}", ("command", "webhook"))
        if ref.node.kind == "map":
            self.one_of(ref, given, "command", "webhook")
        return out

    def hook_command(self, ref: Ref) -> Any:
        if ref.node.kind == "map":
            return self.r.fields(ref, {"command": self.command}, "a list of words")
        words = self.command(ref)
        return SKIP if words is SKIP else {"command": words}

    def webhook(self, ref: Ref) -> Any:
        url = self.r.text(ref, "a URL")
        if url is not SKIP and not url.startswith(("http://", "https://")):
            return self.r.add(ref.node, f"must be an http or https URL, is {quote(url)}", "WRONG_TYPE")
        return url


def _is_list(field: Any) -> bool:
    return bool(getattr(field, "is_repeated", None) if hasattr(field, "is_repeated") else field.label == 3)


def _fill(message: Any, data: dict[str, Any]) -> None:
    """Sets a message to what was read of it."""
    message.SetInParent()
    for name, value in data.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            target, of = getattr(message, name), kind.fields_by_name["value"].message_type
            for key, item in value.items():
                if of is None:
                    target[key] = item
                else:
                    _fill_one(target[key], of, item)
        elif _is_list(field):
            target = getattr(message, name)
            for item in value:
                if kind is None:
                    target.append(field.enum_type.values_by_name[item].number if field.enum_type else item)
                else:
                    _fill_one(target.add(), kind, item)
        elif kind is not None:
            _fill_one(getattr(message, name), kind, value)
        elif field.enum_type is not None:
            setattr(message, name, field.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value)


def _fill_one(target: Any, kind: Any, value: Any) -> None:
    if isinstance(value, Duration):
        fill_duration(target, value)
    elif kind.full_name == "google.protobuf.Value":
        fill_value(target, value)
    elif kind.full_name == "google.protobuf.ListValue":
        target.SetInParent()
        for item in value:
            fill_value(target.values.add(), item)
    elif kind.full_name == "google.protobuf.Struct":
        target.SetInParent()
        for key, item in value.items():
            fill_value(target.fields[key], item)
    else:
        _fill(target, value)


def read_pipeline(reader: Reader, root: Node) -> Any:
    """The message; complete only if the reader has no violations."""
    data = PipelineReader(reader).pipeline(root)
    message = message_class("Pipeline")()
    if not reader.violations():
        _fill(message, data)
    return message

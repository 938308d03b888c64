"""Random messages for every call of the API, made from its descriptors."""
from __future__ import annotations

import random
from typing import Any, Iterator

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.lib.daemon import ROOT

# Words that calls understand, so that random messages get past the first check now and then.
WORDS = ("", "a", "b", "r1", "p", "fake", "local", "default", "a.o", "a[*].o", "a[item].o", "a[0].o", "state=RUNNING",
         "name:r", "label.a=b AND state=FAILED", "${inputs.x}", "${item.k}", "x" * 300, "é😀", "a\0b", "../..", "%00",
         "file:///nonexistent", "p.a.o@1", "unix:/nonexistent", "SUCCEEDED", "-", "123", "[0]", "'; DROP TABLE run; --")
NUMBERS = (0, 1, 2, -1, 7, 100, 1000, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 53) + 1, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 5e-324, 2.0**63)

PIPELINE = {
    "name": "p", "parameters": {"x": {"type": "INT", "default": 3}}, "labels": {"a": "b"},
    "steps": [
        {"name": "a", "command": ["/nonexistent/a", "${params.x}"], "outputs": {"o": {}, "v": {"value": True}},
         "settings": {"fake": {"duration": "1ms", "output": 1}}, "retry": {"max_attempts": 2}},
        {"name": "b", "command": ["/nonexistent/b", "${item.k}"], "outputs": {"o": {}}, "inputs": {"x": {"from": "a.o"}},
         "foreach": [{"key": "k", "values": [1, "z"]}], "resources": {"cpu": 1, "memory": "1000"}},
        {"name": "c", "command": ["/nonexistent/c"], "inputs": {"x": {"from": "b[*].o"}, "y": {"from": "a.v"}}}]}
# What a call accepts, at the least the first time.
GOOD: dict[str, dict[str, Any]] = {
    "SubmitRun": {"pipeline": PIPELINE, "orchestrator": "fake"},
    "RegisterPipeline": {"pipeline": PIPELINE},
    "ValidatePipeline": {"pipeline": PIPELINE},
    "RegisterOrchestrator": {"orchestrator": {"name": "o", "flavor": "fake", "config": {"duration": "1ms"}}},
    "CreateToken": {"name": "ci", "scope": "READ", "lifetime": "3600s"},
    "SetPool": {"pool": {"name": "db", "slots": 2}},
    "SetStack": {"stack": {"name": "s", "orchestrator": "fake"}},
    "GetPipeline": {"name": "p"},
    "ListSteps": {"run": "r1"},
}


class Call:
    def __init__(self, name: str, request: type[Any], response: type[Any], streams: bool) -> None:
        self.name = name  # /orch.v1.RunService/GetRun
        self.request = request
        self.response = response
        self.streams = streams


def calls() -> list[Call]:
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((ROOT / "client/python/src/orchd/_proto/orch.binpb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    out = []
    for file in files.file:
        for service in file.service:
            for method in service.method:
                request, response = (factory.GetPrototype(pool.FindMessageTypeByName(name[1:]))
                                     for name in (method.input_type, method.output_type))
                out.append(Call(f"/{file.package}.{service.name}/{method.name}", request, response,
                                method.server_streaming))
    return out


class Generator:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def message(self, call: Call) -> Any:
        """A random one; or, of a call that has a good one, often that with a few fields drawn anew."""
        message = call.request()
        good = GOOD.get(call.name.rsplit("/", 1)[1])
        if good is None or self.rng.random() < 0.4:
            self.fill(message, 0)
            return message
        json_format.ParseDict(good, message)
        for _ in range(self.rng.randrange(4)):
            part = message
            while self.rng.random() < 0.7:
                inner = [value for field, values in part.ListFields() if field.message_type is not None
                         and not field.message_type.GetOptions().map_entry
                         for value in (values if field.label == FieldDescriptor.LABEL_REPEATED else (values,))]
                if not inner:
                    break
                part = self.rng.choice(inner)
            field = self.rng.choice(part.DESCRIPTOR.fields)
            if field.label == FieldDescriptor.LABEL_REPEATED and self.rng.random() < 0.5:
                part.ClearField(field.name)
            self.field(part, field, 6)
            self.harmless(part)
        return message

    def harmless(self, message: Any) -> None:
        """No step may ever find a program to run."""
        if message.DESCRIPTOR.full_name == "orch.v1.StepSpec" and len(message.command) > 0:
            if not message.command[0].startswith("/nonexistent/"):
                message.command[0] = "/nonexistent/" + message.command[0]

    def fill(self, message: Any, depth: int) -> None:
        descriptor: Descriptor = message.DESCRIPTOR
        if descriptor.full_name == "google.protobuf.Value":
            self.value(message, depth)
            return
        dense = self.rng.random()  # some messages are nearly empty, some nearly full
        for field in descriptor.fields:
            if self.rng.random() > dense or depth > 12:
                continue
            self.field(message, field, depth)
        self.harmless(message)

    def field(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.label != FieldDescriptor.LABEL_REPEATED:
            if field.message_type is not None:
                self.fill(getattr(message, field.name), depth + 1)
                getattr(message, field.name).SetInParent()
            else:
                setattr(message, field.name, self.scalar(field))
            return
        count = self.rng.choice((1, 1, 2, 3, 8))
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for _ in range(count):
                if value.message_type is not None:
                    self.fill(target[self.scalar(key)], depth + 1)
                else:
                    target[self.scalar(key)] = self.scalar(value)
        elif field.message_type is not None:
            for _ in range(count):
                self.fill(target.add(), depth + 1)
        else:
            target.extend(self.scalar(field) for _ in range(count))

    def value(self, message: Any, depth: int) -> None:
        kind = self.rng.randrange(8)
        if kind == 0:
            message.null_value = 0
        elif kind == 1:
            message.number_value = self.rng.choice(FLOATS)
        elif kind == 2:
            message.string_value = self.rng.choice(WORDS)
        elif kind == 3:
            message.bool_value = True
        elif kind == 4 and depth < 12:
            for _ in range(self.rng.randrange(3)):
                self.fill(message.struct_value.fields[self.rng.choice(WORDS)], depth + 1)
            message.struct_value.SetInParent()
        elif kind == 5 and depth < 12:
            for _ in range(self.rng.randrange(3)):
                self.fill(message.list_value.values.add(), depth + 1)
            message.list_value.SetInParent()
        elif kind == 6:  # deep, on its own
            for _ in range(self.rng.choice((5, 29, 30, 31, 40))):
                message = message.list_value.values.add()

    def scalar(self, field: FieldDescriptor) -> Any:
        rng = self.rng
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return rng.randbytes(rng.randrange(50))
            if rng.random() < 0.1:
                return "".join(chr(rng.choice((rng.randrange(32), rng.randrange(128), rng.randrange(0xD800))))
                               for _ in range(rng.randrange(40)))
            return rng.choice(WORDS)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return rng.choice(FLOATS)
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            numbers = [value.number for value in field.enum_type.values]
            return rng.choice((*numbers, *numbers, 99, -1))
        low, high = {FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
                     FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
                     FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
                     FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1)}[kind]
        return min(max(rng.choice(NUMBERS), low), high)

    def mutations(self, data: bytes, count: int) -> Iterator[bytes]:
        """Bytes that may be no message any more."""
        for _ in range(count):
            out = bytearray(data)
            for _ in range(self.rng.randrange(1, 5)):
                at = self.rng.randrange(len(out) + 1)
                if self.rng.random() < 0.5 and at < len(out):
                    out[at] = self.rng.randrange(256)
                else:
                    out[at:at] = self.rng.randbytes(self.rng.randrange(1, 9))
            yield bytes(out)

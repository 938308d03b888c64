"""Python data as JSON and back: which types come back the same, how others are written, and what a hint makes of it."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Union

_ATOMS = (type(None), bool, int, float, str)
_UNION: tuple[Any, ...] = (Union, getattr(types, "UnionType", Union))


class NoPlainData(TypeError):
    """What cannot be written as JSON, and where in the value it is."""

    def __init__(self, value: Any, where: str, why: str = "") -> None:
        self.where = where
        self.why = why or f"is a {type_name(type(value))}, which is no JSON"
        super().__init__(f"{where} {self.why}" if where else self.why)


def type_name(kind: Any) -> str:
    module = getattr(kind, "__module__", "")
    name = getattr(kind, "__qualname__", None) or str(kind)
    return name if module in ("builtins", "__main__", "") else f"{module}.{name}"


def is_class(hint: Any) -> bool:
    """False for `dict[str, int]`, which Python 3.9 and 3.10 take for one."""
    return isinstance(hint, type) and typing.get_origin(hint) is None


def strip(hint: Any) -> Any:
    """Without `Annotated`."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    return hint


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in _UNION


def stays_the_same(hint: Any) -> bool:
    """Whether any value of this type comes back from JSON as it was. A bare list or dict says that it does."""
    hint = strip(hint)
    if hint in (None, *_ATOMS, list, dict):
        return True
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return all(isinstance(value, _ATOMS) for value in arguments)
    if origin in _UNION or origin is list:
        return all(map(stays_the_same, arguments))
    if origin is dict:
        return arguments[0] is str and stays_the_same(arguments[1])
    if typing_is_typed_dict(hint):
        return all(map(stays_the_same, typing.get_type_hints(hint).values()))
    return False


def typing_is_typed_dict(hint: Any) -> bool:
    return is_class(hint) and issubclass(hint, dict) and hasattr(hint, "__total__")


def is_faithful(value: Any) -> bool:
    """Whether this very value comes back from JSON as it is."""
    if type(value) in (list, dict):
        items = value.values() if type(value) is dict else value
        return all(map(is_faithful, items)) and (type(value) is list or all(type(key) is str for key in value))
    return type(value) in _ATOMS


def to_plain(value: Any, where: str = "", finite: bool = True) -> Any:
    """JSON data: tuples become lists, dataclasses mappings, numbers of NumPy plain ones. Raises NoPlainData, which
    names the place."""
    if value is None or (isinstance(value, (bool, str)) and not isinstance(value, enum.Enum)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, enum.Enum):
        return to_plain(value.value, where, finite)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if finite and not math.isfinite(value):
            raise NoPlainData(value, where, f"is {value}, which JSON cannot say")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise NoPlainData(key, where, f"has the key {key!r}, and a key must be text")
        return {str(key): to_plain(item, f"{where}[{key!r}]", finite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, f"{where}[{number}]", finite) for number, item in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: to_plain(getattr(value, f.name), f"{where}.{f.name}", finite) for f in fields}
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return to_plain(value.item(), where, finite)
    raise NoPlainData(value, where)


def from_plain(data: Any, hint: Any) -> Any:
    """What the hint says, made of JSON data; where it does not fit, the data as it is."""
    hint = strip(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is float and (type(data) is int or isinstance(data, str)):
        return _try(float, data)
    if hint is int and (isinstance(data, str) or (isinstance(data, float) and data.is_integer())):
        return _try(int, data)
    if origin in _UNION:
        fitting = [inner for inner in arguments if inner is type(data)]
        others = [inner for inner in arguments if inner is not type(None)]
        return data if fitting or data is None or len(others) != 1 else from_plain(data, others[0])
    if isinstance(data, list):
        return _from_list(data, hint, origin, arguments)
    if isinstance(data, dict):
        if origin is dict and len(arguments) == 2:
            return {from_plain(key, arguments[0]): from_plain(item, arguments[1]) for key, item in data.items()}
        if isinstance(hint, type) and is_class(hint) and dataclasses.is_dataclass(hint):
            hints = typing.get_type_hints(hint)
            return hint(**{key: from_plain(item, hints.get(key, Any)) for key, item in data.items()})
        return data
    if is_class(hint) and isinstance(data, str) and issubclass(hint, pathlib.PurePath):
        return hint(data)
    if hint in (datetime.datetime, datetime.date) and isinstance(data, str):
        return _try(hint.fromisoformat, data)
    if is_class(hint) and issubclass(hint, enum.Enum):
        return _try(hint, data)
    return data


def _from_list(data: list[Any], hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if origin in (list, set, frozenset) and arguments:
        return origin(from_plain(item, arguments[0]) for item in data)
    if origin is tuple and arguments:
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(from_plain(item, arguments[0]) for item in data)
        if len(arguments) == len(data):
            return tuple(from_plain(item, inner) for item, inner in zip(data, arguments))
    return hint(data) if hint in (tuple, set, frozenset) else data


def _try(make: Any, data: Any) -> Any:
    try:
        return make(data)
    except (ValueError, TypeError):
        return data

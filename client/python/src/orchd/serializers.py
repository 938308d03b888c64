"""How values become artifacts: each kind has a word, which is the artifact's type, and a way to write and to read it.

NumPy, pandas, Arrow and scikit-learn are imported only by whom a value of theirs reaches. One's own kind:

    @orchd.serializer("image", Image)
    class Images:
        def save(value, path): value.save(path, format="png")
        def load(path): return Image.open(path)
"""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import shutil
import typing
from dataclasses import dataclass, field
from typing import Any, Callable

from . import _pickles
from ._plain import NoPlainData, from_plain, is_class, is_faithful, is_union, stays_the_same, strip, to_plain, type_name
from .errors import OrchdError

_MAGIC = b"orchd-object "
_LIST = ".orchd-list"
_LONGEST_MARK = 300


class FolderMark:
    """What makes `Folder` of a Path."""


# The result of a step that returns a folder; a plain Path is a file.
Folder = getattr(typing, "Annotated")[pathlib.Path, FolderMark]  # noqa: B009  as old type checkers have it

_FILES_OF = {
    "numpy.ndarray": "npy",
    "pandas.core.frame.DataFrame": "dataframe",
    "pandas.DataFrame": "dataframe",
    "pandas.core.series.Series": "series",
    "pandas.Series": "series",
    "pyarrow.lib.Table": "table",
    "pyarrow.lib.RecordBatch": "table",
    "sklearn.base.BaseEstimator": "model",
}
_VALUES = {bool: "bool", int: "int", float: "float"}
VALUES_BY_WORD: dict[str, type] = {word: kind for kind, word in _VALUES.items()}


class CannotSerialise(OrchdError):
    """A value that has no form as an artifact; says which one, and of what type."""


@dataclass(frozen=True)
class Kind:
    """How an output is kept."""

    word: str  # `json`, `npy`, …
    value: bool = False  # a small JSON value in the database
    folder: bool = False
    item: Kind | None = None  # of a list that is kept as a folder
    hint: Any = field(default=Any, compare=False)

    @property
    def type(self) -> str:
        return "dir" if self.folder else self.word

    def as_value(self) -> Kind | None:
        """The same as a value that conditions and fan-outs can see; None: its type forbids it."""
        if self.value:
            return self
        return Kind("json", value=True, hint=self.hint) if self.word in ("json", "text", "object", "pickle") else None

    def to_json(self) -> Any:
        return [self.word, self.to_json_item()] if self.item else self.word + ("!" if self.value else "")

    def to_json_item(self) -> Any:
        return self.item.to_json() if self.item else None

    @classmethod
    def from_json(cls, data: Any) -> Kind:
        if isinstance(data, list):
            return cls("list", folder=True, item=cls.from_json(data[1]))
        return cls(data.rstrip("!"), value=data.endswith("!"), folder=data == "dir")


@dataclass(frozen=True)
class _Own:
    word: str
    kind: type
    save: Callable[[Any, pathlib.Path], Any]
    load: Callable[[pathlib.Path], Any]


_own: dict[str, _Own] = {}


def serializer(word: str, kind: type) -> Callable[[Any], Any]:
    """Declares how values of `kind` (and of its subclasses) are kept: a class or module with functions `save(value,
    path)` and `load(path)`. `word` becomes the artifact's type. Put it where the steps' files import it."""
    taken = {
        *_FILES_OF.values(),
        *_VALUES.values(),
        "json",
        "value",
        "text",
        "bytes",
        "object",
        "pickle",
        "file",
        "dir",
        "list",
    }
    if word in taken or not word.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise OrchdError("SERIALIZER_INVALID", f"`{word}` is taken, or is no word of letters, digits and `-_.`")

    def declare(functions: Any) -> Any:
        _own[word] = _Own(word, kind, functions.save, functions.load)
        return functions

    return declare


def _names(kind: type) -> list[str]:
    return [f"{c.__module__}.{c.__qualname__}" for c in kind.__mro__]


def _word_of_class(kind: type) -> str:
    for own in _own.values():
        if issubclass(kind, own.kind):
            return own.word
    for name in _names(kind):
        if name in _FILES_OF:
            return _FILES_OF[name]
    return ""


def kind_of(hint: Any) -> Kind | None:
    """How an output with this annotation is kept; None: there is none (`-> None`)."""
    marks = getattr(hint, "__metadata__", ())
    plain = strip(hint)
    if any(mark is FolderMark for mark in marks):
        return Kind("dir", folder=True, hint=plain)
    if plain is None or plain is type(None):
        return None
    if plain in _VALUES:
        return Kind(_VALUES[plain], value=True, hint=plain)
    if plain is str:
        return Kind("text", hint=plain)
    if plain in (bytes, bytearray):
        return Kind("bytes", hint=plain)
    if plain is Any or plain is object or isinstance(plain, (str, typing.TypeVar)):
        return Kind("object", hint=Any)
    if stays_the_same(plain):
        return Kind("json", hint=plain)
    if is_union(plain):
        return Kind("object", hint=plain)
    if typing.get_origin(plain) is list:
        item = kind_of(typing.get_args(plain)[0])
        if item is not None and item.word != "object" and not item.folder:
            return Kind("list", folder=True, item=item, hint=plain)
        return Kind("object", hint=plain)
    if is_class(plain):
        if issubclass(plain, pathlib.PurePath):
            return Kind("file", hint=plain)
        word = _word_of_class(plain)
        if word:
            return Kind(word, hint=plain)
    return Kind("pickle", hint=plain)


def _kind_of_value(value: Any) -> Kind:
    if isinstance(value, str) and type(value) is str:
        return Kind("text")
    if type(value) is bytes:
        return Kind("bytes")
    if is_faithful(value):
        return Kind("json")
    return Kind(_word_of_class(type(value)) or "pickle")


# Writing


def save(kind: Kind, value: Any, path: str | os.PathLike[str], what: str) -> None:
    """Writes a file or folder. Raises CannotSerialise, which names `what`."""
    target = pathlib.Path(path)
    try:
        _SAVE.get(kind.word, _save_own)(kind, value, target, what)
    except CannotSerialise:
        raise
    except NoPlainData as fault:
        hint = "" if kind.value else "; annotate it as `typing.Any` to have it pickled"
        raise CannotSerialise("CANNOT_SERIALISE", f"{what}: {str(fault).strip()}{hint}") from None
    except Exception as fault:
        why = f"{what} is a {type_name(type(value))}, which cannot be written as `{kind.word}`: {fault}"
        raise CannotSerialise("CANNOT_SERIALISE", why) from fault


def _want(value: Any, what: str, fits: bool, declared: str) -> None:
    if not fits:
        why = f"{what} is declared as {declared}, but is a {type_name(type(value))}"
        raise CannotSerialise("CANNOT_SERIALISE", why)


def _save_number(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    plain = to_plain(value, "", finite=False)
    fits = {
        "bool": isinstance(plain, bool),
        "int": isinstance(plain, int) and not isinstance(plain, bool),
        "float": isinstance(plain, (int, float)) and not isinstance(plain, bool),
    }
    _want(value, what, fits[kind.word], kind.word)
    exact = kind.word != "int" or -(2**63) <= plain < 2**63
    finite = not isinstance(plain, float) or (plain == plain and abs(plain) != float("inf"))
    # As text where JSON's numbers end: `from_plain` reads it back.
    path.write_text(json.dumps(plain if exact and finite else str(plain)), "utf-8")


def _save_json(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    origin = typing.get_origin(strip(kind.hint)) or strip(kind.hint)
    if origin in (list, dict):
        _want(value, what, isinstance(value, (list, tuple) if origin is list else dict), origin.__name__)
    path.write_text(json.dumps(to_plain(value, "", finite=kind.value), ensure_ascii=False), "utf-8")


def _save_text(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    _want(value, what, isinstance(value, str), "str")
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(value)


def _save_bytes(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    _want(value, what, isinstance(value, (bytes, bytearray, memoryview)), "bytes")
    path.write_bytes(value)


def _save_npy(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    import numpy

    _want(value, what, isinstance(value, numpy.ndarray), "numpy.ndarray")
    with path.open("wb") as file:
        numpy.save(file, value, allow_pickle=value.dtype.hasobject)


def _save_frame(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    import pandas

    series = kind.word == "series"
    _want(value, what, isinstance(value, pandas.Series if series else pandas.DataFrame), f"pandas {kind.word}")
    try:
        if series:
            raise ImportError  # Parquet keeps no series
        value.to_parquet(path)
    except Exception:  # without Arrow, or with columns that Parquet has no type for
        _pickle(value, path)


def _save_table(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    import pyarrow
    import pyarrow.parquet

    if isinstance(value, pyarrow.RecordBatch):
        value = pyarrow.Table.from_batches([value])
    _want(value, what, isinstance(value, pyarrow.Table), "pyarrow.Table")
    pyarrow.parquet.write_table(value, path)


def _save_model(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    import joblib

    joblib.dump(value, path)
    _pickles.sign(path)


def _save_pickle(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    hint = strip(kind.hint)
    if is_class(hint) and hint not in (object, Any):
        _want(value, what, isinstance(value, hint), type_name(hint))
    _pickle(value, path)


def _pickle(value: Any, path: pathlib.Path) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=4)
    _pickles.sign(path)


def _save_object(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    if isinstance(value, pathlib.PurePath) and os.path.isdir(value):
        raise CannotSerialise("CANNOT_SERIALISE", f"{what} is a folder: annotate it as `orchd.Folder`")
    real = Kind("file") if isinstance(value, pathlib.PurePath) else _kind_of_value(value)
    body = path.with_name(path.name + ".body")
    save(real, value, body, what)
    with path.open("wb") as out, body.open("rb") as file:
        out.write(_MAGIC + real.word.encode() + b"\n")
        shutil.copyfileobj(file, out)
    body.unlink()


def _save_file(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    _want(value, what, isinstance(value, (str, os.PathLike)), "a path")
    if not os.path.exists(value):
        raise CannotSerialise("CANNOT_SERIALISE", f"{what} is the path {os.fspath(value)}, where nothing is")
    if os.path.isdir(value) != kind.folder:
        wanted = "no folder" if kind.folder else "a folder: annotate it as `orchd.Folder`"
        raise CannotSerialise("CANNOT_SERIALISE", f"{what} is the path {os.fspath(value)}, which is {wanted}")
    if os.path.realpath(value) == os.path.realpath(path):
        return
    if kind.folder:
        shutil.copytree(value, path, symlinks=True)
    else:
        shutil.copyfile(value, path)


def _save_list(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    _want(value, what, isinstance(value, (list, tuple)), "list")
    assert kind.item is not None
    path.mkdir()
    for number, item in enumerate(value):
        save(kind.item, item, path / f"{number:06d}", f"{what}[{number}]")
    (path / _LIST).write_text(json.dumps({"item": kind.item.to_json(), "count": len(value)}), "utf-8")


def _save_own(kind: Kind, value: Any, path: pathlib.Path, what: str) -> None:
    own = _own.get(kind.word)
    if own is None:
        raise CannotSerialise("CANNOT_SERIALISE", f"{what}: no serializer `{kind.word}` is declared here")
    _want(value, what, isinstance(value, own.kind), type_name(own.kind))
    own.save(value, path)
    if not path.exists():
        raise CannotSerialise(
            "CANNOT_SERIALISE", f"{what}: `save` of the serializer `{kind.word}` wrote no {path.name}"
        )


_SAVE: dict[str, Callable[[Kind, Any, pathlib.Path, str], None]] = {
    "bool": _save_number, "int": _save_number, "float": _save_number, "json": _save_json, "text": _save_text,
    "bytes": _save_bytes, "npy": _save_npy, "dataframe": _save_frame, "series": _save_frame, "table": _save_table,
    "model": _save_model, "pickle": _save_pickle, "object": _save_object, "file": _save_file, "dir": _save_file,
    "list": _save_list,
}  # fmt: skip


# Reading


def load(word: str, path: str | os.PathLike[str], hint: Any = Any) -> Any:
    """The value of an artifact of type `word` at a path; as the hint says where there is a choice."""
    source = pathlib.Path(path)
    plain = strip(hint)
    if is_class(plain) and issubclass(plain, pathlib.PurePath):
        return plain(source)
    if source.is_dir():
        return _load_folder(source, plain)
    wanted = _word_of_class(plain) if is_class(plain) else ""
    if word == "object":
        return _load_object(source, hint)
    if word in _own:
        return _own[word].load(source)
    if wanted == "dataframe" and word not in ("dataframe", "series", "pickle"):
        return _read_frame(word, source)
    if wanted == "table" and word in ("dataframe", "parquet"):
        return _load_table(source)
    if word in _LOAD:
        return from_plain(_LOAD[word](source), hint)
    if word in VALUES_BY_WORD:
        return from_plain(json.loads(source.read_bytes()), VALUES_BY_WORD[word])
    return _load_foreign(word, source, plain, hint)


def _load_foreign(word: str, source: pathlib.Path, plain: Any, hint: Any) -> Any:
    """What a command wrote: the hint, else the author's word, says how to read it."""
    if plain is str:
        return source.read_text("utf-8")
    if plain in (bytes, bytearray):
        return source.read_bytes()
    if plain is not Any and (stays_the_same(plain) or word == "json"):
        return from_plain(json.loads(source.read_bytes()), hint)
    if word in ("txt", "text"):
        return source.read_text("utf-8")
    return source


def load_item(word: str, path: str | os.PathLike[str], number: int, hint: Any = Any) -> Any:
    """One item of a list; of a list that is kept as a folder nothing else is read."""
    folder = pathlib.Path(path)
    if not (folder / _LIST).exists():
        return load(word, folder)[number]
    index = json.loads((folder / _LIST).read_bytes())
    return load(Kind.from_json(index["item"]).word, folder / f"{number:06d}", hint)


def _load_folder(source: pathlib.Path, hint: Any) -> Any:
    if not (source / _LIST).exists():
        return source
    count = json.loads((source / _LIST).read_bytes())["count"]
    inner = (typing.get_args(hint) or (Any,))[0]
    return [load_item("dir", source, number, inner) for number in range(count)]


def _load_object(source: pathlib.Path, hint: Any) -> Any:
    with source.open("rb") as file:
        mark = file.readline(_LONGEST_MARK)
        if not mark.startswith(_MAGIC):
            raise CannotSerialise("CANNOT_LOAD", f"{source} was not written by this package")
        word = mark[len(_MAGIC) :].strip().decode()
        body = scratch_file()
        with body.open("wb") as out:
            shutil.copyfileobj(file, out)
    if word == "file":
        return body
    value = load(word, body, hint)
    if word not in _own:
        body.unlink()
    return value


def scratch_file() -> pathlib.Path:
    """A name of its own in the attempt's folder, else in the system's, where it is removed at exit."""
    import atexit
    import tempfile

    scratch = os.environ.get("ORCH_SCRATCH")
    folder = tempfile.mkdtemp(prefix="orchd-", dir=scratch)
    if not scratch:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder) / "data"


def _load_npy(source: pathlib.Path) -> Any:
    import numpy

    with source.open("rb") as file:
        return numpy.load(file, allow_pickle=True)


def _load_frame(source: pathlib.Path) -> Any:
    with source.open("rb") as file:
        if file.read(4) == b"PAR1":
            import pandas

            return pandas.read_parquet(source)
    return _load_pickle(source)


def _read_frame(word: str, source: pathlib.Path) -> Any:
    import pandas

    if word in ("parquet", "table"):
        return pandas.read_parquet(source)
    if word in ("json", "jsonl"):
        return pandas.read_json(source, lines=word == "jsonl")
    return pandas.read_csv(source, sep="\t" if word == "tsv" else ",")


def _load_table(source: pathlib.Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(source)


def _load_model(source: pathlib.Path) -> Any:
    import joblib

    with _pickles.reading(source):
        return joblib.load(source)


def _load_pickle(source: pathlib.Path) -> Any:
    with source.open("rb") as file, _pickles.reading(source):
        return pickle.load(file)  # noqa: S301  written by a step


def _load_text(source: pathlib.Path) -> str:
    with source.open(encoding="utf-8", errors="surrogatepass", newline="") as file:
        return file.read()


_LOAD: dict[str, Callable[[pathlib.Path], Any]] = {
    "json": lambda source: json.loads(source.read_bytes()),
    "value": lambda source: json.loads(source.read_bytes()),
    "text": _load_text,
    "bytes": lambda source: source.read_bytes(),
    "npy": _load_npy,
    "dataframe": _load_frame,
    "series": _load_frame,
    "table": _load_table,
    "model": _load_model,
    "pickle": _load_pickle,
}

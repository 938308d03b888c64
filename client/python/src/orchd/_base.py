"""What every call of the client has in common: the connection, requests and pages."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

from ._calls import Connection
from ._discover import Endpoint, discover, given_server
from ._messages import fill_value, message_class
from .errors import Refused
from .types import Run

_PAGE = 1000
STREAM_SECONDS = 300.0  # after which a stream is resumed, so that a dead connection is noticed


def name_of(run: str | Run) -> str:
    return run.id or run.name if isinstance(run, Run) else run


def fill_parameters(out: Any, parameters: Mapping[str, Any] | None) -> None:
    """Raises Refused with the name of the one that is no JSON value."""
    for name, value in (parameters or {}).items():
        try:
            fill_value(out[name], value)
        except (TypeError, ValueError) as fault:
            raise Refused("PARAMETER_INVALID", f"the parameter `{name}`: {fault}") from None


def set_word(message: Any, field: str, word: str, what: str) -> None:
    """Sets an enum field to a word in any case; an empty one leaves it. Raises Refused."""
    if not word:
        return
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    known = {value.name: number for number, value in values.items() if number != 0}
    if word.upper() not in known:
        names = ", ".join(sorted(known)).lower()
        raise Refused(f"{field.upper()}_INVALID", f"`{word}` is no {what}; there are: {names}")
    setattr(message, field, known[word.upper()])


_Client = TypeVar("_Client", bound="Base")


class Base:
    """Finds the daemon and calls it."""

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        start: bool = True,
        *,
        project: str = "",
        timeout: float = 30.0,
        patience: float = 15.0,
    ) -> None:
        self._server = server
        self._token = token
        self._data_dir = os.fspath(data_dir) if data_dir is not None else None
        self._start = start and not given_server(server)
        self._project = project
        self._connection = Connection(self._discover, timeout, patience)

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _discover(self) -> Endpoint:
        return discover(self._server, self._token, self._data_dir)

    def _request(self, kind: str, /, **fields: Any) -> Any:
        request = message_class(kind)(**fields)
        if "project" in request.DESCRIPTOR.fields_by_name:
            request.project = self._project
        return request

    def _answers(self, method: str, request: Any, size_field: str, limit: int | None) -> Iterator[Any]:
        """Whole answers, page by page; `limit` only makes the pages smaller."""
        while True:
            setattr(request, size_field, _PAGE if limit is None else max(1, min(_PAGE, limit)))
            answer = self._connection.unary(method, request)
            yield answer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    def _pages(
        self, method: str, request: Any, field: str, limit: int | None, size_field: str = "page_size"
    ) -> Iterator[Any]:
        answers = self._answers(method, request, size_field, limit)
        return itertools.islice((message for answer in answers for message in getattr(answer, field)), limit)

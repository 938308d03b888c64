"""What every call of the client has in common: the connection, requests and pages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

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


class Base:
    """Finds the daemon and calls it. `connect`: which kind of connection does so."""

    def __init__(
        self,
        connect: type[Connection],
        server: str | None,
        token: str | None,
        data_dir: str | os.PathLike[str] | None,
        start: bool,
        project: str,
        timeout: float,
        patience: float,
        ca: str | os.PathLike[str] | None,
    ) -> None:
        self._server = server
        self._token = token
        self._data_dir = os.fspath(data_dir) if data_dir is not None else None
        self._ca = os.fspath(ca) if ca is not None else None
        self._start = start and not given_server(server)
        self._project = project
        self._connection = connect(self._discover, timeout, patience)

    def _discover(self) -> Endpoint:
        return discover(self._server, self._token, self._data_dir, self._ca)

    def _request(self, kind: str, /, **fields: Any) -> Any:
        request = message_class(kind)(**fields)
        if "project" in request.DESCRIPTOR.fields_by_name:
            request.project = self._project
        return request

    async def _answers(self, method: str, request: Any, size_field: str, limit: int | None) -> AsyncIterator[Any]:
        """Whole answers, page by page; `limit` only makes the pages smaller."""
        while True:
            setattr(request, size_field, _PAGE if limit is None else max(1, min(_PAGE, limit)))
            answer = await self._connection.unary(method, request)
            yield answer
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token

    async def _pages(self, method: str, request: Any, field: str, limit: int | None) -> list[Any]:
        messages: list[Any] = []
        if limit is None or limit > 0:
            async for answer in self._answers(method, request, "page_size", limit):
                messages.extend(getattr(answer, field))
                if limit is not None and len(messages) >= limit:
                    break
        return messages[:limit]

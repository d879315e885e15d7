"""Every answer that says no, in one place: which error becomes which status, and that none of them tells a secret."""

import json
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from corporation.db import DATABASE_IS_AWAY
from corporation.envelope import EnvelopeRefused, Problem
from corporation.errors import LedgerUnavailableError
from corporation.strict_json import JsonRefused
from hq_api.access import NotSignedIn, Unauthorized

RETRY_AFTER_SECONDS: Final = 5
MOST_PROBLEMS: Final = 100
"""Of one body; without an end, a small request of many mistakes would have a large answer."""
LONGEST_KEY: Final = 100
CLOSE: Final = {"Connection": "close"}

log = structlog.get_logger()


class Json(JSONResponse):
    """A JSON answer in ASCII: what a factory reported may hold half a surrogate pair, which no UTF-8 can carry."""

    def render(self, content: Any) -> bytes:
        """The body of the answer."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refusal(Exception):
    """An answer that says no: `code` names the cause, `message` what to do; neither repeats what was sent."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        super().__init__(f"{code}: {message}")


def described(problems: Iterable[Problem], at: tuple[str | int, ...] = ("body",)) -> list[dict[str, Any]]:
    """The list shape of H-3 for the first hundred of `problems`, each `loc` under `at`.

    `input` holds no text, which could be a secret; a key of the caller's in a `loc` is cut.
    """
    return [
        {"type": p.type, "loc": [*at, *map(_cut, p.loc)], "msg": p.msg, "input": p.input}
        | ({"ctx": dict(p.ctx)} if p.ctx else {})
        for p in islice(problems, MOST_PROBLEMS)
    ]


def _cut(part: str | int) -> str | int:
    return part[:LONGEST_KEY] if isinstance(part, str) else part


def invalid(problems: Iterable[Problem], at: tuple[str | int, ...] = ("body",)) -> Response:
    """422 with the list shape of H-3."""
    return Json({"detail": described(problems, at)}, 422)


def install(app: FastAPI) -> None:
    """From now on `app` answers every foreseen error as this module says; what is left is the edge's 500."""
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(Unauthorized, _refusal)
    app.add_exception_handler(JsonRefused, _bad_json)
    app.add_exception_handler(EnvelopeRefused, _bad_envelope)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, not_there)
    app.add_exception_handler(ClientDisconnect, _gone)
    for away in (LedgerUnavailableError, *DATABASE_IS_AWAY):
        app.add_exception_handler(away, _no_ledger)


def answer_to(error: Refusal | Unauthorized | LedgerUnavailableError) -> Response:
    """The answer that `error` gets also where it was raised before any router could."""
    if isinstance(error, Refusal):
        return Json({"detail": str(error)}, error.status, error.headers)
    if isinstance(error, Unauthorized):
        login = {"login": error.login} if isinstance(error, NotSignedIn) else {}
        return Json({"detail": "Unauthorized"} | login, 401, {"WWW-Authenticate": "Bearer"})
    return _unavailable(error)


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal | Unauthorized)  # noqa: S101 - each handler is installed for its own types only
    return answer_to(error)


def _bad_json(_: Request, error: Exception) -> Response:
    return Json({"detail": str(error)}, 400)


def _bad_envelope(_: Request, error: Exception) -> Response:
    assert isinstance(error, EnvelopeRefused)  # noqa: S101
    return invalid(error.problems)


def _bad_parameters(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return invalid([_problem(detail) for detail in error.errors()], at=())


def _problem(detail: Mapping[str, Any]) -> Problem:
    shown = detail.get("input")
    limits = {key: value for key, value in detail.get("ctx", {}).items() if isinstance(value, int | float | str)}
    return Problem(
        detail["type"], tuple(detail["loc"]), detail["msg"], shown if isinstance(shown, int | float) else None, limits
    )


def not_there(_: Request, error: Exception) -> Response:
    """404 or 405, as the router found it."""
    assert isinstance(error, HTTPException)  # noqa: S101
    return Json({"detail": error.detail}, error.status_code, error.headers)


def _gone(_: Request, __: Exception) -> Response:
    return Json({"detail": "invalid_json: the connection ended inside the body"}, 400, CLOSE)


def _no_ledger(_: Request, error: Exception) -> Response:
    return _unavailable(error)


def _unavailable(error: Exception) -> Response:
    # Only the class: the driver's message may hold the address of the database.
    log.error("ledger_unavailable", error=type(error.__cause__ or error).__name__)
    detail = "ledger_unavailable: the ledger does not answer, nothing was stored; send the same request again"
    return Json({"detail": detail}, 503, {"Retry-After": str(RETRY_AFTER_SECONDS)})

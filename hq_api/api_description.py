"""What `/openapi.json` says beside what the framework knows: who may ask, and how every address says no."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from hq_api.access import OPS
from hq_api.dashboard.door import operator
from hq_api.dashboard.session import COOKIE
from hq_api.dependencies import PrincipalWith

SCOPES: Final = "x-scopes"
"""The scopes that may ask, in each operation that wants a token; absent where everybody may."""
TOKEN: Final = ({"bearer": []}, {"opsToken": []})
SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of an hour, or the static token"},
    "opsToken": {"type": "apiKey", "in": "header", "name": "x-ua-ops-token", "description": "The same, elsewhere"},
    "credential": {"type": "http", "scheme": "bearer", "description": "A long-lived credential, to be exchanged"},
    "internalToken": {"type": "apiKey", "in": "header", "name": "x-ua-internal-token", "description": "The same"},
    "dashboard": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "Who signed in to the dashboard"},
}
MINT: Final = "/auth/ops-token"
PROBLEM: Final = {
    "type": "object",
    "required": ["type", "loc", "msg"],
    "properties": {
        "type": {"type": "string"},
        "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "msg": {"type": "string"},
        "input": {"type": ["number", "boolean", "null"], "description": "Never a text: it could be a secret"},
        "ctx": {"type": "object"},
    },
}
REFUSAL: Final = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "description": "`code: what to do`, or of a body or parameter every problem at once",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}}],
        },
        "login": {"type": "string", "description": "Where people sign in, at addresses that a cookie opens too"},
    },
}
_REFUSED: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
SAYS_NO: Final = {
    "4XX": {"description": "Refused; nothing was changed", "content": _REFUSED},
    "503": {"description": "The ledger does not answer: send the same again after Retry-After", "content": _REFUSED},
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole description of `app`; made once, the same document every time."""
    if app.openapi_schema is None:
        document = app.openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):  # the framework's own, which no answer has
            schemas.pop(name, None)
        schemas |= {"Problem": PROBLEM, "Refusal": REFUSAL}
        document["components"]["securitySchemes"] = SCHEMES
        for operation, route in _operations(app, document["paths"]):
            _complete(operation, route)
    return app.openapi()


def scopes_of(route: APIRoute) -> tuple[str, ...] | None:
    """The scopes that may ask at `route`, `ops` first; None where it wants no token of ours."""
    for dependant in _all(route.dependant):
        if isinstance(dependant.call, PrincipalWith):
            return (OPS, *dependant.call.scopes)
        if dependant.call is operator:
            return (OPS,)
    return None


def _operations(app: FastAPI, paths: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], APIRoute]]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in context.methods or ():
                yield paths[str(context.path_format)][method.lower()], route


def _complete(operation: dict[str, Any], route: APIRoute) -> None:
    scopes = scopes_of(route)
    if scopes is not None:
        operation[SCOPES] = list(scopes)
        cookie = ({"dashboard": []},) if any(one.call is operator for one in _all(route.dependant)) else ()
        operation["security"] = [*TOKEN, *cookie]
    elif route.path == MINT:
        operation["security"] = [{"credential": []}, {"internalToken": []}, {"opsToken": []}]
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "query":
            parameter["allowEmptyValue"] = True  # it counts as left out (`addresses.py`)
    operation["responses"].pop("422", None)
    operation["responses"] = {**operation["responses"], **SAYS_NO, **_own(operation["responses"])}


def _own(responses: Mapping[str, Any]) -> dict[str, Any]:
    """What a route says of its own refusals is better than what is said of all."""
    return {status: said for status, said in responses.items() if status in SAYS_NO}


def _all(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _all(one)

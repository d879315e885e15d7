"""How addresses that people open say no: to a browser as a page or by the way to the login, to programs as JSON."""

from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse, Response

from corporation.db import DATABASE_IS_AWAY
from corporation.errors import LedgerUnavailableError
from hq_api.access import Unauthorized
from hq_api.dashboard.login_form import LOGIN
from hq_api.dashboard.rendering import page
from hq_api.responses import RETRY_AFTER_SECONDS, Refusal

TITLES: Final = {403: "Not here", 413: "Too large", 429: "Too many attempts"}
NO_LEDGER: Final = (
    "The ledger does not answer, so this server cannot tell whether your session still holds. Nothing is lost; try "
    "again in a few seconds. `corporation doctor` says what is wrong."
)


class PageRoute(APIRoute):
    """A route whose refusals are pages for whoever accepts HTML; `responses.py` answers everybody else."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of this route, with its refusals made readable."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except (Unauthorized, Refusal, LedgerUnavailableError, *DATABASE_IS_AWAY) as error:
                readable = _readable(request, error) if "text/html" in request.headers.get("accept", "") else None
                if readable is None:
                    raise
                return readable

        return handler


def _readable(request: Request, error: Exception) -> Response | None:
    if isinstance(error, Unauthorized):
        # Only reading may begin with a login: what a form wanted to do is not done after it.
        here = urlencode({"next": request.url.path})
        return RedirectResponse(f"{LOGIN}?{here}", 303) if request.method == "GET" else None
    if isinstance(error, Refusal):
        title = TITLES.get(error.status, "That did not work")
        return page("refused.html", error.status, error.headers, title=title, message=_sentence(error.message))
    again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return page("refused.html", 503, again, title="One moment", message=NO_LEDGER)


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:].removesuffix('.')}."

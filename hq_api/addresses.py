"""How an address is read: what its query leaves empty was not said, and a slash that came encoded is data."""

from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send


class WithoutEmptyValues:
    """Routers see no query parameter that has an empty value: `?cursor=` says what no `cursor` says (http §7, §9, §10).

    Forms and loops send them for what they do not set. One blank more is a value, and judged as one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its query shorter by what says nothing."""
        if query := scope.get("query_string"):
            scope = {**scope, "query_string": without_empty_values(query)}
        await self.app(scope, receive, send)


def without_empty_values(query: bytes) -> bytes:
    """`query` without the pairs that have no value, the others as they were."""
    return b"&".join(pair for pair in query.split(b"&") if pair.partition(b"=")[2])


class AsWritten(APIRoute):
    """A route whose last word must stand in the address as a part of its own.

    Paths are matched decoded, where the mission `a/events` would look like the events of the mission `a`.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the library's, but for an address that has the word only inside something that is encoded."""
        word = self.path.rpartition("/")[2]
        written = scope.get("raw_path")
        if "{" not in word and written and unquote(written.rpartition(b"/")[2].decode("ascii", "replace")) != word:
            return Match.NONE, {}
        return super().matches(scope)

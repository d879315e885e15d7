"""Which other sites' pages may call (H-12): none but `UA_CORS_ALLOWED_ORIGINS`, with tokens and never with cookies."""

from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

METHODS: Final = ("GET", "POST", "DELETE")
HEADERS: Final = ("Authorization", "Content-Type", "Idempotency-Key", "x-ua-ops-token", "x-request-id")
EXPOSED: Final = ("Location", "Retry-After", "x-request-id")


class Cors(CORSMiddleware):
    """The library's rules; only its refusal of a preflight, which names what failed as plain text, is not ours."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=METHODS, allow_headers=HEADERS, expose_headers=EXPOSED
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """204 for everybody, without a token; a foreign origin is allowed nothing, and its browser says so."""
        origin = request_headers["origin"]
        if not self.is_allowed_origin(origin):
            return Response(status_code=204, headers={"Vary": self.preflight_headers["Vary"]})
        allowed = {**self.preflight_headers, "Access-Control-Allow-Origin": origin}
        return Response(status_code=204, headers=allowed)

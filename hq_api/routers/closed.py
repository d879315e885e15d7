"""The health-only surface of a worker: every other address is refused, whatever it is (H-14)."""

from fastapi import APIRouter, Request

from corporation.clock import utc_now
from hq_api.access import accepts_tokens, judge
from hq_api.dependencies import ReadSettings, bearer
from hq_api.responses import Refusal

EVERY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
router = APIRouter(include_in_schema=False)


@router.api_route("/{path:path}", methods=EVERY_METHOD)
def refuse(request: Request, path: str, settings: ReadSettings) -> None:
    """403 naming the role; on ops addresses strangers get 401 first, if this node could know anybody."""
    if path.startswith("api/v1/ops/") and accepts_tokens(settings):
        judge(bearer(request), settings, utc_now())
    raise Refusal(403, "forbidden", f"this node is a {settings.role} and shows its health only; ask headquarters")

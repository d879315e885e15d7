"""What the login form sends: a token and where to go afterwards, read with a limit and believed in nothing."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from hq_api.body import declared_bytes
from hq_api.responses import CLOSE, Refusal

LIMIT_BYTES: Final = 16 * 1024
MOST_FIELDS: Final = 10
READ_SECONDS: Final = 10
HOME: Final = "/dashboard"
LOGIN: Final = "/dashboard/login"
LOGOUT: Final = "/dashboard/logout"
_PAGE: Final = re.compile(r"/dashboard(?:/[A-Za-z0-9][A-Za-z0-9_-]*)*")


@dataclass(frozen=True)
class LoginForm:
    """A token to be judged (never shown in a repr) and a page of ours."""

    token: bytes = field(repr=False)
    goal: str = HOME


async def read_form(request: Request) -> LoginForm:
    """The form in the body; raises Refusal (400, 408, 413, 415) without repeating any of it."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/x-www-form-urlencoded" or "content-encoding" in request.headers:
        raise Refusal(415, "unsupported_media_type", "send the form as application/x-www-form-urlencoded", CLOSE)
    try:
        async with asyncio.timeout(READ_SECONDS):
            body = await _read(request)
    except TimeoutError:
        raise Refusal(408, "body_too_slow", f"the form took longer than {READ_SECONDS} s", CLOSE) from None
    return parse_form(body)


def parse_form(body: bytes) -> LoginForm:
    """The form in `body`; a field given twice is a Refusal, for two readers might pick different ones."""
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Refusal(400, "invalid_form", "send the fields `token` and `next`, percent-encoded") from None
    if any(len(values) > 1 for values in fields.values()):
        raise Refusal(400, "invalid_form", "send each field once")
    token, goal = (fields.get(name, [""])[0] for name in ("token", "next"))
    return LoginForm(token.strip().encode(), local_page(goal))


def local_page(goal: str | None) -> str:
    """`goal` if it is the plain path of a page of the dashboard, else its first page: nobody is sent elsewhere."""
    if goal and _PAGE.fullmatch(goal) and goal not in (LOGIN, LOGOUT):
        return goal
    return HOME


async def _read(request: Request) -> bytes:
    data = bytearray()
    if declared_bytes(request.headers) <= LIMIT_BYTES:
        async for chunk in request.stream():
            data += chunk
            if len(data) > LIMIT_BYTES:
                break
        else:
            return bytes(data)
    raise Refusal(413, "body_too_large", f"the form may have {LIMIT_BYTES // 1024} KiB", CLOSE)

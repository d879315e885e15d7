"""Reading what was sent: the media type first, never more than the limit, within ten seconds, as strict JSON."""

import asyncio
from typing import Any, Final

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers

from corporation.envelope import EnvelopeRefused, Problem
from corporation.strict_json import parse
from hq_api.responses import CLOSE, Refusal

LIMIT_BYTES: Final = 256 * 1024
BATCH_LIMIT_BYTES: Final = 4 * 1024 * 1024
READ_SECONDS: Final = 10
# Up to here parsing takes less than a switch to another thread would save the event loop.
PARSE_INLINE_BYTES: Final = 32 * 1024


async def read_document(request: Request, limit: int = LIMIT_BYTES, batch_limit: int | None = None) -> Any:
    """The JSON document of the body; raises Refusal (408, 413, 415) or JsonRefused (400).

    With `batch_limit`, a body that says `"missions"` within its first `limit` bytes may be that long.
    """
    _check_media(request.headers)
    try:
        async with asyncio.timeout(READ_SECONDS):
            data = await _read(request, limit, batch_limit or limit)
    except TimeoutError:
        raise Refusal(408, "body_too_slow", f"the body took longer than {READ_SECONDS} s", CLOSE) from None
    document = parse(data) if len(data) <= PARSE_INLINE_BYTES else await run_in_threadpool(parse, data)
    if len(data) > limit and not (isinstance(document, dict) and "missions" in document):
        raise _too_large(limit, batch_limit or limit)
    return document


async def read_object(request: Request, limit: int = LIMIT_BYTES) -> dict[str, Any]:
    """The JSON object of the body; as `read_document`, and 422 for every other JSON value."""
    document = await read_document(request, limit)
    if not isinstance(document, dict):
        raise EnvelopeRefused([Problem("model_type", (), "Input should be an object")])
    return document


async def read_optional_object(request: Request) -> dict[str, Any]:
    """As `read_object`, and an empty object when there is no body."""
    empty = request.headers.get("content-length", "0").strip() == "0" and "transfer-encoding" not in request.headers
    return {} if empty else await read_object(request)


def declared_bytes(headers: Headers) -> int:
    """How long the body says that it is; 0 where it does not say it, or not as a number."""
    declared = headers.get("content-length", "")
    return int(declared) if declared.isascii() and declared.isdecimal() and len(declared) < 20 else 0


def _check_media(headers: Headers) -> None:
    encodings = {part.strip().lower() for part in headers.get("content-encoding", "identity").split(",")}
    if encodings != {"identity"}:
        raise Refusal(415, "unsupported_encoding", "send the body as it is, without Content-Encoding", CLOSE)
    media, _, parameters = headers.get("content-type", "").partition(";")
    if media.strip().lower() != "application/json":
        raise Refusal(415, "unsupported_media_type", "send Content-Type: application/json", CLOSE)
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise Refusal(415, "unsupported_media_type", "JSON is UTF-8; leave the charset out", CLOSE)


async def _read(request: Request, limit: int, batch_limit: int) -> bytes:
    if declared_bytes(request.headers) > batch_limit:
        raise _too_large(limit, batch_limit)
    data = bytearray()
    allowed = limit
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit and batch_limit > limit and b'"missions"' in data[:limit]:
            allowed = batch_limit
        if len(data) > allowed:
            raise _too_large(limit, batch_limit)
    return bytes(data)


def _too_large(limit: int, batch_limit: int) -> Refusal:
    most = f"a body may have {limit // 1024} KiB"
    if batch_limit > limit:
        most += f', and {batch_limit // 1024} KiB when it says "missions" within the first {limit // 1024}'
    return Refusal(413, "body_too_large", most, CLOSE)

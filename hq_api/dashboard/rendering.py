"""HTML and files: templates that escape everything, the headers that pages need, and files named by their content."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import Response

from corporation.clock import iso, utc_now
from hq_api.dashboard.overview import age, counted, minute, span

FOLDER: Final = Path(__file__).parent
ASSETS: Final = "/dashboard/static/"
MEDIA: Final = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # With no-referrer, the edge's own, browsers write `Origin: null` on our own forms, and the same-origin check of
    # a node without https could never succeed.
    "Referrer-Policy": "same-origin",
    "Vary": "Accept, Cookie",
}
ASSET_HEADERS: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


@dataclass(frozen=True)
class Asset:
    """A file of ours under the name that changes with its content, so that browsers may keep it for ever."""

    name: str
    media: str
    body: bytes


def page(template: str, status: int = 200, headers: Mapping[str, str] | None = None, **shown: Any) -> Response:
    """The answer that is `template` with `shown` in it, every text of it escaped."""
    text = _templates().get_template(template).render(now=utc_now(), **shown)
    # What a factory reported may hold half a surrogate pair, which no UTF-8 can carry.
    body = text.encode("utf-8", "replace")
    return Response(body, status, {**PAGE_HEADERS, **(headers or {})}, "text/html; charset=utf-8")


def asset(name: str) -> Response | None:
    """The file that is served under `name`, None when there is none: no name ever becomes a path."""
    found = next((one for one in assets().values() if one.name == name), None)
    return Response(found.body, 200, ASSET_HEADERS, found.media) if found else None


@cache
def assets() -> Mapping[str, Asset]:
    """Our files by their plain names; read once per process."""
    paths = [path for path in sorted((FOLDER / "static").iterdir()) if path.suffix in MEDIA]
    return {path.name: _asset(path) for path in paths}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(f"{path.stem}.{sha256(body).hexdigest()[:16]}{path.suffix}", MEDIA[path.suffix], body)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"age": age, "span": span, "counted": counted, "iso": iso, "minute": minute}
    templates.globals["asset"] = lambda name: ASSETS + assets()[name].name  # pyright: ignore
    return templates

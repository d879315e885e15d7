"""Is it well, which version is it, what is here: open to everybody, so it tells nothing else (contract http §12)."""

import asyncio
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from corporation.clock import iso, utc_now
from corporation.roles import FactoryRuntimePolicy
from corporation.settings import Settings
from hq_api.described_routes import also
from hq_api.gates import KeepsLedger
from hq_api.own_health import OwnHealth
from hq_api.responses import Json

PRODUCT: Final = "corporation"
PROFILES: Final = {
    "local_workstation": (False, "local", "one person's machine: nothing has to reach it from elsewhere"),
    "standalone_node": (False, "restricted", "a node on its own: whoever reaches it needs a token"),
    "vps": (True, "restricted", "a server on the open internet: let in only the addresses you know, and only with TLS"),
}
"""What goes with each deployment profile: whether an allow-list of addresses belongs in front of it, who should reach
it, and why. The process itself always asks for a token."""
router = APIRouter(tags=["health"])
full_router = APIRouter(tags=["health"])


# Both are async and have no dependency that is not: nothing here waits for a thread of the pool, which a frozen ledger
# fills.
@router.head("/api/v1/health", include_in_schema=False)
@router.get("/api/v1/health", responses=also({503: "The ledger does not answer; what is told is the same"}))
async def health(request: Request) -> Response:
    """200 when the ledger answers within three seconds, else 503; Redis is shown and never decides (H-5)."""
    node: Settings = request.app.state.settings
    own: OwnHealth = request.app.state.health
    ledger, broker_answers = await asyncio.gather(own.ledger(), own.broker_answers())
    well = ledger.error is None
    body = {
        "status": "healthy" if well else "unhealthy",
        "timestamp": iso(utc_now()),
        "version": version(PRODUCT),
        "db_status": ledger.status,
        "db_error": ledger.error,
        "runtime_path": "",
        "runtime_tools": {},
        "deployment_profile": _profile(node.deployment_profile),
        "redis_status": "connected" if broker_answers else "disconnected",
    }
    return Json(body, 200 if well else 503)


@router.head("/api/v1/hooks/readyz", include_in_schema=False)
@router.get("/api/v1/hooks/readyz")
async def readyz() -> Response:
    """Always 200, and at once; there is no hooks service here, and the body says so."""
    reason = "hooks_service_not_initialized"
    return Json({"ready": False, "service_initialized": False, "hooks_enabled": False, "reason": reason})


@full_router.get("/")
def root(request: Request) -> Response:
    """What this server is and where things are: what its policy refuses to everybody is not listed."""
    endpoints = served_endpoints(request.app.state.settings.policy)
    return Json({"name": PRODUCT, "version": version(PRODUCT), "status": "running", "endpoints": endpoints})


def served_endpoints(policy: FactoryRuntimePolicy) -> dict[str, str]:
    """The addresses worth knowing of a node with a full gateway and this `policy`, by name."""
    every = {
        "publish": ("/api/v1/delegation/publish", policy.opens_ledger and policy.can_publish_delegations),
        "missions": ("/api/v1/missions", policy.is_headquarters),
        "health": ("/api/v1/health", True),
        "version": ("/api/v1/version", policy.opens_ledger),
        "capabilities": ("/api/v1/factory/capabilities", policy.opens_ledger),
        "dashboard": ("/dashboard", policy.serves_pages),
    }
    return {name: path for name, (path, is_served) in every.items() if is_served}


@full_router.get("/api/v1/version")
def read_version(request: Request, _: KeepsLedger) -> Response:
    """The commit this process was started from (null outside a checkout) and since when it runs."""
    commit, branch = checkout()
    return Json({"commit": commit, "branch": branch, "started_at": iso(request.app.state.started_at)})


@cache
def checkout() -> tuple[str | None, str | None]:
    """Commit and branch of the checkout this code runs from; nulls when it was installed as a package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    command = ["git", "-C", str(root), "rev-parse", "HEAD", "--abbrev-ref", "HEAD"]
    try:
        words = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.split()
        return words[0], words[1]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None, None


def _profile(name: str) -> dict[str, Any]:
    allowlist, access, notes = PROFILES[name]
    return {
        "profile": name,
        "allowlist_required": allowlist,
        "ops_token_required": True,
        "remote_access": access,
        "notes": notes,
    }

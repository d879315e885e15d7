"""Is it well, which version is it, what is here: open to everybody, so it tells nothing else (contract http §12)."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis
from fastapi import APIRouter, Request
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from corporation.clock import iso, utc_now
from corporation.settings import Settings
from hq_api.dependencies import ReadSettings
from hq_api.responses import Json

PRODUCT = "corporation"
router = APIRouter(tags=["health"])
fleet_router = APIRouter(tags=["health"])


@router.get("/api/v1/health")
def health(request: Request, settings: ReadSettings) -> Response:
    """200 when the ledger answers, else 503; Redis is shown and never decides (H-5)."""
    db_status, db_error = _ledger_status(request.app.state.ledger)
    well = db_error is None
    body = {
        "status": "healthy" if well else "unhealthy",
        "timestamp": iso(utc_now()),
        "version": version(PRODUCT),
        "db_status": db_status,
        "db_error": db_error,
        "runtime_path": "",
        "runtime_tools": {},
        "deployment_profile": _profile(settings),
        "redis_status": _redis_status(request.app.state.redis),
    }
    return Json(body, 200 if well else 503)


@router.get("/api/v1/hooks/readyz")
def readyz() -> Response:
    """Always 200; there is no hooks service here, and the body says so."""
    reason = "hooks_service_not_initialized"
    return Json({"ready": False, "service_initialized": False, "hooks_enabled": False, "reason": reason})


@fleet_router.get("/")
def root() -> Response:
    """What this server is and where things are."""
    endpoints = {
        "publish": "/api/v1/delegation/publish",
        "missions": "/api/v1/missions",
        "health": "/api/v1/health",
        "version": "/api/v1/version",
    }
    return Json({"name": PRODUCT, "version": version(PRODUCT), "status": "running", "endpoints": endpoints})


@fleet_router.get("/api/v1/version")
def read_version(request: Request) -> Response:
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


def _ledger_status(engine: Engine | None) -> tuple[str, str | None]:
    if engine is None:
        return "disconnected", None  # a worker has no ledger to lose (E-7)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1 FROM corporation.missions LIMIT 1"))
    except SQLAlchemyError as error:
        # The class only: the driver's message may hold the address of the database.
        return ("error" if _answers(engine) else "disconnected"), type(error).__name__
    return "connected", None


def _answers(engine: Engine) -> bool:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _redis_status(client: "redis.Redis") -> str:
    try:
        client.ping()
    except redis.RedisError:
        return "disconnected"
    return "connected"


def _profile(settings: Settings) -> dict[str, Any]:
    return {
        "profile": settings.deployment_profile,
        "allowlist_required": settings.deployment_profile == "vps",
        "ops_token_required": True,
        "remote_access": "restricted",
        "notes": "",
    }

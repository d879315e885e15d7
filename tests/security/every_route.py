"""Every operation of the API's own description, and a headquarters in which there is something of everything."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parent.parent / "contracts" / "http"))

from served_api import JWT_SECRET as JWT_SECRET
from served_api import OPS_TOKEN as OPS_TOKEN
from served_api import PUBLISH, Api, rebuilding, registered, served, settings_for, token

from hq_api.api_description import SCOPES, describe
from hq_api.app import create_app

FACTORY_ID: Final = "desk-7"
"""Who the token of scope `factory` speaks for."""
OTHER_ID: Final = "desk-8"
"""A factory that may be removed and quarantined as often as anybody likes."""
CALLERS: Final = ("ops", "publish", "factory")
OPEN: Final = frozenset({"/", "/api/v1/health", "/api/v1/hooks/readyz", "/api/v1/version"})
"""What everybody may ask."""
BY_CREDENTIAL: Final = frozenset({"/auth/ops-token", "/api/v1/factory/enrol"})
"""What wants a secret that is no token of ours: a long-lived credential, a join code."""


@dataclass(frozen=True)
class Operation:
    """One method of one address, and which scopes may use it, None where no token is asked for."""

    method: str
    path: str
    scopes: tuple[str, ...] | None
    says: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


def description() -> dict[str, Any]:
    """What `/openapi.json` of a headquarters says, without serving it."""
    settings = settings_for("postgresql://nowhere/nothing")
    return describe(create_app(settings))


def operations() -> list[Operation]:
    """All that is described, in its order."""
    return [
        Operation(method.upper(), path, tuple(said[SCOPES]) if SCOPES in said else None, said)
        for path, methods in description()["paths"].items()
        for method, said in methods.items()
    ]


def tokens() -> dict[str, str]:
    """A good token of each scope; none has a name, so nobody can revoke it."""
    of_scope = {scope: token(scope, jti=None) for scope in ("ops", "publish")}
    return {**of_scope, "factory": token("factory", factory_id=FACTORY_ID, jti=None)}


@dataclass(frozen=True)
class Known:
    """Names by the parameter of an address that takes them, each of something that is there."""

    by_parameter: dict[str, list[str]]


@contextmanager
def inhabited(database_url: str, redis_url: str, wait: Callable[..., Any], folder: Path) -> Iterator[tuple[Api, Known]]:
    """A served headquarters with a factory, missions in several states, an attempt and dead letters."""
    changes = {"UA_REDIS_URL": redis_url, "UA_ARTIFACT_ROOT": str(folder), "UA_API_PUBLISHER_PER_MINUTE": "1000000"}
    settings = settings_for(database_url, **changes)
    with served(settings) as api, rebuilding(settings):
        registered(api, wait)
        yield api, populate(api)


def populate(api: Api) -> Known:
    """One factory, and missions that wait, run, succeeded and failed."""
    with api.as_token(tokens()["factory"]) as desk:
        beat = {"factory_id": FACTORY_ID, "capabilities": ["vp_general", "transport:http"], "slots": 8}
        desk.post("/api/v1/factory/registrations", json=beat).raise_for_status()
        names = ["runs", "succeeded", "failed", "also-failed"]
        _publish(api, names, target_factory_id=FACTORY_ID)
        claimed = desk.post("/api/v1/factory/missions/claim", json={"factory_id": FACTORY_ID, "max": 8}).json()
        attempts = {one["job_id"]: one["attempt_id"] for one in claimed["attempts"]}
        ends = {"succeeded": {"status": "SUCCESS"}, "failed": _FAILED, "also-failed": _FAILED}
        for job_id, end in ends.items():
            desk.post(f"/api/v1/factory/missions/{attempts[job_id]}/result", json=end).raise_for_status()
    _publish(api, ["waits"], target_factory_id=FACTORY_ID)
    api.ops.post("/api/v1/factory/registrations", json={"factory_id": OTHER_ID}).raise_for_status()
    letters = [entry["dlq_id"] for entry in api.ops.get("/api/v1/dlq").json()["entries"]]
    assert len(letters) == 2
    return Known(
        {
            "job_id": [*names, "waits"],
            "attempt_id": list(attempts.values()),
            "dlq_id": letters,
            "factory_id": [OTHER_ID, api.settings.factory_id],
        }
    )


_FAILED: Final = {"status": "FAILED", "error": "exit 2", "retryable": False}


def _publish(api: Api, names: list[str], **context: str) -> None:
    missions = [
        {"job_id": name, "payload": {"task": "Tidy the notes", "context": context}, "max_retries": 1} for name in names
    ]
    assert api.ops.post(PUBLISH, json={"missions": missions}).status_code == 202

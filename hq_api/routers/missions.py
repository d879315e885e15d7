"""Missions over HTTP: publish one or a thousand, list them, read one with its history (contract http §7)."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from corporation.clock import new_id
from corporation.db import transaction
from corporation.envelope import Defaults, EnvelopeRefused, MissionEnvelope, Problem
from corporation.missions import queries
from corporation.trust import audit
from hq_api.access import PUBLISH, Principal
from hq_api.addresses import AsWritten
from hq_api.auditing import act_of
from hq_api.body import BATCH_LIMIT_BYTES, LIMIT_BYTES, read_document
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import also
from hq_api.gates import Headquarters, MayPublish
from hq_api.paging import cursor_after, mission_filter, read_cursor
from hq_api.publishing import (
    FILLED_IN,
    MOST_IN_A_BATCH,
    Order,
    Refused,
    Rules,
    Verdict,
    batch_of,
    factory_orders,
    publish,
    read_entry,
    read_order,
)
from hq_api.responses import Json, Refusal

MISSIONS: Final = "/api/v1/missions"
Caller = Annotated[Principal, Depends(principal_with(PUBLISH))]


async def _order_form(request: Request) -> Any:
    return await read_document(request, LIMIT_BYTES, BATCH_LIMIT_BYTES)


def _body_schema() -> dict[str, Any]:
    one = MissionEnvelope.model_json_schema(ref_template="#/components/schemas/{model}")
    one["$defs"]["MissionPayload"]["properties"]["context"]["default"] = {}
    payload = one.pop("$defs")["MissionPayload"]
    one["properties"]["payload"] = payload
    for name in FILLED_IN:
        one["properties"][name] = {"anyOf": [one["properties"][name], {"type": "null"}]}
    one["required"] = ["payload"]  # over HTTP job_id and idempotency_key are filled in
    many = {"type": "array", "minItems": 1, "maxItems": MOST_IN_A_BATCH, "items": one}
    batch = {"type": "object", "required": ["missions"], "properties": {"missions": many}}
    schema = {"anyOf": [one, batch]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_OTHERWISE = also({200: "Known already", 207: "Of a batch some were refused"})
router = APIRouter(tags=["missions"], route_class=AsWritten)


@router.post("/api/v1/delegation/publish", status_code=202, openapi_extra=_body_schema(), responses=_OTHERWISE)
def publish_missions(
    request: Request,
    caller: Caller,
    _: MayPublish,
    document: Annotated[Any, Depends(_order_form)],
    ledger: Ledger,
    settings: ReadSettings,
    wait: bool = False,
) -> Response:
    """Every good mission of the body is committed when this answers, once per key, however often it is called.

    202 stored, 200 known already, 207 a batch of which some were refused; 404, 409, 422 and 429 store nothing.
    """
    key = _header_key(request)
    rules = Rules(caller, wait, settings.default_ttl_seconds, settings.waiting_limit)
    if not isinstance(document, dict) or "missions" not in document:
        order = read_order(document, Defaults(new_id(), key), ("body",))
        return _single(_publish(request, ledger, [order], rules)[0])
    entries = [
        read_entry(entry, Defaults(new_id(), f"{key}:{index}" if key else None), index)
        for index, entry in enumerate(batch_of(document))
    ]
    return _batch(_publish(request, ledger, entries, rules))


@router.get(MISSIONS)
def list_missions(
    _: Caller,
    __: Headquarters,
    ledger: Ledger,
    wanted: Annotated[queries.MissionFilter, Depends(mission_filter)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """Missions that match every filter, newest first; `next_cursor` is null on the last page."""
    after = read_cursor(cursor)
    with transaction(ledger) as connection:
        rows = queries.list_missions(connection, wanted, limit + 1, after)
    page = rows[:limit]
    more = cursor_after(page[-1]["created_at"], page[-1]["job_id"]) if len(rows) > limit else None
    return Json({"missions": page, "next_cursor": more})


@router.get(MISSIONS + "/{job_id:path}/events")
def list_events(
    _: Caller,
    __: Headquarters,
    ledger: Ledger,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """The mission's history from right after `after`; `next_after` continues it."""
    with transaction(ledger) as connection:
        events = queries.list_events(connection, _storable(job_id), after, limit)
    if events is None:
        raise _not_found()
    return Json({"events": events, "next_after": events[-1]["seq"] if events else after})


# Last, and with slashes: a job_id is any text, so `/` in it must not look like another route.
@router.get(MISSIONS + "/{job_id:path}")
def read_mission(
    _: Caller,
    __: Headquarters,
    ledger: Ledger,
    job_id: str,
    named: Annotated[str | None, Query(alias="job_id")] = None,
) -> Response:
    """The mission that `job_id` names, also as an alias, with its envelope, its attempts and its result.

    Where the path ends without a name the query has it: `.` and `..` are taken out of paths by many clients.
    """
    with transaction(ledger) as connection:
        mission = queries.find_mission(connection, _storable(job_id or named or ""))
    if mission is None:
        raise _not_found()
    return Json(mission)


def _publish(request: Request, ledger: Ledger, entries: list[Order | Refused], rules: Rules) -> list[Verdict]:
    with transaction(ledger) as connection:
        verdicts = publish(connection, entries, rules)
        for order in factory_orders(entries, verdicts, rules.caller.subject):
            word = order.word
            audit.write(connection, act_of(request, rules.caller, f"factory.{word.action}", order.target, word.note))
        return verdicts


def _header_key(request: Request) -> str | None:
    key = next((value for name, value in request.headers.raw if name == b"idempotency-key"), None)
    try:
        return key.decode("utf-8") if key else None
    except UnicodeDecodeError:
        problem = Problem("pattern", ("idempotency-key",), "The header Idempotency-Key should be UTF-8")
        raise EnvelopeRefused([problem]) from None


def _single(verdict: Verdict) -> Response:
    if isinstance(verdict, Refused):
        return Json({"detail": verdict.detail}, verdict.status)
    created = verdict.outcome == "stored"
    location = location_of(verdict.job_id)
    body = {"job_id": verdict.job_id, "state": verdict.state, "location": location, "created": created}
    return Json(body, 202 if created else 200, {"Location": location})


def _batch(verdicts: list[Verdict]) -> Response:
    entries = [_entry(index, verdict) for index, verdict in enumerate(verdicts)]
    accepted = sum(entry["status"] == 202 for entry in entries)
    existing = sum(entry["status"] == 200 for entry in entries)
    rejected = len(entries) - accepted - existing
    status = 207 if rejected else 202 if accepted else 200
    return Json({"accepted": accepted, "existing": existing, "rejected": rejected, "missions": entries}, status)


def _entry(index: int, verdict: Verdict) -> dict[str, Any]:
    if isinstance(verdict, Refused):
        return {"index": index, "status": verdict.status, "job_id": verdict.job_id, "detail": verdict.detail}
    status = 202 if verdict.outcome == "stored" else 200
    location = location_of(verdict.job_id)
    return {"index": index, "status": status, "job_id": verdict.job_id, "state": verdict.state, "location": location}


def location_of(job_id: str) -> str:
    """The address of a mission, whatever its job_id is made of."""
    return f"{MISSIONS}/?job_id={job_id}" if job_id in (".", "..") else f"{MISSIONS}/{quote(job_id, safe='')}"


def _storable(job_id: str) -> str:
    # PostgreSQL holds no NUL, so no mission has one in its name.
    if "\0" in job_id:
        raise _not_found()
    return job_id


def _not_found() -> Refusal:
    return Refusal(404, "unknown_mission", "no mission has this job_id")

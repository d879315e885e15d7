"""Why a mission is not running, and why one failed (contract http §7, H-29)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from corporation.clock import iso
from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.missions.explain import explain
from corporation.missions.explanation import Candidate, Explanation, MissionFacts
from corporation.missions.states import FINAL, State
from corporation.missions.store.explaining import read_facts
from corporation.missions.wording import NEVER_SECONDS
from hq_api.access import PUBLISH, Principal
from hq_api.addresses import AsWritten
from hq_api.broker_sight import BrokerAnswers
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal

router = APIRouter(tags=["missions"], route_class=AsWritten)


# The broker is asked after the principal and the gate: strangers make us ask nobody.
@router.get("/api/v1/missions/{job_id:path}/explain")
def explain_mission(
    _: Annotated[Principal, Depends(principal_with(PUBLISH))],
    __: Headquarters,
    job_id: str,
    ledger: Ledger,
    settings: ReadSettings,
    broker: BrokerAnswers,
) -> Response:
    """One sentence, the reasons as codes, every factory that could run it or why not, and what would help."""
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    with transaction(ledger) as connection:
        known = None if "\0" in job_id else read_facts(connection, job_id, thresholds, broker_answers=broker)
    if known is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    return Json(shown(known.mission, explain(known)))


def shown(mission: MissionFacts, answer: Explanation) -> dict[str, Any]:
    """The explanation in the shape of the contract's example, with our own keys after its own."""
    return {
        "job_id": mission.job_id,
        "state": mission.state,
        "waiting": mission.state not in FINAL and mission.state != State.RUNNING,
        "since": iso(answer.since) if answer.since else None,
        "next_attempt_at": iso(mission.next_attempt_at) if mission.next_attempt_at else None,
        "deadline_at": iso(mission.deadline_at) if mission.deadline_at else None,
        "reasons": [{"code": reason.code, "message": reason.message} for reason in answer.reasons],
        "candidates": [_candidate(one) for one in answer.candidates],
        "ahead": answer.ahead,
        "ahead_or_more": answer.ahead_or_more,
        "sentence": answer.sentence,
        "evidence": list(answer.evidence),
        "help": [{"what": one.what, "command": one.command} for one in answer.advice],
        "failure_class": answer.failure_class,
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    factory, view = one.factory, one.factory.view
    return {
        "factory_id": view.factory_id,
        "eligible": one.eligible,
        "reasons": list(one.reasons),
        "status": view.status,
        "paused_by_hq": factory.paused_by_hq,
        "slots": view.slots,
        "running": factory.running,
        "held": view.held,
        "silent_seconds": round(factory.silent_seconds, 1) if factory.silent_seconds < NEVER_SECONDS else None,
    }

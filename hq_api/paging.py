"""How a list of missions is asked for: filters that are checked, and cursors that nobody needs to understand."""

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import Query
from pydantic import AfterValidator, PlainValidator
from pydantic_core import PydanticCustomError

from corporation.missions.queries import MissionFilter, Position
from corporation.missions.states import State
from hq_api.responses import Refusal
from hq_api.validation import UNSTORABLE

_ISO_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ].*)?", re.DOTALL)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul_character", "The text holds a NUL character")
    return text


def _moment(given: object) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    text = str(given)
    try:
        if _ISO_DATE.fullmatch(text) is None:
            raise ValueError
        # A bare + in an address arrives as a space: 08:00:00+00:00 is meant.
        moment = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text) if "T" in text else text)
    except ValueError:
        raise PydanticCustomError("datetime_parsing", "Input should be a date and time of ISO-8601") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _states(text: str) -> str:
    if not {word.strip() for word in text.split(",")} <= set(State):
        raise PydanticCustomError("enum", "Input should be a list of {known}", {"known": ", ".join(State)})
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
States = Annotated[Text, AfterValidator(_states)]
Moment = Annotated[datetime | None, PlainValidator(_moment, json_schema_input_type=str)]


def mission_filter(
    state: States | None = None,
    mission_kind: Text | None = None,
    factory_id: Text | None = None,
    target_factory_id: Text | None = None,
    source: Text | None = None,
    idempotency_key: Text | None = None,
    created_after: Annotated[Moment, Query()] = None,
    created_before: Annotated[Moment, Query()] = None,
) -> MissionFilter:
    """The filters of the query; `state` and `mission_kind` are lists with commas, times without a zone are UTC."""
    return MissionFilter(
        states=words(state),
        kinds=words(mission_kind),
        factory_id=factory_id,
        target_factory_id=target_factory_id,
        source=source,
        idempotency_key=idempotency_key,
        created_after=created_after,
        created_before=created_before,
    )


def cursor_after(created_at: str, job_id: str) -> str:
    """The cursor that continues right after this row."""
    return base64.urlsafe_b64encode(json.dumps([created_at, job_id]).encode()).decode("ascii")


def read_cursor(cursor: str | None) -> Position | None:
    """Where the page begins; raises Refusal (400) for anything that `cursor_after` did not make."""
    if cursor is None:
        return None
    try:
        created_at, job_id = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not isinstance(job_id, str) or UNSTORABLE.search(job_id):
            raise ValueError
    except (ValueError, TypeError, RecursionError, binascii.Error):
        message = "this cursor is not one of ours; start again without it"
        raise Refusal(400, "bad_cursor", message) from None
    return Position(moment, job_id)


def words(text: str | None) -> list[str] | None:
    """The words of a list with commas; None when there is none."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]

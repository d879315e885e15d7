"""Which dead letters a caller means: the filters of a list's query, and those of a body that acts on many."""

from typing import Annotated, Final, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from corporation.envelope import EnvelopeRefused, Problem
from corporation.missions.letters_in_bulk import MOST_AT_ONCE
from corporation.missions.store.letter_selection import LetterFilter
from hq_api.paging import Moment, Text, words
from hq_api.shown_letters import number_of

Status = Literal["open", "replayed", "discarded", "all"]
Cause = Literal["malformed", "conflict", "failed", "timed_out"]
CAUSES: Final = ("malformed", "conflict", "failed", "timed_out")
MOST_NAMED: Final = 1000


def _causes(text: str) -> str:
    if not {word.strip() for word in text.split(",")} <= set(CAUSES):
        raise PydanticCustomError("enum", "Input should be a list of {known}", {"known": ", ".join(CAUSES)})
    return text


def _dlq_id(text: str) -> str:
    if number_of(text) is None:
        raise PydanticCustomError("dlq_id", "Input should be a dead letter's id, as dl-12")
    return text


DlqId = Annotated[str, AfterValidator(_dlq_id)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=500)]


def letter_filter(
    status: Status = "open",
    cause: Annotated[Text, AfterValidator(_causes)] | None = None,
    mission_kind: Text | None = None,
    factory_id: Text | None = None,
    job_id: Text | None = None,
    error: Text | None = None,
    created_after: Annotated[Moment, Query()] = None,
    created_before: Annotated[Moment, Query()] = None,
) -> LetterFilter:
    """The filters of the query; `cause` and `mission_kind` are lists with commas, `error` is a part of the reason.

    `mission_kind` and `factory_id` are those of missions that failed. Times without a zone are UTC.
    """
    return LetterFilter(
        status=None if status == "all" else status,
        causes=words(cause),
        kinds=words(mission_kind),
        factory_id=factory_id,
        job_id=job_id,
        error=error,
        created_after=created_after,
        created_before=created_before,
    )


class ChoiceForm(BaseModel):
    """Which open letters are meant: all that match every filter given. `all` stands for no filter, on purpose."""

    dlq_ids: Annotated[list[DlqId], Field(min_length=1, max_length=MOST_NAMED)] | None = None
    cause: Annotated[list[Cause], Field(min_length=1)] | None = None
    mission_kind: Annotated[list[Short], Field(min_length=1, max_length=100)] | None = None
    factory_id: Short | None = None
    job_id: Short | None = None
    error: Short | None = None
    created_after: Moment = None
    created_before: Moment = None
    after: DlqId | None = None
    up_to: DlqId | None = None
    all: bool = False
    dry_run: bool = False
    """Only count."""
    expect: Annotated[int, Field(ge=0)] | None = None
    """How many are meant, as a look before said; 409 when it is another number now."""
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = MOST_AT_ONCE

    @property
    def chosen(self) -> LetterFilter:
        """The filter; raises EnvelopeRefused when it would be every letter and nobody said `all`."""
        named = [number_of(one) or 0 for one in self.dlq_ids] if self.dlq_ids is not None else None
        filters = (self.dlq_ids, self.cause, self.mission_kind, self.factory_id, self.job_id, self.error)
        if not self.all and all(one is None for one in (*filters, self.created_after, self.created_before)):
            why = "Say which dead letters are meant, or all: true for every open one"
            raise EnvelopeRefused([Problem("missing", ("body",), why)])
        return LetterFilter(
            causes=self.cause,
            kinds=self.mission_kind,
            factory_id=self.factory_id,
            job_id=self.job_id,
            error=self.error,
            created_after=self.created_after,
            created_before=self.created_before,
            ids=named,
            after=number_of(self.after) if self.after else None,
            up_to=number_of(self.up_to) if self.up_to else None,
        )

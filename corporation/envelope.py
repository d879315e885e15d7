"""What a mission says and what becomes of it: the envelopes of the streams and of REST (contract streams §3, §7)."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from corporation import strict_json

LARGEST_INTEGER: Final = strict_json.DEFAULT.integer
# A deadline must fit a timestamp; a hundred years is longer than anybody waits.
LONGEST_TTL_SECONDS: Final = 3_155_760_000
LONGEST_JOB_ID: Final = 128
# A broadcast child's key is `<key>:<factory_id>`, which the ledger must still be able to index.
LONGEST_KEY: Final = {"strict": 128, "wire": 250}
MOST_CONTEXT_KEYS: Final = 64
MOST_LIST_ITEMS: Final = 1000

_BIDI: Final = "\u202a-\u202e\u2066-\u2069"
_NOT_IN_A_TASK: Final = re.compile(f"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_BIDI}]")
_NOT_IN_AN_ID: Final = re.compile(f"[\x01-\x1f\x7f-\x9f\u2028\u2029{_BIDI}]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,16}")
_OBJECT_EXPECTED: Final = "Input should be an object"
_KOMBUS: Final = frozenset({"__type__", "__value__"})
_HALF_A_PAIR: Final = "The text holds half a surrogate pair, which is no character"
_OUR_TYPES: Final = {"string_too_short": "too_short", "string_too_long": "too_long", "string_unicode": "lone_surrogate"}
_OUR_WORDS: Final = {"model_type": _OBJECT_EXPECTED, "lone_surrogate": _HALF_A_PAIR}

Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an envelope; `input` is a number, a boolean or None, since a text could be a secret."""

    type: str
    loc: Loc
    msg: str
    input: int | float | bool | None = None
    ctx: Mapping[str, Any] | None = None


class EnvelopeRefused(ValueError):
    """The envelope is not valid; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(map(str, p.loc)) or 'envelope'}: {p.msg}" for p in problems))


@dataclass(frozen=True)
class Defaults:
    """What REST fills in: a fresh `job_id`, and the key of the `Idempotency-Key` header if there was one."""

    job_id: str
    idempotency_key: str | None = None


def _profile(info: ValidationInfo) -> Literal["strict", "wire"]:
    return "wire" if info.context == "wire" else "strict"


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul_character", "The text holds a NUL character, which cannot be stored")
    if _SURROGATE.search(text):
        raise PydanticCustomError("lone_surrogate", _HALF_A_PAIR)
    return text


def _clean_id(text: str, info: ValidationInfo) -> str:
    if _profile(info) == "strict" and _NOT_IN_AN_ID.search(text):
        raise PydanticCustomError("pattern", "Control characters and line breaks are not allowed here")
    return text


def _short_key(text: str, info: ValidationInfo) -> str:
    if len(text) > (limit := LONGEST_KEY[_profile(info)]):
        raise PydanticCustomError("too_long", "The text is longer than {limit} characters", {"limit": limit})
    return text


def _clean_task(text: str, info: ValidationInfo) -> str:
    if _profile(info) == "strict" and _NOT_IN_A_TASK.search(text):
        raise PydanticCustomError("value_error", "Control characters and direction overrides are not allowed here")
    return text


def _wire_number(value: Any, info: ValidationInfo) -> Any:
    """Producers on the stream may send numbers as text (S-3); nothing else is bent."""
    if _profile(info) == "wire" and isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value)
    return value


def _context(value: Any) -> Any:
    """Context is free data, yet it must be storable and of a size that people and browsers can take."""
    if isinstance(value, dict):
        _check_bounds(value)
        if not isinstance(value.get("target_factory_id"), str | None):
            # It names one factory (S-24): read as "any", a slip of type would send the mission to all of them.
            raise PydanticCustomError("string_type", "target_factory_id should be a valid string or null")
    return value


def _check_bounds(value: Any) -> None:
    if isinstance(value, str):
        _storable(value)
    elif isinstance(value, dict):
        _check_keys(value)
        for item in value.values():
            _check_bounds(item)
    elif isinstance(value, list):
        if len(value) > MOST_LIST_ITEMS:
            raise PydanticCustomError("too_long", "A list may have {limit} items", {"limit": MOST_LIST_ITEMS})
        for item in value:
            _check_bounds(item)


def _check_keys(value: dict[Any, Any]) -> None:
    if len(value) > MOST_CONTEXT_KEYS:
        raise PydanticCustomError("too_long", "An object may have {limit} keys", {"limit": MOST_CONTEXT_KEYS})
    if value.keys() == _KOMBUS:
        # A factory's kombu would make a date, bytes or an error of it, so its gate refuses the message.
        why = "An object of exactly __type__ and __value__ would reach no factory; name its keys otherwise"
        raise PydanticCustomError("plain_json_only", why)
    for key in value:
        _storable(str(key))


def _whole_number(smallest: int, largest: int = LARGEST_INTEGER) -> Any:
    return Field(ge=smallest, le=largest)


_Text = Annotated[StrictStr, Field(min_length=1), AfterValidator(_storable)]
_JobId = Annotated[_Text, Field(max_length=LONGEST_JOB_ID), AfterValidator(_clean_id)]
_Key = Annotated[_Text, AfterValidator(_short_key), AfterValidator(_clean_id)]
_Task = Annotated[_Text, AfterValidator(_clean_task)]
_Number = Annotated[StrictInt, BeforeValidator(_wire_number)]
_Context = Annotated[dict[str, Any], BeforeValidator(_context)]


class MissionPayload(BaseModel):
    """The order itself: a text, and data that belongs to it."""

    model_config = ConfigDict(frozen=True)

    task: _Task
    context: _Context = {}


class MissionEnvelope(BaseModel):
    """One mission as its publisher wrote it, after defaults; unknown keys are dropped (S-8, H-2)."""

    model_config = ConfigDict(frozen=True)

    job_id: _JobId
    idempotency_key: _Key
    priority: Annotated[_Number, _whole_number(-LARGEST_INTEGER)] = 1
    timeout_seconds: Annotated[_Number, _whole_number(1)] = 3600
    max_retries: Annotated[_Number, _whole_number(0)] = 3
    payload: MissionPayload
    mission_kind: Annotated[StrictStr, AfterValidator(_storable)] | None = None
    ttl_seconds: Annotated[StrictInt, _whole_number(1, LONGEST_TTL_SECONDS)] | None = None


class MissionResultEnvelope(BaseModel):
    """The one final word on a mission, as the results stream carries it (contract streams §7)."""

    model_config = ConfigDict(frozen=True)

    job_id: Annotated[StrictStr, Field(min_length=1)]
    status: Literal["SUCCESS", "FAILED"]
    result: Any
    error: StrictStr | None

    @model_validator(mode="after")
    def _error_fits_the_status(self) -> "MissionResultEnvelope":
        if (self.status == "SUCCESS") != (self.error is None) or self.error == "":
            raise PydanticCustomError("value_error", "SUCCESS has no error, FAILED has a non-empty one")
        return self


def parse_strict(document: Any, defaults: Defaults) -> MissionEnvelope:
    """The envelope in `document` by the rules of REST; raises EnvelopeRefused with every problem at once.

    An absent `job_id` is filled from `defaults`, an absent key from the header's or else from the `job_id`.
    """
    if not isinstance(document, dict):
        raise EnvelopeRefused([Problem("model_type", (), _OBJECT_EXPECTED)])
    key = defaults.idempotency_key or defaults.job_id
    envelope = _validated({"job_id": defaults.job_id, "idempotency_key": key, **document}, "strict")
    if "idempotency_key" not in document and defaults.idempotency_key is None:
        return envelope.model_copy(update={"idempotency_key": envelope.job_id})
    if defaults.idempotency_key not in (None, envelope.idempotency_key):
        raise EnvelopeRefused(
            [Problem("value_error", ("idempotency_key",), "The key differs from the header Idempotency-Key")]
        )
    return envelope


def parse_wire(document: Any) -> MissionEnvelope:
    """The envelope in `document` by the laxer rules of the stream (S-3); raises EnvelopeRefused."""
    return _validated(document, "wire")


def wire(envelope: MissionEnvelope) -> dict[str, Any]:
    """What we write for `envelope`: always the six keys, the optional ones only when they say something (S-9)."""
    written = envelope.model_dump()
    return {key: value for key, value in written.items() if value is not None}


def wire_result(result: MissionResultEnvelope) -> dict[str, Any]:
    """What we write for `result`: all four keys, nulls included (S-9)."""
    return result.model_dump()


def body_digest(envelope: MissionEnvelope) -> bytes:
    """The SHA-256 of the body of S-17: equal for two envelopes exactly when they ask for the same."""
    body = envelope.model_dump()
    body["payload"]["context"].pop("_retry_count", None)
    return hashlib.sha256(strict_json.dump(body).encode("ascii")).digest()


def _validated(document: Any, profile: Literal["strict", "wire"]) -> MissionEnvelope:
    try:
        return MissionEnvelope.model_validate(document, context=profile)
    except ValidationError as error:
        raise EnvelopeRefused([_problem(detail) for detail in error.errors(include_url=False)]) from None


def _problem(detail: ErrorDetails) -> Problem:
    kind = _OUR_TYPES.get(detail["type"], detail["type"])
    shown = detail["input"] if isinstance(detail["input"], int | float) else None
    return Problem(kind, tuple(detail["loc"]), _OUR_WORDS.get(kind, detail["msg"]), shown, detail.get("ctx"))

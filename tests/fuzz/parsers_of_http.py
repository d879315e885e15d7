"""Parsers at HQ's door: tokens, cookies, forms, parameters and headers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from canary import secret
from hypothesis import strategies as st
from parsers import Parser
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from starlette.requests import HTTPConnection
from strange_input import ANYTHING, bodies, data, documents, texts, written

from corporation.envelope import Defaults, EnvelopeRefused, parse_strict
from corporation.missions.kinds import resolve
from corporation.settings import load_settings
from corporation.strict_json import JsonRefused, dump, parse
from hq_api import (
    access,
    beat_form,
    edge,
    edited_orders,
    letter_filters,
    log_events,
    paging,
    publishing,
    rate_limits,
    shown_letters,
)
from hq_api.dashboard import login_form, same_origin, session
from hq_api.responses import Refusal
from hq_api.routers import (
    adoption,
    attempts,
    bootstrap_jobs,
    bootstrap_repositories,
    cancelling,
    claims,
    dead_letters,
    dead_letters_in_bulk,
    enrolment,
    factory_access,
    factory_control,
    queues,
    results,
    tokens,
)
from hq_api.validation import checked, refuse_unstorable

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
SIGNING: Final = secret("signing")
SETTINGS: Final = load_settings(
    {"FACTORY_ROLE": "HEADQUARTERS", "UA_OPS_TOKEN": secret("ops-token"), "UA_OPS_JWT_SECRET": SIGNING}
)
CLAIMS: Final = {
    **{"iss": "universal-agent", "aud": "ua-ops", "sub": "desk", "iat": int(NOW.timestamp()), "jti": "j-1"},
    **{"exp": int(NOW.timestamp()) + 3600, "scope": "factory", "factory_id": "desk-7", "epoch": 0},
}
SESSION: Final = session.open_session("ops", "j-1", NOW, "t-1")
COOKIE: Final = session.seal(SESSION, SecretStr(SIGNING), None)

ORDER: Final = {
    **{"job_id": "j-1", "idempotency_key": "k-1", "priority": 3, "timeout_seconds": 900, "max_retries": 2},
    "payload": {"task": "Tidy", "context": {"mission_kind": "research_task", "target_factory_id": "desk-7"}},
    **{"ttl_seconds": 86400, "mission_kind": "general_task"},
}
BEAT: Final = {
    **{"factory_id": "desk-7", "factory_role": "LOCAL_WORKER", "registration_status": "online", "slots": 2},
    **{"capabilities": ["vp_general"], "metadata": {"hostname": "desk-7"}, "heartbeat_latency_ms": 38.5},
    "running": [{"attempt_id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11", "progress": {"percent": 4}}],
    "workers": [{"name": "w", "slots": 2, "queues": ["q"], "loop_age_seconds": 0.1}],
    "cost_snapshot": {
        **{"period_start": "2026-06-01T00:00:00+00:00", "period_end": "2026-06-01T08:00:00+00:00"},
        **{"estimated_cost_usd": 0.2, "breakdown_by_model": {"m": {"requests": 1}}},
    },
    **{"instance_id": "i", "beat_number": 7, "interval_seconds": 60, "echo": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"},
}
RESULT: Final = {
    **{"status": "FAILED", "error": "exit 2", "retryable": True, "result": {"a": 1}, "memo": {"b": 2}},
    **{"report": {"outcome": "failed", "error": "x"}, "usage": {"models": {"m": {"requests": 1}}}},
}
CLAIM: Final = {
    **{"factory_id": "desk-7", "max": 4, "mission_kinds": ["general_task"], "wait_seconds": 0.0, "worker_id": "w"},
    "holding": ["5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"],
}


def _json(raw: bytes) -> None:
    document = parse(raw)

    assert parse(dump(document).encode()) == document


def _order(document: Any) -> None:
    envelope = parse_strict(document, Defaults("made-up", None))
    resolve(envelope, frozenset({"odd"}))

    assert parse_strict(envelope.model_dump(exclude_none=True), Defaults("other", None)) == envelope


def _form(model: type[BaseModel], then: Callable[[Any], object] = repr) -> Callable[[Any], None]:
    def read(document: Any) -> None:
        refuse_unstorable(document)
        then(checked(model, document))

    return read


def _beat(form: Any) -> None:
    beat_form.beat_of(form, "192.0.2.1")
    beat_form.snapshot_of(form)
    beat_form.signs_of(form.running)


def _said(error: BaseException) -> str:
    """The words of a refusal without the places that they are about: those are keys, which the caller chose."""
    assert isinstance(error, EnvelopeRefused)
    return "".join(f"{one.type} {one.msg} {one.input} {one.ctx}" for one in error.problems)


def _row(form: type[BaseModel], *good: Any, then: Callable[[Any], object] = repr) -> Parser:
    """A form of a body, which comes through the parser of JSON first."""
    name = f"{form.__module__}:{form.__name__}"
    return Parser(name, bodies(*(good or ({},))), _form(form, then), (EnvelopeRefused,), words=_said)


def _signed(claims: Any) -> bytes:
    try:
        return jwt.encode(claims, SIGNING, algorithm="HS256").encode()
    except (TypeError, ValueError):
        return b"a.b.c"


def _headers(pairs: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in pairs]


def _answer_to_headers(pairs: list[tuple[str, str]]) -> None:
    headers = _headers(pairs)
    name = edge.request_id(headers)
    assert name is None or (name.isascii() and name.isprintable())
    edge.too_much_header({"headers": headers, "query_string": b"", "raw_path": None})
    session.only_value([value for _, value in pairs])


def _opened(value: str) -> None:
    opened = session.unseal(value, SecretStr(SIGNING), None, NOW)

    assert opened == SESSION


def _parameter(kind: Any) -> Callable[[Any], object]:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return adapter.validate_python


def _cursor(cursor: str) -> None:
    place = paging.read_cursor(cursor)

    assert place is None or place.created_at.tzinfo is not None


OF_HTTP: Final = [
    Parser("corporation.strict_json:parse", written(ORDER, BEAT, RESULT), _json, (JsonRefused,)),
    Parser("corporation.envelope:parse_strict", bodies(ORDER), _order, (EnvelopeRefused,), words=_said),
    Parser(
        "hq_api.publishing:read_entry",
        bodies(ORDER),
        lambda entry: publishing.read_entry(entry, Defaults("made-up", "k"), 0),
    ),
    Parser(
        "hq_api.publishing:read_order",
        bodies(ORDER, {**ORDER, "job_id": None, "idempotency_key": None}),
        lambda order: publishing.read_order(order, Defaults("made-up", "k"), ("body",)),
        (EnvelopeRefused,),
        words=_said,
    ),
    Parser(
        "hq_api.edited_orders:edited_order",
        bodies({"envelope": ORDER}, ORDER).filter(lambda body: isinstance(body, dict)),
        lambda body: edited_orders.edited_order(body, "made-up"),
        (EnvelopeRefused,),
        words=_said,
    ),
    Parser(
        "hq_api.publishing:batch_of",
        documents([ORDER]),
        lambda m: publishing.batch_of({"missions": m}),
        (EnvelopeRefused,),
    ),
    Parser(
        "hq_api.access:judge",
        st.one_of(data(_signed(CLAIMS), secret("ops-token").encode()), documents(CLAIMS).map(_signed)),
        lambda token: access.judge(token, SETTINGS, NOW),
        (access.Unauthorized,),
    ),
    Parser("hq_api.dashboard.session:unseal", texts(COOKIE), _opened, (session.CookieRefused,)),
    Parser(
        "hq_api.dashboard.login_form:parse_form",
        data(b"token=abc&next=%2Fdashboard%2Fcorporation", b"token=%ff&next=//evil"),
        login_form.parse_form,
        (Refusal,),
    ),
    Parser(
        "hq_api.dashboard.login_form:local_page",
        texts("/dashboard/corporation", "//evil.example", "/dashboard/../x"),
        lambda goal: _must(login_form.local_page(goal).startswith("/dashboard")),
    ),
    Parser(
        "hq_api.dashboard.same_origin:is_same_origin",
        st.tuples(
            st.lists(texts("same-origin", "cross-site"), max_size=2),
            st.lists(texts("http://hq:8002", "https://hq:8002", "http://[::1"), max_size=2),
            texts("hq:8002"),
        ),
        lambda said: same_origin.is_same_origin(said[0], said[1], "http", said[2]),
    ),
    Parser(
        "hq_api.edge:request_id",
        st.lists(st.tuples(texts("x-request-id", "cookie"), texts("req-1", f"ua_dashboard_auth={COOKIE}")), max_size=5),
        _answer_to_headers,
    ),
    Parser(
        "hq_api.rate_limits:address_of",
        texts("192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "fe80::1%eth0"),
        lambda host: rate_limits.address_of(HTTPConnection({"type": "http", "client": (host, 1), "headers": []})),
    ),
    Parser(
        "hq_api.paging:read_cursor", texts(paging.cursor_after("2026-06-01T00:00:00+00:00", "j-1")), _cursor, (Refusal,)
    ),
    Parser("hq_api.shown_letters:read_cursor", texts("ZGwtNw=="), shown_letters.read_cursor, (Refusal,)),
    Parser("hq_api.log_events:read_position", texts("17", "²"), log_events.read_position),
    Parser("hq_api.paging:Moment", ANYTHING, _parameter(paging.Moment), (ValidationError,), echoes="becomes H-3"),
    Parser(
        "hq_api.paging:States",
        texts("waiting,running"),
        _parameter(paging.States),
        (ValidationError,),
        echoes="the same",
    ),
    _row(beat_form.BeatForm, BEAT, then=_beat),
    _row(results.ResultForm, RESULT, then=lambda form: form.as_report()),
    _row(claims.ClaimForm, CLAIM),
    _row(attempts.ProgressForm, {"percent": 4, "log": ["line"], "log_from": 1, "elapsed_seconds": 2.5}),
    _row(tokens.TokenForm, {"subject": "s", "scope": "factory", "factory_id": "desk-7"}),
    _row(tokens.RevokeForm, {"jti": "j-1"}),
    _row(cancelling.CancelForm, {"reason": "no more"}),
    _row(adoption.AdoptForm, {"attempt": 1}),
    _row(bootstrap_jobs.ResultForm, {"worker_id": "w", "status": "completed", "stdout": "x"}),
    _row(bootstrap_repositories.OrderForm, {"run_path": "youtube-tutorial-creation/x", "timeout_seconds": 900}),
    _row(factory_control.ControlForm, {"target_factory_id": "desk-7", "action": "pause"}),
    _row(enrolment.EnrolForm, {"join_code": "J7Q2", "factory_id": "desk-7", "hostname": "h"}),
    _row(factory_access.AccessForm, {"factory_id": "desk-7", "note": "why"}),
    _row(factory_access.RenameForm, {"factory_id": "desk-7", "new_id": "desk-8"}),
    _row(dead_letters.ReplayForm, {"job_id": "j-2", "idempotency_key": "k-2"}),
    _row(dead_letters.DiscardForm, {"note": "why"}),
    _row(letter_filters.ChoiceForm, {"cause": ["failed"], "created_after": "2026-06-01T00:00:00Z", "limit": 5}),
    _row(dead_letters_in_bulk.DiscardManyForm, {"all": True, "note": "why"}),
    _row(enrolment.JoinCodeForm, {"factory_id": "desk-7", "ttl_seconds": 900}),
    _row(bootstrap_jobs.WorkerForm, {"worker_id": "w"}),
    _row(queues.RebuildForm, {}),
]


def _must(right: bool) -> None:
    assert right

"""Orders become missions: each is checked, all good ones are stored in one transaction, each gets its own verdict."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from corporation.envelope import Defaults, EnvelopeRefused, MissionEnvelope, Problem, parse_strict
from corporation.missions.kinds import ResolvedKind, known_kinds, resolve
from corporation.missions.orders import Order as FactoryOrder
from corporation.missions.orders import order_in
from corporation.missions.queries import advertised_kinds, count_waiting, unknown_factories
from corporation.missions.submit import Receipt, Submission, submit
from hq_api.access import OPS, Principal
from hq_api.body import LIMIT_BYTES
from hq_api.responses import Refusal, described

SOURCE: Final = "rest"
MOST_IN_A_BATCH: Final = 1000
FILLED_IN: Final = ("job_id", "idempotency_key")
"""What an order may leave out, and what it may say null to: that is how many serialisers write \"not set\"."""
NO_SUCH_FACTORY: Final = (
    "unknown_factory: the target factory never registered; publish with wait=true to wait until it does"
)
OPS_ONLY: Final = "forbidden: orders to factories need the scope ops"


@dataclass(frozen=True)
class Refused:
    """Why one order was not taken; `detail` is a text, or the list of H-3."""

    status: int
    detail: str | list[dict[str, Any]]
    job_id: str | None = None


@dataclass(frozen=True)
class Order:
    """One mission as somebody asked for it; `at` is where it stood in the body."""

    envelope: MissionEnvelope
    at: tuple[str | int, ...]


@dataclass(frozen=True)
class Rules:
    """What decides beside the orders themselves."""

    caller: Principal
    wait: bool
    default_ttl_seconds: int
    waiting_limit: int


Verdict = Receipt | Refused


def batch_of(document: dict[str, Any]) -> list[Any]:
    """The entries of a batch; raises EnvelopeRefused for the whole call when there are none or too many (H-24)."""
    entries = document["missions"]
    if not isinstance(entries, list):
        raise EnvelopeRefused([Problem("list_type", ("missions",), "Input should be a valid list")])
    if not entries:
        raise EnvelopeRefused([Problem("too_short", ("missions",), "A batch has at least one mission")])
    if len(entries) > MOST_IN_A_BATCH:
        message = f"A batch has at most {MOST_IN_A_BATCH} missions"
        raise EnvelopeRefused([Problem("too_long", ("missions",), message)])
    return entries


def read_order(document: Any, defaults: Defaults, at: tuple[str | int, ...]) -> Order:
    """The order in `document`, its names filled in from `defaults`; raises EnvelopeRefused."""
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if value is not None or key not in FILLED_IN}
    return Order(parse_strict(document, defaults), at)


def read_entry(document: Any, defaults: Defaults, index: int) -> Order | Refused:
    """One entry of a batch as an order, or why it is none; its neighbours do not suffer."""
    at = ("body", "missions", index)
    if len(json.dumps(document)) > LIMIT_BYTES:
        return Refused(413, f"body_too_large: one mission may have {LIMIT_BYTES // 1024} KiB")
    try:
        return read_order(document, defaults, at)
    except EnvelopeRefused as refusal:
        return Refused(422, described(refusal.problems, at))


def publish(connection: Connection, entries: Sequence[Order | Refused], rules: Rules) -> list[Verdict]:
    """A verdict for each of `entries`, in order; what is stored is so once the caller commits.

    Raises Refusal (429) when too many missions would wait: then the caller rolls back and nothing is stored.
    """
    checked = _checked(connection, entries, rules.caller)
    submissions = [one for one in checked if isinstance(one, Submission)]
    receipts = iter(_submitted(connection, submissions, rules))
    verdicts = [one if isinstance(one, Refused) else next(receipts) for one in checked]
    if any(isinstance(one, Receipt) and one.outcome == "stored" for one in verdicts):
        check_room(connection, rules.waiting_limit)
    return verdicts


def factory_orders(entries: Sequence[Order | Refused], verdicts: Sequence[Verdict], by: str) -> list[FactoryOrder]:
    """What these entries, as far as they were stored, say of factories: each is an act of who published them."""
    stored = [
        entry.envelope
        for entry, verdict in zip(entries, verdicts, strict=True)
        if isinstance(entry, Order) and isinstance(verdict, Receipt) and verdict.outcome == "stored"
    ]
    found = [order_in(resolve(one).kind, one.payload.context, by) for one in stored]
    return [order for order in found if order is not None]


def _checked(
    connection: Connection, entries: Sequence[Order | Refused], caller: Principal
) -> list[Submission | Refused]:
    kinds: frozenset[str] = frozenset()
    if not all(resolve(order.envelope).known for order in entries if isinstance(order, Order)):
        kinds = advertised_kinds(connection)
    return [one if isinstance(one, Refused) else _check(one, kinds, caller) for one in entries]


def _check(order: Order, kinds: frozenset[str], caller: Principal) -> Submission | Refused:
    resolved = resolve(order.envelope, kinds)
    if not resolved.known:
        return Refused(422, described([unknown_kind(resolved, kinds)], order.at), order.envelope.job_id)
    if resolved.system and not caller.may(OPS):
        return Refused(403, OPS_ONLY, order.envelope.job_id)
    return Submission(order.envelope, resolved, SOURCE, by=caller.subject)


def unknown_kind(resolved: ResolvedKind, kinds: frozenset[str]) -> Problem:
    """What is wrong with an order whose kind nobody knows (H-25)."""
    known = known_kinds(kinds)
    return Problem("unknown_kind", resolved.loc, f"Known kinds are {', '.join(known)}", None, {"known_kinds": known})


def _submitted(connection: Connection, submissions: Sequence[Submission], rules: Rules) -> list[Verdict]:
    """Verdicts in order; a mission that is known already is found before its target is judged (streams §5)."""
    targets = {_target(one) for one in submissions} - {None}
    strange = unknown_factories(connection, [str(one) for one in targets]) if targets and not rules.wait else set[str]()
    homeless = [one for one in submissions if _target(one) in strange]
    good = [one for one in submissions if _target(one) not in strange]
    receipts = iter(submit(connection, good, rules.default_ttl_seconds))
    others = iter(_only_known(connection, homeless, rules.default_ttl_seconds))
    verdicts = [next(others) if _target(one) in strange else next(receipts) for one in submissions]
    return [_refused_conflict(one) for one in verdicts]


def _only_known(connection: Connection, submissions: Sequence[Submission], ttl_seconds: int) -> list[Verdict]:
    """Receipts for what the ledger has already, 404 for the rest, of which nothing stays stored."""
    if not submissions:
        return []
    trial = connection.begin_nested()
    receipts = submit(connection, submissions, ttl_seconds)
    trial.rollback()
    # Also a repetition inside this batch is homeless: what it would repeat was rolled back.
    undone = {receipt.job_id for receipt in receipts if receipt.outcome == "stored"}
    pairs = list(zip(submissions, receipts, strict=True))
    again = iter(submit(connection, [one for one, receipt in pairs if receipt.job_id not in undone], ttl_seconds))
    return [
        Refused(404, NO_SUCH_FACTORY, one.envelope.job_id) if receipt.job_id in undone else next(again)
        for one, receipt in pairs
    ]


def _refused_conflict(verdict: Verdict) -> Verdict:
    if isinstance(verdict, Receipt) and verdict.outcome == "conflict":
        return Refused(409, f"job_id {verdict.job_id} exists with a different body", verdict.job_id)
    return verdict


def check_room(connection: Connection, limit: int) -> None:
    """Raises 429 when more missions wait than may: what this transaction stored goes with it."""
    if count_waiting(connection, limit + 1) > limit:
        raise queue_full(limit)


def queue_full(limit: int) -> Refusal:
    """429: as many missions wait as may."""
    return Refusal(429, "queue_full", f"{limit} missions wait already; try again later", {"Retry-After": "30"})


def _target(submission: Submission) -> str | None:
    return submission.envelope.payload.context.get("target_factory_id") or None

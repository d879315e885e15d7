"""The order that a replay brings instead of the old one: read by the rules of publishing, and never overlooked."""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import Connection

from corporation.envelope import Defaults, EnvelopeRefused, MissionEnvelope, MissionPayload, Problem, parse_strict
from corporation.missions.kinds import resolve
from corporation.missions.queries import advertised_kinds, unknown_factories
from hq_api.publishing import unknown_kind
from hq_api.responses import Refusal

OF_AN_ORDER: Final = frozenset(MissionEnvelope.model_fields) | frozenset(MissionPayload.model_fields)
BELONGS_INSIDE: Final = "It belongs into the object `envelope`, which holds the whole order to run instead"


def edited_order(document: dict[str, Any], made_up: str, *, beside: Collection[str] = ()) -> MissionEnvelope | None:
    """The order under `envelope`, by the strict rules of REST; names it leaves out are `made_up`. None without one.

    Raises EnvelopeRefused also for parts of an order outside of it, but those that may stand `beside` it: they would
    be ignored (H-2), and the old order would run where somebody asked for another.
    """
    strays = [name for name in document if name in OF_AN_ORDER | {"target_factory_id"} and name not in beside]
    if document.get("envelope") is None:
        if strays:
            raise EnvelopeRefused([Problem("extra_forbidden", (name,), BELONGS_INSIDE) for name in strays])
        return None
    try:
        return parse_strict(document["envelope"], Defaults(made_up))
    except EnvelopeRefused as refused:
        raise _inside(refused.problems) from None


def judge(connection: Connection, order: MissionEnvelope, *, wait: bool) -> None:
    """Raises as publishing does, when nobody knows the order's kind or, unless it may `wait`, its target."""
    kinds = advertised_kinds(connection)
    resolved = resolve(order, kinds)
    if not resolved.known:
        raise _inside([unknown_kind(resolved, kinds)])
    check_target(connection, order.payload.context.get("target_factory_id"), wait=wait)


def check_target(connection: Connection, factory_id: str | None, *, wait: bool) -> None:
    """Raises Refusal (404) when a factory of this name never registered, unless the mission may `wait` for it."""
    if factory_id and not wait and unknown_factories(connection, [factory_id]):
        raise Refusal(
            404, "unknown_factory", "the target factory never registered; say ?wait=true to wait until it does"
        )


def _inside(problems: list[Problem]) -> EnvelopeRefused:
    return EnvelopeRefused([Problem(p.type, ("envelope", *p.loc), p.msg, p.input, p.ctx) for p in problems])

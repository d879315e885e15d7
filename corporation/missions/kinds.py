"""Which kind a mission is, who runs it, and which label a factory needs for it (contract streams §4, D4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from corporation.envelope import MissionEnvelope

GENERAL: Final = "general_task"


@dataclass(frozen=True)
class Kind:
    """One registered kind; `needs` is the capability label a factory must have, None when any factory will do."""

    name: str
    executor: str
    needs: str | None
    system: bool = False


@dataclass(frozen=True)
class ResolvedKind:
    """What a mission turned out to be; when not `known`, it runs as `general_task` or is refused, as the door decides.

    `loc` is where in the envelope the kind was found, empty when nothing named one.
    """

    kind: str
    requested_kind: str
    known: bool
    loc: tuple[str, ...]

    @property
    def system(self) -> bool:
        """Whether this is an order to the factory itself, which only operators may give."""
        return self.kind in KINDS and KINDS[self.kind].system


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("coding_task", "vp.coder.primary", "vp_coder"),
            Kind("research_task", "vp.general.primary", "vp_general"),
            Kind(GENERAL, "vp.general.primary", "vp_general"),
            Kind("bootstrap_repo", "script", "tutorial_bootstrap_consumer"),
            Kind("system:update_factory", "factory", None, system=True),
            Kind("system:pause_factory", "factory", None, system=True),
            Kind("system:resume_factory", "factory", None, system=True),
        )
    }
)
ALIASES: Final[Mapping[str, str]] = MappingProxyType({"tutorial_bootstrap_repo": "bootstrap_repo"})
AGENT_KINDS: Final = frozenset(kind.name for kind in KINDS.values() if kind.executor.startswith("vp."))
"""Kinds that an agent does. This version runs none: they need a handler of somebody's own."""
SYSTEM_PREFIX: Final = "system:"
SYSTEM_ORDERS: Final = frozenset({"system:pause_factory", "system:resume_factory"})
"""Orders that a factory carries out itself, also while it takes no missions (F-22)."""


def resolve(envelope: MissionEnvelope, advertised: frozenset[str] = frozenset()) -> ResolvedKind:
    """The kind of a mission by S-12 to S-16; `advertised` are kinds that factories say they run besides ours."""
    named = (
        (("payload", "context", "mission_kind"), envelope.payload.context.get("mission_kind")),
        (("mission_kind",), envelope.mission_kind),
    )
    for loc, word in named:
        if requested := _normal(word):
            return _explicit(requested, loc, advertised)
    if prefix := _prefix(envelope.payload.task):
        return ResolvedKind(ALIASES.get(prefix, prefix), prefix, True, ("payload", "task"))
    return ResolvedKind(GENERAL, GENERAL, True, ())


def needed_label(kind: str) -> str | None:
    """The capability label a factory must have to be sent `kind`; None when any factory will do."""
    registered = KINDS.get(stored_kind(kind))
    return registered.needs if registered else f"kind:{kind}"


def stored_kind(kind: str) -> str:
    """The kind under which the ledger keeps what is called `kind`, which may be an alias (S-15)."""
    return ALIASES.get(kind, kind)


def known_kinds(advertised: frozenset[str] = frozenset()) -> list[str]:
    """Every kind a caller may name, sorted, without aliases."""
    return sorted(set(KINDS) | {kind for kind in advertised if _may_be_advertised(kind)})


def _explicit(requested: str, loc: tuple[str, ...], advertised: frozenset[str]) -> ResolvedKind:
    kind = ALIASES.get(requested, requested)
    if kind in KINDS or (kind in advertised and _may_be_advertised(kind)):
        return ResolvedKind(kind, requested, True, loc)
    return ResolvedKind(GENERAL, requested, False, loc)


def _may_be_advertised(kind: str) -> bool:
    # A factory is not trusted: it can neither make up orders to factories nor take over a kind of ours.
    return not kind.startswith(SYSTEM_PREFIX) and kind not in KINDS and kind not in ALIASES


def _normal(word: Any) -> str:
    return "" if word is None else _lowered(str(word))


def _lowered(text: str) -> str:
    # Only ASCII is lowered: U+212A lowers to a plain k, and a look-alike must never become one of our kinds.
    trimmed = text.strip()
    return trimmed.lower() if trimmed.isascii() else trimmed


def _prefix(task: str) -> str | None:
    """The registered kind that `task` starts with; advertised kinds are never matched, or any `note:` could be one."""
    text = task.strip()
    for name, kind in KINDS.items():
        if kind.system and _lowered(text[: len(name)]) == name:
            following = text[len(name) : len(name) + 1]
            return name if following in ("", ":") or following.isspace() else None
    head, colon, _ = text.partition(":")
    name = _lowered(head)
    return name if colon and (name in ALIASES or (name in KINDS and not KINDS[name].system)) else None

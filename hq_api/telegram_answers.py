"""What the bot says, as plain texts: made from values, and fit for one message whatever those values hold."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from corporation.missions.counts import MissionCounts
from corporation.roles import FactoryRuntimePolicy

LONGEST_MESSAGE: Final = 4096
"""UTF-16 code units, as the Bot API counts."""

HELP: Final = """\
I am the bot of this node. I understand:
/status - this node, what it may do, and its missions by state
/missions - the latest five missions
/mission TEXT - publish TEXT as a mission
/help - this list"""
NOT_UNDERSTOOD: Final = "I only understand commands; /help lists them."
NO_ORDER: Final = "Write what is to be done behind the command: /mission Tidy the notes"
NO_MISSIONS: Final = "There are no missions yet."
LEDGER_AWAY: Final = (
    "The ledger does not answer. Try again in a moment; if you sent an order, look at /missions first: it may be there."
)

_NOT_SHOWN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def fitting(text: str) -> str:
    """`text`, cut at its end with an ellipsis if it is longer than one message may be."""
    if _length(text) <= LONGEST_MESSAGE:
        return text
    units = text.encode("utf-16-le", "surrogatepass")[: 2 * (LONGEST_MESSAGE - 1)]
    return units.decode("utf-16-le", "ignore") + "…"


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def one_line(foreign: Any) -> str:
    """What somebody else wrote, without the characters that break lines or turn the direction of a text."""
    return _NOT_SHOWN.sub("�", str(foreign))


def status(factory_id: str, policy: FactoryRuntimePolicy, counts: MissionCounts) -> str:
    """This node: its role, its policy row, and how many missions are in which state."""
    row = (
        f"gateway {policy.gateway_mode}",
        f"UI {_yes(policy.start_ui)}",
        f"Telegram {_yes(policy.enable_telegram_poll)}",
        f"heartbeat {policy.heartbeat_scope}",
        f"delegation {policy.delegation_mode}",
        f"CSI ingest {_on(policy.enable_csi_ingest)}",
        f"AgentMail {_on(policy.enable_agentmail)}",
        f"VP coder {_on(policy.enable_vp_coder)}",
        f"VP general {_on(policy.enable_vp_general)}",
    )
    missions = f"Missions: {_listing(counts.open)} · ended of the last 24 h: {_listing(counts.ended)}"
    return f"{one_line(factory_id)}: {policy.factory_role}\n{' · '.join(row)}\n{missions}"


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def listed(missions: Sequence[Mapping[str, Any]]) -> str:
    """A line for each mission: its state, why it waits if it does, its kind and its job_id."""
    return "\n".join(_line(mission) for mission in missions) or NO_MISSIONS


def _line(mission: Mapping[str, Any]) -> str:
    reason = f" ({mission['state_reason']})" if mission["state_reason"] else ""
    return one_line(f"{mission['state']}{reason} · {mission['mission_kind']} · {mission['job_id']}")


def published(job_id: str, state: str, *, existed: bool) -> str:
    """The receipt of an order."""
    return f"{'I had this order already' if existed else 'Published'}: {one_line(job_id)} is {state}."


def may_not_publish(policy: FactoryRuntimePolicy) -> str:
    """Why this node publishes nothing, and where to go."""
    return f"This {policy.factory_role} publishes no missions (delegation {policy.delegation_mode}); ask headquarters."


def too_many_wait(limit: int) -> str:
    """Why an order was not taken although it is valid."""
    return f"{limit} missions wait already, so I did not take this one; try again later."


def refused(problems: Sequence[str]) -> str:
    """Why an order is none."""
    return f"I cannot take this order: {'; '.join(one_line(problem) for problem in problems)}."


def in_conflict(job_id: str) -> str:
    """The mission of this message is known, with another text."""
    return f"{one_line(job_id)} exists with a different order; send yours as a new message."


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _on(value: bool) -> str:
    return "on" if value else "off"

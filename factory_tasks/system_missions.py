"""Orders of HQ to the factory itself: it rests, or takes missions again (contract fleet §7). Run by the control worker,
or by whoever claims them over HTTPS; never by a mission worker, and in no slot.

HQ's flag is the authority: it is set where the order is stored, and every beat's answer repeats it (F-20). The order
only says it sooner.
"""

from typing import Final

from corporation.federation.notes import DRAINING, PAUSED, SET, UNSET
from corporation.federation.spool import Spool
from corporation.missions.outcomes import Done, Outcome, Stop
from factory_tasks.handlers import Mission, handles
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import node

PAUSE: Final = "system:pause_factory"
RESUME: Final = "system:resume_factory"


@handles(PAUSE, stops_itself=True)
def pause(mission: Mission) -> Outcome:
    """This factory takes no more missions; what it runs is finished. In the mode `drain` it says that it is draining.

    Safe to run twice.
    """
    drain = mission.context.get("mode") == "drain"
    return _rest(mission, "pause", paused=not drain, draining=drain) if _is_for(mission) else _not_ours(mission)


@handles(RESUME, stops_itself=True)
def resume(mission: Mission) -> Outcome:
    """This factory takes missions again; safe to run twice."""
    return _rest(mission, "resume", paused=False, draining=False) if _is_for(mission) else _not_ours(mission)


def write_flags(spool: Spool, *, paused: bool, draining: bool) -> None:
    """All processes of this factory know HQ's flags from now on, also after a restart (F-20)."""
    spool.note(PAUSED, SET if paused else UNSET)
    spool.note(DRAINING, SET if draining else UNSET)


def _rest(mission: Mission, action: str, *, paused: bool, draining: bool) -> Outcome:
    write_flags(node().spool, paused=paused, draining=draining)
    # HQ goes by what this factory last said of itself, too, and would hold that for true until the next beat.
    send_beat(node(), "order")
    note = mission.context.get("note")
    said = note if isinstance(note, str) else ""
    return Done({"action": action, "note": said, **({"mode": "drain"} if draining else {})})


def _is_for(mission: Mission) -> bool:
    return mission.context.get("target_factory_id") in ("", None, mission.factory_id)


def _not_ours(mission: Mission) -> Outcome:
    """An order for A never pauses B, whatever brought it here (S-24)."""
    return Stop(f"the order is for another factory than {mission.factory_id}")

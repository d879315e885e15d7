"""What would help a mission: each an action in words, and the command that does it where there is one; pure."""

from collections.abc import Sequence
from typing import Final

from corporation.missions.explanation import Advice, FactoryFacts, MissionFacts
from corporation.missions.routing import Need
from corporation.missions.wording import argument, listed, need_of, positional

JOIN: Final = "corporation join-code"
"""At HQ; it prints the line that makes another machine a factory."""
LOOK_JOINED: Final = "corporation factory status"
START_JOINED: Final = "corporation factory up"
PUBLISH: Final = "corporation publish TASK"

WAIT_A_MOMENT: Final = Advice("Wait a second")
START_ENGINE: Final = Advice("Look whether HQ is whole, and start its engine", "corporation doctor")
MEND_BROKER: Final = Advice("Bring Redis back; what was queued is sent then, and nothing is lost", "corporation doctor")

_SWITCHES: Final = {"vp_coder": " (ENABLE_VP_CODER=1)", "vp_general": " (ENABLE_VP_GENERAL=1)"}


def resume(factories: Sequence[FactoryFacts]) -> Advice:
    """They take missions again."""
    # Who says of itself that it rests is not resumed by HQ's word.
    by_hq = next((one.view.factory_id for one in factories if one.paused_by_hq), None)
    return Advice(f"Resume {_names(factories)}", f"corporation factories resume {positional(by_hq)}" if by_hq else None)


def start_again(factories: Sequence[FactoryFacts]) -> Advice:
    """They are heard of again."""
    return Advice(f"Start {_names(factories)} again, on its own machine", START_JOINED)


def let_in(factories: Sequence[FactoryFacts]) -> list[Advice]:
    """They are heard of again; those in quarantine are let in first."""
    barred = [one for one in factories if one.view.quarantined]
    silent = [one for one in factories if not one.view.quarantined]
    release = f"corporation factories release {positional(barred[0].view.factory_id)}" if barred else None
    out = [Advice(f"Release {_names(barred)}, if what led to the quarantine is mended", release)] if barred else []
    return [*out, *([start_again(silent)] if silent else [])]


def start_workers(factory_id: str) -> Advice:
    """It has mission workers."""
    return Advice(f"Look why {factory_id} runs no mission worker, on its own machine", LOOK_JOINED)


def start_control_worker(factory_id: str) -> Advice:
    """It takes orders to itself."""
    return Advice(f"Look why {factory_id} runs no control worker, on its own machine", LOOK_JOINED)


def start_first() -> Advice:
    """There is a factory."""
    return Advice("Let a machine join as a factory: paste there what this prints", JOIN)


def start_named(factory_id: str) -> Advice:
    """There is a factory of this name."""
    command = f"corporation join-code --factory-id {argument(factory_id)}"
    return Advice(f"Let a factory named {factory_id} join; the mission goes there as soon as it registers", command)


def start_another(need: Need) -> Advice:
    """There is one factory more that can run it."""
    those = f" with {need_of(need)}" if need.label else ""
    return Advice(f"Let another machine join as a factory{those}: paste there what this prints", JOIN)


def enable(need: Need, where: str) -> Advice:
    """The factory `where` has what the mission needs."""
    if need.label is not None and need.label.startswith("kind:"):
        return Advice(f"Give {where} the module with {need_of(need)} (UA_HANDLER_MODULES) and restart its workers")
    return Advice(f"Enable {need.label} on {where}{_SWITCHES.get(need.label or '', '')} and restart its workers")


def add_handler(kind: str, where: str) -> Advice:
    """The factory `where` runs the kind, for which this version brings no agent."""
    return Advice(f"Give {where} a module that handles {kind} (UA_HANDLER_MODULES) and restart its workers")


def lighter_orders(where: str) -> Advice:
    """What it is sent takes less of Redis."""
    return Advice(f"Send {where} smaller orders: put what is large elsewhere, and its address into the order")


def more_slots(where: str) -> Advice:
    """It runs more at once."""
    return Advice(f"Give {where} more slots (UA_FACTORY_SLOTS) and restart its workers")


def publish_for(factory_id: str, why: str) -> Advice:
    """The same order stands under a new name, for another factory."""
    return Advice(f"{why}, publish it again for that one", f"{PUBLISH} --target {argument(factory_id)}")


def publish_untargeted() -> Advice:
    """The same order stands under a new name, for any factory."""
    return Advice("Publish it again without --target, if another factory may do it", PUBLISH)


def sooner(mission: MissionFacts) -> list[Advice]:
    """The same order is more urgent, unless nothing is: what is below 0 counts as 0 (S-11)."""
    if mission.priority <= 0:
        return []
    return [Advice("Publish it again with priority 0, which runs soonest", f"{PUBLISH} --priority 0")]


def cancel(mission: MissionFacts) -> Advice:
    """Nobody works on it any more, and nobody will."""
    return Advice("Or stop it, if nobody needs it", f"corporation missions cancel {positional(mission.job_id)}")


def _names(factories: Sequence[FactoryFacts]) -> str:
    return listed([one.view.factory_id for one in factories])

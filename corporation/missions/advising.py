"""What would help a mission: each an action in words, and the command that does it where there is one; pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from corporation.missions.explanation import Advice, FactoryFacts, Facts, MissionFacts
from corporation.missions.routing import Need, may_run
from corporation.missions.states import FINAL
from corporation.missions.wording import argument, listed, need_of, positional

JOIN: Final = "corporation join-code"
"""At HQ; it prints the line that makes another machine a factory."""
LOOK_JOINED: Final = "corporation factory status"
START_JOINED: Final = "corporation factory up"
CANCEL: Final = "corporation missions cancel"
REPLAY: Final = "corporation missions replay"
REPLAY_LETTER: Final = "corporation dead-letters replay"
SHOW_LETTER: Final = "corporation dead-letters show"

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


def look_at_silent(factory: FactoryFacts) -> Advice:
    """It is known whether it still runs."""
    name = factory.view.factory_id
    return Advice(f"Look on its own machine whether {name} still runs; `{START_JOINED}` starts it", LOOK_JOINED)


def start_workers(factory_id: str) -> Advice:
    """It has mission workers."""
    return Advice(f"Look why {factory_id} runs no mission worker, on its own machine", LOOK_JOINED)


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


def again(facts: Facts, change: str = "") -> str:
    """The command with which the order of this mission runs again, changed by the options `change`.

    What has not ended is cancelled first: else it would be done twice.
    """
    options, job = f" {change}" if change else "", positional(facts.mission.job_id)
    if facts.mission.state not in FINAL:
        return f"{CANCEL} --wait {job} && {REPLAY}{options} {job}"
    if facts.dead_letter is not None:
        return f"{REPLAY_LETTER} {facts.dead_letter}{options}"
    return f"{REPLAY}{options} {job}"


def send_to(facts: Facts, factory_id: str, why: str) -> Advice:
    """The same order stands under a new name, for another factory."""
    return Advice(f"{why}, send it there instead", again(facts, f"--target {argument(factory_id)}"))


def elsewhere(facts: Facts) -> list[Advice]:
    """The same order stands for another factory that is online and could run it, if there is one.

    An order to a factory itself is none for another one.
    """
    need = facts.mission.need
    if need.system or need.target is None:
        return []
    open_need = replace(need, target=None)
    others = [
        one.factory_id
        for one in sorted(facts.views, key=lambda view: (view.room < 1, view.factory_id))
        if one.factory_id != need.target and one.status == "online" and not one.quarantined and may_run(open_need, one)
    ]
    return [send_to(facts, one, f"If {one} may do it") for one in others[:1]]


def sooner(facts: Facts) -> list[Advice]:
    """The same order is more urgent, unless nothing is: what is below 0 counts as 0 (S-11)."""
    if facts.mission.priority <= 0:
        return []
    return [Advice("Ask for it again with priority 0, which runs soonest", again(facts, "--priority 0"))]


def cancel(mission: MissionFacts) -> Advice:
    """Nobody works on it any more, and nobody will."""
    return Advice("Or stop it, if nobody needs it", f"{CANCEL} {positional(mission.job_id)}")


def _names(factories: Sequence[FactoryFacts]) -> str:
    return listed([one.view.factory_id for one in factories])

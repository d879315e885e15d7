"""Whether the processes of HQ get on, by what they leave in the ledger: one that stands still has a process id too."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from corporation import clock
from corporation.cli import exits
from corporation.cli.finding import Finding
from corporation.db import open_ledger, sqlalchemy_url, transaction
from corporation.embedded.stack_components import components_of
from corporation.embedded.stack_facts import from_facts
from corporation.embedded.stack_shape import MISSION_WORKERS, ROLES, Shape, shape_of_role
from corporation.embedded.stack_state import StateFolder
from corporation.engine.loop_names import NEED_REDIS, wanted_loops
from corporation.errors import LedgerUnavailableError
from corporation.factories.node_signs import NodeSigns, read_nodes
from corporation.factories.signs_of_life import dead_workers, span
from corporation.federation.notes import HTTPS
from corporation.loops.ticks import TOLD_EVERY_SECONDS, LoopSign, read_ticks
from corporation.roles import FactoryRole
from corporation.settings import Settings, load_settings
from corporation.shown_address import without_password

SILENT_SECONDS: Final = 3 * TOLD_EVERY_SECONDS
"""An engine that has told nothing for so long tells nothing any more."""
LATE_SECONDS: Final = 60.0
"""How long one round may take, a look into the longest queues included."""
STARTING_SECONDS: Final = 60.0
STATEMENT_SECONDS: Final = 2
START: Final = (
    "start it (`corporation up`, `python -m corporation.engine`); if it is there, see its log and end it first"
)
RESTART: Final = "see the engine's log, and restart it if it stands still"
WORKERS: Final = "see the log of {0} and restart it; its supervisor does, once it is ended"


def progress(settings: Settings, folder: StateFolder, *, redis_answers: bool) -> list[Finding]:
    """Whether the loops of HQ go round, and whether the workers of its own nodes are heard of; nothing of a factory.

    The ledger must answer. What fails only because Redis is away is not told a second time.
    """
    if not settings.policy.opens_ledger or settings.database_url is None:
        return []
    nodes = nodes_of(settings, folder)
    ledger = open_ledger(settings.database_url, 1, statement_timeout_seconds=STATEMENT_SECONDS)
    try:
        with transaction(ledger) as connection:
            ticks, signs = read_ticks(connection), read_nodes(connection, list(nodes))
    except LedgerUnavailableError:
        return [Finding("engine", "problem", "the ledger does not say how it is", "try again", exits.UNAVAILABLE)]
    finally:
        ledger.dispose()
    found = loops_go_round(wanted_loops(settings), ticks, redis_answers=redis_answers)
    if not redis_answers:
        return found  # workers wait for it, and are heard of over HTTPS or not at all
    if _has_just_started(folder):
        return found
    return found + [one for name, of in nodes.items() for one in node_works(name, of, signs[name])]


def _has_just_started(folder: StateFolder) -> bool:
    """Whether the stack here began a moment ago, so that some of its workers may not have said a word yet."""
    return folder.is_held() and clock.utc_now().timestamp() - folder.lock.stat().st_mtime < STARTING_SECONDS


def loops_go_round(wanted: Sequence[str], ticks: Sequence[LoopSign], *, redis_answers: bool) -> list[Finding]:
    """Each of the `wanted` loops did a round lately; pure."""
    if not wanted:
        return []
    known = {one.loop: one for one in ticks if one.loop in wanted}
    told = {name for name, one in known.items() if one.told_seconds <= SILENT_SECONDS}
    if not told:
        return [_problem("engine", _no_engine(known), START)]
    problems = [_problem("engine", f"no process runs the {name}", START) for name in wanted if name not in told]
    late = [one for name, one in known.items() if name in told and one.good_seconds > one.every_seconds + LATE_SECONDS]
    problems += [_problem("engine", _late(one), RESTART) for one in late if redis_answers or one.loop not in NEED_REDIS]
    if problems or late:
        return problems
    slowest = max(known[name].told_seconds for name in told)
    return [Finding("engine", "ok", f"all {len(wanted)} loops go round, as was told {span(slowest)} ago")]


def _no_engine(known: Mapping[str, LoopSign]) -> str:
    if not known:
        return "no engine ever ran on this ledger, so no mission is routed"
    ago = span(min(one.told_seconds for one in known.values()))
    return f"it gave no sign for {ago}: it has ended or stands still, so no mission is routed, sent or brought home"


def _late(one: LoopSign) -> str:
    why = f", the last one failed ({one.error})" if one.error else " and tells no error: it stands still"
    return f"the {one.loop} did no good round for {span(one.good_seconds)}{why}"


def node_works(factory_id: str, names: Collection[str], node: NodeSigns) -> list[Finding]:
    """Those of the processes in `names` that a node's beats tell of are there; pure."""
    worker = next((name for name in names if name in MISSION_WORKERS.values()), "")
    if node.quarantined:
        what = f"{factory_id} is in quarantine and not listened to"
        return [Finding("workers", "warning", what, f"`corporation release {factory_id}` ends that")]
    if node.is_silent:
        heard = "never heard of" if node.silent_seconds is None else f"not heard of for {span(node.silent_seconds)}"
        who = " and ".join(name for name in (worker, "control", "beat") if name in names)
        return [_problem("workers", f"those of {factory_id} were {heard} ({who})", WORKERS.format(who))]
    found = [_problem("workers", what, WORKERS.format(worker)) for what in _of_missions(factory_id, worker, node)]
    if {"beat", "control"} <= set(names) and node.by_pulse:
        what = f"no heartbeat of {factory_id} was sent in time, so a worker's pulse spoke for it"
        found.append(Finding("beat", "warning", what, WORKERS.format("beat and control")))
    return found or [Finding("workers", "ok", f"{factory_id} was heard of {span(node.silent_seconds or 0.0)} ago")]


def _of_missions(factory_id: str, worker: str, node: NodeSigns) -> list[str]:
    if worker and not any(one.slots and HTTPS not in one.queues for one in node.workers):
        return [f"{factory_id} has no mission worker that takes anything from its queue ({worker})"]
    return [f"{name} lives and takes nothing from its queue" for name in dead_workers(node.workers)]


def nodes_of(settings: Settings, folder: StateFolder) -> dict[str, set[str]]:
    """The nodes with workers that run here, by their ids, and the processes that each has.

    They are those of the stack in `folder`, if it runs and this is its ledger; else one node, by its settings.
    """
    facts = folder.read_facts() if folder.is_held() else None
    stack = from_facts(folder.path, facts, {}) if facts else None
    if stack and _ledger(stack.database_url) != _ledger(settings.database_url or ""):
        stack = None
    shape = stack.shape if stack else shape_of_role(settings.policy.factory_role)
    found = {settings.factory_id: _processes(settings, shape)}
    if stack and shape is Shape.WHOLE:
        role = FactoryRole.LOCAL_WORKER
        beside = load_settings({"FACTORY_ROLE": role.value})
        found[stack.id_of(role)] = _processes(beside, Shape.WHOLE)
    return {factory_id: names for factory_id, names in found.items() if names}


def _ledger(url: str) -> str:
    return without_password(sqlalchemy_url(url))


def _processes(settings: Settings, shape: Shape) -> set[str]:
    """Those that send beats, of a node with these settings."""
    known = {*MISSION_WORKERS.values(), "control", "beat"}
    if ROLES[shape] is not settings.policy.factory_role and shape is not Shape.WHOLE:
        shape = shape_of_role(settings.policy.factory_role)
    return {one.name for one in components_of(settings.policy, shape) if one.on and one.name in known}


def _problem(name: str, what: str, advice: str) -> Finding:
    return Finding(name, "problem", what, advice, exits.UNAVAILABLE)

"""How each process of a stack is started, after whom, and how it is known to be ready."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_shape import MISSION_WORKERS, Shape, role_of
from corporation.roles import FactoryRole, control_queue, slug_of

Ready = Literal["healthy", "answers", "file", "runs"]
"""`healthy`: its ready file exists and its health route says so · `answers`: it speaks HTTP · `file`: its ready file
exists · `runs`: it is alive."""


@dataclass(frozen=True)
class ProcessPlan:
    """One process of the stack; `needs` must be ready before it starts, and `warm` ones get time to finish work.

    `port` is where it alone listens once it is ready. One that is `optional` ends alone when it cannot run. One that
    is `patient` is ready when a server of others is there, so it may wait for ever. `busy` is what one that only `runs`
    does while its ready file exists; nothing waits for that.
    """

    name: str
    argv: tuple[str, ...]
    ready: Ready
    needs: tuple[str, ...] = ()
    address: str = ""
    warm: bool = False
    port: int | None = None
    optional: bool = False
    patient: bool = False
    busy: str = ""


def plan_of(stack: Stack) -> list[ProcessPlan]:
    """The processes that `stack` runs, in the order in which they are shown; nothing secret is in any argv."""
    makers: dict[str, Callable[[Stack], ProcessPlan]] = {
        "api": _api,
        "engine": _engine,
        "hq-worker": lambda stack: _mission_worker(stack, FactoryRole.HEADQUARTERS, "hq@%h"),
        "factory-worker": lambda stack: _mission_worker(stack, FactoryRole.LOCAL_WORKER, _node_name("missions", stack)),
        "pull": _pull,
        "node-worker": lambda stack: _mission_worker(stack, FactoryRole.STANDALONE_NODE, "missions@%h"),
        "control": _control,
        "beat": _beat,
        "telegram": _telegram,
        "flower": _flower,
    }
    return [plan for name, maker in makers.items() if name in stack.running for plan in (maker(stack),)]


def _api(stack: Stack) -> ProcessPlan:
    argv = (stack.python, "-m", "hq_api")
    return ProcessPlan("api", argv, "healthy", address=stack.gateway_url, port=stack.gateway_port)


def _engine(stack: Stack) -> ProcessPlan:
    ready_file = str(stack.folder.ready_file("engine"))
    return ProcessPlan("engine", (stack.python, "-m", "corporation.engine", "--ready-file", ready_file), "file")


def _mission_worker(stack: Stack, role: FactoryRole, name: str) -> ProcessPlan:
    # A factory's first words go to HQ's API; HQ's own worker starts beside it.
    needs = _own_hq(stack) if role is not FactoryRole.HEADQUARTERS else ()
    return _worker(stack, MISSION_WORKERS[role], stack.queue_of(role), "-n", name, needs=needs)


def _control(stack: Stack) -> ProcessPlan:
    queue = control_queue(stack.id_of(role_of("control", stack.shape)))
    return _worker(stack, "control", queue, "-P", "solo", "-n", _node_name("control", stack), needs=_own_hq(stack))


def _pull(stack: Stack) -> ProcessPlan:
    standby = ("--standby",) if stack.redis_url else ()
    argv = (stack.python, "-m", "factory_tasks.pull", *standby)
    address = "HQ over HTTPS" if not standby else "HQ over HTTPS, while Redis is away"
    return ProcessPlan("pull", argv, "file", _own_hq(stack), address, warm=True)


def _node_name(worker: str, stack: Stack) -> str:
    # Two factories on one machine share a broker, where each worker needs a name of its own.
    own = f".{slug_of(stack.id_of(FactoryRole.LOCAL_WORKER))}" if stack.shape is Shape.WORKER else ""
    return f"{worker}{own}@%h"


def _own_hq(stack: Stack) -> tuple[str, ...]:
    return ("api",) if stack.hq_base_url == stack.gateway_url else ()


def _beat(stack: Stack) -> ProcessPlan:
    patient = stack.shape is Shape.WORKER or _is_shut_out("beat", stack)
    return ProcessPlan("beat", _celery(stack, "beat"), "runs", ("control",), patient=patient)


def _telegram(stack: Stack) -> ProcessPlan:
    # It waits for a service of others: that one being away, or a token that was revoked, must not end the node.
    argv = (stack.python, "-m", "hq_api.telegram")
    return ProcessPlan("telegram", argv, "runs", needs=("api",), optional=True, busy="polling")


def _flower(stack: Stack) -> ProcessPlan:
    argv = _celery(stack, "flower", "--address=127.0.0.1", f"--port={stack.flower_port}")
    # Last, because it is the one thing a mission does not wait for and it is slow to import.
    last = next((name for name in ("factory-worker", "hq-worker", "control") if name in stack.running), None)
    needs = (last,) if last and not _is_shut_out(last, stack) else ()
    return ProcessPlan("flower", argv, "answers", needs, stack.flower_url, port=stack.flower_port)


def _worker(stack: Stack, name: str, queue: str, *options: str, needs: tuple[str, ...] = ()) -> ProcessPlan:
    # Whoever has a user of its own does not hear Flower ask for what it does, and tells it unasked.
    told = ("--task-events",) if stack.redis_passwords and "flower" in stack.running else ()
    argv = _celery(stack, "worker", "-Q", queue, *options, *told)
    patient = stack.shape is Shape.WORKER or _is_shut_out(name, stack)
    return ProcessPlan(name, argv, "file", needs, f"queue {queue}", warm=True, patient=patient)


def _is_shut_out(name: str, stack: Stack) -> bool:
    """Whether this is a process of the factory beside HQ, which is in quarantine: it cannot be ready, and may wait."""
    return stack.factory_shut_out and role_of(name, stack.shape) is FactoryRole.LOCAL_WORKER


def _celery(stack: Stack, *arguments: str) -> tuple[str, ...]:
    return (stack.python, "-m", "celery", "-A", "factory_tasks", *arguments)

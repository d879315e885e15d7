"""Which processes a stack has, how each is started, after whom, and how it is known to be ready."""

from dataclasses import dataclass
from typing import Literal

from corporation.embedded.stack_environment import Stack
from corporation.roles import FactoryRole, default_factory_id, default_queue

Ready = Literal["healthy", "answers", "file", "runs"]
"""`healthy`: its health route says so · `answers`: it speaks HTTP · `file`: its ready file exists
· `runs`: it is alive."""


@dataclass(frozen=True)
class ProcessPlan:
    """One process of the stack; `needs` must be ready before it starts, and `warm` ones get time to finish work.

    `port` is where it alone listens once it is ready.
    """

    name: str
    argv: tuple[str, ...]
    ready: Ready
    needs: tuple[str, ...] = ()
    address: str = ""
    warm: bool = False
    port: int | None = None


def plan_of(stack: Stack) -> list[ProcessPlan]:
    """The processes of `stack` in the order in which they are shown; nothing secret is in any argv."""
    factory = default_factory_id(FactoryRole.LOCAL_WORKER, stack.host)
    headquarters, missions = default_queue(FactoryRole.HEADQUARTERS), default_queue(FactoryRole.LOCAL_WORKER)
    ready_file = str(stack.folder.ready_file("engine"))
    api = (stack.python, "-m", "hq_api")
    engine = (stack.python, "-m", "corporation.engine", "--ready-file", ready_file)
    flower = _celery(stack, "flower", "--address=127.0.0.1", f"--port={stack.flower_port}")
    return [
        ProcessPlan("api", api, "healthy", address=stack.hq_base_url, port=stack.gateway_port),
        ProcessPlan("engine", engine, "file"),
        _worker(stack, "hq-worker", headquarters, "-n", "hq@%h"),
        _worker(stack, "factory-worker", missions, "-n", "missions@%h", needs=("api",)),
        _worker(stack, "control", f"{factory}.control", "-P", "solo", "-n", "control@%h", needs=("api",)),
        ProcessPlan("beat", _celery(stack, "beat"), "runs", needs=("control",)),
        # Last, because it is the one thing a mission does not wait for and it is slow to import.
        ProcessPlan("flower", flower, "answers", ("factory-worker",), stack.flower_url, port=stack.flower_port),
    ]


def _worker(stack: Stack, name: str, queue: str, *options: str, needs: tuple[str, ...] = ()) -> ProcessPlan:
    argv = _celery(stack, "worker", "-Q", queue, *options)
    return ProcessPlan(name, argv, "file", needs, f"queue {queue}", warm=True)


def _celery(stack: Stack, *arguments: str) -> tuple[str, ...]:
    return (stack.python, "-m", "celery", "-A", "factory_tasks", *arguments)

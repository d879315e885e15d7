"""The supervisor of an embedded stack: starts its processes in order, keeps them running, and ends them all.

It is driven by `tick(now)` from the main thread; the decisions are in `stack_restarts.py`, the list of processes in
`stack_plan.py`, their environments in `stack_environment.py`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from corporation import clock
from corporation.embedded.ports import free_port
from corporation.embedded.stack_environment import Stack, environment_of
from corporation.embedded.stack_plan import ProcessPlan
from corporation.embedded.stack_process import Child, last_line, spawn
from corporation.embedded.stack_readiness import seems_ready
from corporation.embedded.stack_restarts import STEADY_AFTER_SECONDS, GiveUp, Verdict, judge_end, judge_wait
from corporation.errors import CorporationError

Phase = Literal["waiting", "starting", "ready", "paused", "stopped"]

WARM_SECONDS: Final = 10.0
COOL_SECONDS: Final = 5.0


class StackFailed(CorporationError):
    """A process of the stack cannot run; the message names it, the reason, its last words and its log."""

    code = "stack_failed"


class PortTaken(CorporationError):
    """Another program was faster to take a port of the stack; it can be built again with other ports."""

    code = "port_taken"


@dataclass
class Member:
    """One process of the stack as it is now; `since` is when the phase began, on the caller's clock."""

    plan: ProcessPlan
    phase: Phase = "waiting"
    child: Child | None = None
    since: float = 0.0
    resume_at: float = 0.0
    restarts: int = 0
    failures: int = 0
    was_ready: bool = False
    why: str = ""


class Supervisor:
    """The processes of one stack, each with its phase; use it from the main thread only."""

    def __init__(self, stack: Stack, plans: Sequence[ProcessPlan]) -> None:
        self.stack = stack
        self.members = [Member(plan) for plan in plans]

    @property
    def ready(self) -> bool:
        """Whether every process is ready; one that cannot be, and need not, is not waited for."""
        return all(member.phase == "ready" or self._is_let_go(member) for member in self.members)

    def _is_let_go(self, member: Member) -> bool:
        if member.plan.patient and (self.stack.redis_away or self.stack.factory_shut_out):
            return True
        return member.plan.optional and member.phase == "stopped"

    def tick(self, now: float) -> list[Member]:
        """Do what is due at `now` (monotonic seconds) and return the members whose phase changed.

        Raises StackFailed when a process that is not optional can never run, and PortTaken when one was never ready
        because its port went to somebody else; the others still run then, so call `stop`.
        """
        return [member for member in self.members if self._advance(member, now)]

    def _advance(self, member: Member, now: float) -> bool:
        match member.phase:
            case "waiting":
                return self._may_start(member) and self._spawn(member, now)
            case "paused":
                return now >= member.resume_at and self._spawn(member, now)
            case "starting" | "ready":
                return self._watch(member, now)
            case "stopped":
                return False

    def _may_start(self, member: Member) -> bool:
        # Ready once is enough: a later restart of the API must not hold up a factory.
        return all(other.was_ready for other in self.members if other.plan.name in member.plan.needs)

    def _spawn(self, member: Member, now: float) -> bool:
        self.stack.folder.ready_file(member.plan.name).unlink(missing_ok=True)
        member.restarts += 1 if member.phase == "paused" else 0
        member.child = start_process(member.plan, self.stack)
        member.phase, member.since, member.why = "starting", now, ""
        return True

    def _watch(self, member: Member, now: float) -> bool:
        status = member.child.status() if member.child else None
        if status is not None:
            _check_port(member)
            if member.phase == "ready" and now - member.since >= STEADY_AFTER_SECONDS:
                member.failures = 0
            member.failures += 1
            return self._follow(member, judge_end(status, member.failures, was_ready=member.was_ready), now)
        if member.phase == "ready":
            return False
        if member.child and seems_ready(member.plan, self.stack, member.child.pid):
            member.phase, member.since, member.was_ready = "ready", now, True
            return True
        if member.plan.patient:
            return False
        verdict = judge_wait(now - member.since, member.failures + 1, was_ready=member.was_ready)
        if verdict is None:
            return False
        member.failures += 1
        return self._follow(member, verdict, now)

    def _follow(self, member: Member, verdict: Verdict, now: float) -> bool:
        if member.child:
            member.child.kill()
        if isinstance(verdict, GiveUp):
            member.phase, member.why = "stopped", verdict.why
            if member.plan.optional:
                return True
            log = self.stack.folder.log(member.plan.name)
            raise StackFailed(
                f"{member.plan.name} cannot run: {verdict.why}: {last_line(log) or 'no output'} (log: {log})"
            )
        member.phase, member.since, member.why = "paused", now, verdict.why
        member.resume_at = now + verdict.pause_seconds
        return True

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Afterwards no process of the stack runs: workers first, with time to finish, then the rest.

        `hurry()` is asked all the time; once it is true everything left is killed at once. Safe to call twice.
        """
        warm = [member for member in self.members if member.plan.warm or member.plan.name == "beat"]
        _end(warm, WARM_SECONDS, hurry)
        _end([member for member in self.members if member not in warm], COOL_SECONDS, hurry)


def _end(members: Sequence[Member], seconds: float, hurry: Callable[[], bool]) -> None:
    children = [member.child for member in members if member.child]
    deadline = clock.monotonic() + seconds
    for child in children:
        child.ask_to_end()
    while any(child.status() is None for child in children) and clock.monotonic() < deadline and not hurry():
        time.sleep(0.05)
    for child in children:
        child.kill()
    for member in members:
        member.phase = "stopped"


def start_process(plan: ProcessPlan, stack: Stack) -> Child:
    """Spawn `plan` with its own environment, its log below the state folder; the main thread only."""
    return spawn(plan.argv, environment_of(plan.name, stack), stack.state, stack.folder.log(plan.name))


def _check_port(member: Member) -> None:
    port = member.plan.port
    if port is not None and not member.was_ready and free_port(port) != port:
        raise PortTaken(f"{member.plan.name} did not start: another program took port {port}")

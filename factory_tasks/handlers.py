"""The registry of mission kinds: `@handles("kind", needs="label")` on a plain function makes a kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from corporation.factories.permissions import permits
from corporation.missions.kinds import SYSTEM_ORDERS
from corporation.missions.outcomes import Outcome
from corporation.roles import FactoryRuntimePolicy
from factory_tasks.stopping import StopFlag


class Reporter(Protocol):
    """Where a running handler says how it is going; every call returns at once and never fails the mission."""

    def log(self, line: str, stream: str = "log") -> None:
        """Keep one line of output; `stream` is `stdout`, `stderr` or `log`."""
        ...

    def progress(self, percent: int | None, message: str) -> None:
        """Replace the mission's progress; `percent` is 0..100 or None when unknown."""
        ...


@dataclass(frozen=True)
class Mission:
    """What a handler gets to know: the order, where it may write, and how to report."""

    job_id: str
    attempt_id: str
    attempt: int
    kind: str
    task: str
    context: Mapping[str, Any]
    timeout_seconds: int
    factory_id: str
    repositories_root: Path
    """Where this factory keeps the repositories it makes; nothing is written outside it."""
    grace_seconds: float
    """Between the soft stop (SIGTERM) and the hard one (SIGKILL) at the time limit; then its process is killed too."""
    reporter: Reporter
    fetch_bundle: Callable[[], bytes]
    """Download this mission's bundle (tar.gz) from HQ; raises HqRefusedError for good, HqUnavailableError for now."""
    stop: StopFlag = field(default_factory=StopFlag)
    """Set when the attempt is to stop now. A handler is also thrown out by AttemptStopped, unless it `stops_itself`:
    then it must look here, or wait here. Whoever is still at it two seconds later is killed with all it started."""


Handler = Callable[[Mission], Outcome]


@dataclass(frozen=True)
class Registration:
    """One kind: its handler and the capability label a factory needs to be sent it (contract streams §4)."""

    kind: str
    needs: str | None
    run: Handler
    stops_itself: bool
    """The handler keeps the time limit and looks at `mission.stop` on its own; no exception interrupts it."""

    @property
    def label(self) -> str:
        """The capability label with which a factory advertises this kind."""
        return self.needs or f"kind:{self.kind}"


_registry: dict[str, Registration] = {}


def handles(kind: str, *, needs: str | None = None, stops_itself: bool = False) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of `kind`; a second handler of one kind is refused at import.

    `needs` is the capability label of the contract; without one the label is `kind:<kind>`, which HQ learns from the
    factory's own beats, so that a new kind needs no change at HQ.
    """

    def register(handler: Handler) -> Handler:
        if kind in _registry:
            raise ValueError(f"kind {kind!r} already has the handler {_registry[kind].run.__qualname__}; remove one")
        _registry[kind] = Registration(kind, needs, handler, stops_itself)
        return handler

    return register


def registered(policy: FactoryRuntimePolicy) -> Mapping[str, Registration]:
    """The kinds that workers of a node with `policy` run, by name; what it forbids is no task there at all."""
    return {kind: registration for kind, registration in _registry.items() if permits(policy, registration.label)}


def labels(policy: FactoryRuntimePolicy) -> list[str]:
    """The capability labels a node with `policy` earns by its kinds, sorted; orders need none."""
    return sorted({one.label for kind, one in registered(policy).items() if kind not in SYSTEM_ORDERS})

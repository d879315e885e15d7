"""The kind `noop`: a mission that does nothing, for benches and tests; load it with UA_HANDLER_MODULES."""

import os
import time
from pathlib import Path

from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.handlers import Mission, handles


@handles("noop")
def noop(mission: Mission) -> Outcome:
    """Do as the context asks: log `lines`, `sleep`, leave a `mark`, wait for the file `gate`, give the `answer`."""
    for line in mission.context.get("lines", []):
        mission.reporter.log(str(line))
    if sleep := mission.context.get("sleep"):
        time.sleep(float(sleep))
    if mark := mission.context.get("mark"):
        leave_mark(str(mark), f"{mission.job_id} {mission.attempt}\n")
    if gate := mission.context.get("gate"):
        wait_at(Path(str(gate)))
    return answer(mission)


def answer(mission: Mission) -> Outcome:
    """What the context says that the handler is to answer; `raise` raises instead."""
    match mission.context.get("answer", "done"):
        case "failed":
            return Failed("asked to fail")
        case "later":
            return Later(float(mission.context.get("after", 0)), "asked to wait")
        case "stop":
            return Stop("asked to stop")
        case "raise":
            raise ValueError("asked to raise")
        case _:
            return Done({"echo": mission.task[:200]})


def wait_at(gate: Path) -> None:
    """The file is there when this returns: a mission is at work for exactly as long as a test wants."""
    while not gate.exists():
        time.sleep(0.02)


def leave_mark(path: str, line: str) -> None:
    """The file at `path` has one more line: the effect by which a test counts how often the work was really done."""
    mark = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(mark, line.encode())
    finally:
        os.close(mark)

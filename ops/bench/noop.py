"""The kind `noop`: a mission that does nothing, for benches and tests; load it with UA_HANDLER_MODULES."""

import os
import time

from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.handlers import Mission, handles


@handles("noop")
def noop(mission: Mission) -> Outcome:
    """Do as the context asks: log `lines`, `sleep` seconds, leave a `mark`, then give the `answer`."""
    for line in mission.context.get("lines", []):
        mission.reporter.log(str(line))
    if sleep := mission.context.get("sleep"):
        time.sleep(float(sleep))
    if mark := mission.context.get("mark"):
        leave_mark(str(mark), f"{mission.job_id} {mission.attempt}\n")
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


def leave_mark(path: str, line: str) -> None:
    """The file at `path` has one more line: the effect by which a test counts how often the work was really done."""
    mark = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(mark, line.encode())
    finally:
        os.close(mark)

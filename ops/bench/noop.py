"""The kind `noop`: a mission that does nothing, for benchmarks and tests; load it with UA_HANDLER_MODULES."""

import time

from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.handlers import Mission, handles


@handles("noop")
def noop(mission: Mission) -> Outcome:
    """Answer as the context asks: `sleep` seconds first, then `answer` (done, failed, later, stop or raise)."""
    for line in mission.context.get("lines", []):
        mission.reporter.log(str(line))
    time.sleep(float(mission.context.get("sleep", 0)))
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
            return Done({"result_ref": "", "echo": mission.task})

"""The kind `chaos`: a mission that leaves a mark when it begins and when its work is done; UA_HANDLER_MODULES loads it.

What a mark says is read back by `chaos_marks.py`, in every process that has to know what was really done.
"""

import subprocess
import time
from pathlib import Path
from typing import Any, Final

from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.handlers import Mission, handles
from factory_tasks.node import node
from factory_tasks.tether import tethered
from ops.bench.chaos_marks import CHILD, leave, line_of

CHILD_SECONDS: Final = 600
TALK_SECONDS: Final = 0.3


@handles("chaos")
def chaos(mission: Mission) -> Outcome:
    """Do as the context asks: mark the beginning, `sleep`, with a `child` process or none, mark the end, answer."""
    marks = str(mission.context["marks"])
    leave(marks, line_of("began", mission.job_id, mission.attempt, mission.attempt_id, mission.factory_id))
    if secret := _secret(mission):
        mission.reporter.log(f"the secret is {secret}")
        mission.reporter.progress(None, f"still {secret}")
    if mission.context.get("child"):
        _with_a_child(mission)
    else:
        _work(mission)
    leave(marks, line_of("did", mission.job_id, mission.attempt, mission.attempt_id, mission.factory_id))
    return _answer(list(mission.context["answers"]), mission)


def _work(mission: Mission) -> None:
    if mission.context.get("slow_once") and mission.attempt > 1:
        return
    until = time.monotonic() + float(mission.context.get("sleep", 0))
    while (left := until - time.monotonic()) > 0:
        if mission.context.get("talks"):
            mission.reporter.progress(None, f"{left:.1f} s left")
        time.sleep(min(left, TALK_SECONDS))


def _with_a_child(mission: Mission) -> None:
    """Start a process that outlasts everything unless somebody ends it, and end it."""
    # The shell and the sleep: a process and a grandchild, both to be found by their environment.
    command = tethered(["/bin/sh", "-c", f"sleep {CHILD_SECONDS}; true"], grace_seconds=1)
    folder = Path(str(mission.context["marks"])).parent
    environment = {CHILD: f"{folder} {mission.job_id} {mission.attempt}", "PATH": "/usr/bin:/bin"}
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _work(mission)
    finally:
        child.terminate()
        child.wait(timeout=30)


def _answer(answers: list[Any], mission: Mission) -> Outcome:
    secret = _secret(mission)
    match answers[min(mission.attempt, len(answers)) - 1]:
        case "failed":
            return Failed(f"asked to fail {secret}")
        case "later":
            return Later(0.1, f"asked to wait {secret}")
        case "stop":
            return Stop(f"asked to stop {secret}")
        case _:
            # Which attempt it was, so that a report that was taken for another attempt's can be told.
            return Done({"attempt_id": mission.attempt_id, "said": secret})


def _secret(mission: Mission) -> str:
    """What a handler that reads its node's memory could say; nothing, unless the mission is to say it."""
    token = node().settings.ops_token
    return token.get_secret_value() if mission.context.get("leaks") and token else ""

"""The first mission of a fresh stack: published over REST like anybody's, followed, and explained at the end."""

import json
import shlex
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import corporation
from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.exits import Refusal
from corporation.cli.watch import event_line
from corporation.embedded.stack_state import StateFolder
from corporation.missions.states import FINAL

RUN_FOLDER: Final = "youtube-tutorial-creation"
RUN_PATH: Final = f"{RUN_FOLDER}/first-mission"
VERIFY: Final = ("python3", "-m", "unittest", "-v")
PATIENCE_SECONDS: Final = 180.0
MISSION_TIMEOUT_SECONDS: Final = 120


@dataclass(frozen=True)
class Outcome:
    """How the first mission ended; `text` says where the result is, or in one line why there is none."""

    succeeded: bool
    text: str


def place_run_folder(folder: StateFolder, project: Path = Path(corporation.__file__).parent.parent) -> bool:
    """Copy the demo's run folder into HQ's artifact root; False where this installation has no demo. Safe to repeat."""
    source = project / "ops" / "demo" / RUN_FOLDER
    if not source.is_dir():
        return False
    shutil.copytree(source, folder.artifacts / RUN_FOLDER, dirs_exist_ok=True)
    return True


def envelope(folder: StateFolder, key: str) -> Json:
    """The demo's envelope; its repository gets the first free name `first-mission-<n>`."""
    taken = {path.name for path in folder.repositories.iterdir()} if folder.repositories.is_dir() else set[str]()
    name = next(name for n in range(1, len(taken) + 2) if (name := f"first-mission-{n}") not in taken)
    context: Json = {
        "mission_kind": "bootstrap_repo",
        "repo_name": name,
        "tutorial_run_path": RUN_PATH,
        "verify": list(VERIFY),
    }
    task = "Make a small repository from a script and run its tests"
    payload = {"task": task, "context": context}
    return {"idempotency_key": key, "payload": payload, "timeout_seconds": MISSION_TIMEOUT_SECONDS}


def an_order(task: str) -> str:
    """The command, without the program's name, that has `task` done with the demo's run folder, for people to copy."""
    context = json.dumps({"tutorial_run_path": RUN_PATH, "repo_name": task.lower().replace(" ", "-")})
    return f"publish {shlex.quote(task)} --kind bootstrap_repo --context {shlex.quote(context)} --watch"


def first_mission(client: HqClient, folder: StateFolder, key: str) -> Generator[list[str], None, Outcome]:
    """Publish the demo and yield its news, a list of lines for each look; ends with the Outcome.

    HQ being away for a moment is no end: it is asked again until the patience is used up.
    """
    began, after, job_id = clock.monotonic(), 0, ""
    while clock.monotonic() - began < PATIENCE_SECONDS:
        lines: list[str] = []
        try:
            if not job_id:
                job_id = str(client.publish(envelope(folder, key), key)["job_id"])
                lines.append(f"Mission {job_id}: published over {client.connection.base_url}/api/v1/delegation/publish")
            mission = client.mission(job_id)
            for event in client.events(job_id, after):
                after = int(event.get("seq", after))
                lines.append(f"  {event_line(event)}")
        except Refusal as refusal:
            if not job_id and refusal.exit_code not in (exits.UNAVAILABLE, exits.TRY_LATER):
                return Outcome(False, f"the first mission was refused: {refusal}")
            mission = {}
        yield lines
        if mission.get("state") in FINAL:
            return conclude(mission)
    where = f"mission {job_id} is not final" if job_id else "the first mission could not be published"
    return Outcome(False, f"{where} after {PATIENCE_SECONDS:.0f} s")


def no_mission() -> Generator[list[str], None, Outcome]:
    """What `first_mission` is where this installation has no demo."""
    yield from ()
    return Outcome(False, "this installation has no ops/demo, so there is no first mission to run")


def nothing_to_run() -> Generator[list[str], None, Outcome]:
    """What `first_mission` is where no mission can be published and run: being up and healthy is all there is."""
    yield from ()
    return Outcome(True, "")


def conclude(mission: Json) -> Outcome:
    """The Outcome that a final mission is, with the way to its result."""
    job_id = mission.get("job_id")
    if mission.get("state") != "succeeded":
        return Outcome(False, f"mission {job_id} {mission.get('state')}: {mission.get('error') or 'no reason given'}")
    result = _inner_result(mission.get("result"))
    verify = result.get("verify")
    shown = {"repository": result.get("repo_dir"), "commit": result.get("commit"), "tests": _verdict(verify)}
    lines = [f"Mission {job_id} succeeded"]
    lines += [f"  {name:<11} {value}" for name, value in shown.items() if value]
    return Outcome(True, "\n".join(lines))


def _inner_result(result: Any) -> Json:
    """The handler's own fields, whether HQ hands them out bare or inside a result envelope."""
    if isinstance(result, dict) and isinstance(inner := result.get("result"), dict):
        return _inner_result(inner)
    return {str(name): value for name, value in result.items()} if isinstance(result, dict) else {}


def _verdict(verify: Any) -> str:
    if not isinstance(verify, dict):
        return str(verify or "")
    code = verify.get("exit_code")
    return f"passed ({' '.join(VERIFY)})" if code == 0 else f"exit status {code}"

"""The way of one repository: build it, find it, see that it has a commit, verify it, and say what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from corporation.missions.outcomes import Done, Failed, Outcome, TimedOut
from factory_tasks.bootstrap_repo.claim import Claim
from factory_tasks.bootstrap_repo.git import ensure_commit
from factory_tasks.bootstrap_repo.order import RepositoryOrder
from factory_tasks.bootstrap_repo.output import EachLine
from factory_tasks.bootstrap_repo.sources import NoRepositoryError, build, locate, names_in
from factory_tasks.bootstrap_repo.workbench import Ran, StepFailedError, Workbench
from factory_tasks.handlers import Mission

LONGEST_ERROR: Final = 1_200
_VERIFY_TAIL: Final = 4_000


def make(mission: Mission, order: RepositoryOrder, claim: Claim, bench: Workbench) -> Outcome:
    """The ordered repository exists and is verified (Done), or the outcome says what went wrong, with the evidence."""
    before = names_in(claim.repository.parent)
    result: dict[str, Any] = {"repo_name": claim.repository.name}
    try:
        built = build(mission, order, claim, bench)
        result |= _output(built.ran)
        if not built.ran.ok:
            return _failure(mission, "making the repository", built.ran, result)
        mission.reporter.progress(80, "the files are there; looking for a commit")
        repository = locate(claim, built.says, before)
        result |= _place(mission, repository)
        result["commit"] = ensure_commit(bench, repository)
    except StepFailedError as error:
        return _step_failure(mission, error, result)
    except NoRepositoryError as error:
        return Failed(shortened(str(error)), result)
    return _verified(mission, order, claim, bench, result)


def shortened(head: str, words: str = "") -> str:
    """`head`, and as much of the end of `words` as fits into 1,200 characters with it."""
    text = head[-LONGEST_ERROR:]
    room = LONGEST_ERROR - len(text) - 2
    words = words.strip()
    return f"{text}: {words[-room:]}" if words and room > 0 else text


def _verified(
    mission: Mission, order: RepositoryOrder, claim: Claim, bench: Workbench, result: dict[str, Any]
) -> Outcome:
    if order.verify:
        mission.reporter.progress(90, f"verifying: {' '.join(order.verify)[:200]}")
        transcript = _Transcript(bench.forward)
        ran = bench.run(list(order.verify), Path(str(result["repo_dir"])), transcript)
        result["verify"] = {"command": list(order.verify), "exit_code": ran.exit_code, "output": transcript.tail}
        if not ran.ok:
            return _failure(mission, "the verify command", ran, result, transcript.tail)
    claim.finish(result)
    mission.reporter.progress(100, f"ready: {result['repo_dir']}")
    return Done(result)


class _Transcript:
    """Both streams in the order in which they came, the end kept."""

    def __init__(self, forward: EachLine) -> None:
        self.tail = ""
        self._forward = forward

    def __call__(self, line: str, stream: str) -> None:
        self.tail = f"{self.tail}{line}\n"[-_VERIFY_TAIL:]
        self._forward(line, stream)


def _failure(mission: Mission, what: str, ran: Ran, result: Mapping[str, Any], words: str | None = None) -> Outcome:
    if ran.timed_out:
        return _time_is_up(mission, what, result)
    last_words = ran.stderr if words is None else words
    return Failed(shortened(f"{what} ended with exit code {ran.exit_code}", last_words or ran.stdout), result)


def _step_failure(mission: Mission, error: StepFailedError, result: Mapping[str, Any]) -> Outcome:
    evidence = {**_output(error.ran), **result}
    if error.ran.timed_out:
        return _time_is_up(mission, "making the repository", evidence)
    return Failed(shortened(str(error)), evidence)


def _time_is_up(mission: Mission, what: str, result: Mapping[str, Any]) -> Outcome:
    limit = mission.timeout_seconds
    return TimedOut(f"the time limit of {limit} s passed in {what}, and it was stopped with all it started", result)


def _output(ran: Ran) -> dict[str, Any]:
    return {"stdout": ran.stdout, "stderr": ran.stderr, "exit_code": ran.exit_code}


def _place(mission: Mission, repository: Path) -> dict[str, Any]:
    below = repository.relative_to(mission.repositories_root.resolve()).as_posix()
    return {
        "repo_dir": str(repository),
        "repo_open_uri": repository.as_uri(),
        "repo_open_hint": f"Open {repository} on {mission.factory_id}",
        "result_ref": f"workspace://{quote(mission.factory_id, safe='')}/{quote(below)}",
    }

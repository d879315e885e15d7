"""The mission kind `bootstrap_repo`: a new git repository from a script or another repository, made once and verified.

`order.py` what is ordered · `claim.py` whose folder it is · `bundle.py` unpacking strangers' archives · `sources.py`
script or clone · `templates.py` filling in templates · `git.py` git that runs nothing strange · `workbench.py` commands
on a tether · `output.py` their lines · `folders.py` scratch and removal · `making.py` the way from order to outcome.
"""

from hashlib import blake2b
from pathlib import Path
from typing import Final

from corporation import clock
from corporation.bootstrap_jobs.names import default_name, distinguished
from corporation.errors import CorporationError
from corporation.federation.hq import HqRefusedError
from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.bootstrap_repo.claim import StillRunningError, claimed_first, name_claimed_by, resolve_target
from factory_tasks.bootstrap_repo.folders import scratch_folder
from factory_tasks.bootstrap_repo.making import make, shortened
from factory_tasks.bootstrap_repo.order import OrderRefusedError, RepositoryOrder, read_order
from factory_tasks.bootstrap_repo.output import Forwarder
from factory_tasks.bootstrap_repo.workbench import Workbench
from factory_tasks.handlers import Mission, handles

_LOOK_AGAIN_SECONDS: Final = 30.0
# HQ's word that the bundle is not there for us; 404 and 409 mean "stop retrying" (contract http §11).
_FINAL_REFUSALS: Final = frozenset({400, 404, 409, 413})


@handles("bootstrap_repo", needs="tutorial_bootstrap_consumer", stops_itself=True)
def bootstrap_repo(mission: Mission) -> Outcome:
    """A new git repository with a commit lies below the factory's repositories, and `context.verify` passed in it.

    The files come from a script in a bundle (HQ's or inline) or from another git repository, whose history is always
    left behind. Everything happens within `timeout_seconds` from the call; no process and no scratch file is left. When
    the attempt is to stop, its command is ended and AttemptStopped raised within two seconds.
    Running it again for the same mission starts over, unless it was finished: then it gives the same answer and touches
    nothing. A folder that another mission or a person made is never touched.
    """
    deadline = clock.monotonic() + mission.timeout_seconds
    try:
        return _ordered(mission, read_order(mission.job_id, mission.task, mission.context), deadline)
    except OrderRefusedError as refused:
        return Stop(shortened(str(refused)))
    except StillRunningError as running:
        return Later(mission.grace_seconds + _LOOK_AGAIN_SECONDS, str(running))
    except HqRefusedError as refused:
        why = f"HQ does not give out the bundle: {refused}; look at context.tutorial_run_path"
        return Stop(why) if refused.status in _FINAL_REFUSALS else Failed(why)
    except (CorporationError, OSError) as error:
        return Failed(shortened(str(error)))


def _ordered(mission: Mission, order: RepositoryOrder, deadline: float) -> Outcome:
    target = resolve_target(mission.repositories_root, order.target_root)
    with claimed_first(order.job_id, target, _names(order, target)) as claim:
        if claim.result is not None:
            return Done(claim.result)
        with scratch_folder(claim.scratch) as scratch:
            forward = Forwarder(mission.reporter.log)
            grace, attempt_id = mission.grace_seconds, mission.attempt_id
            bench = Workbench(scratch, deadline, grace, forward, claim.lock, attempt_id, mission.stop)
            return make(mission, order, claim, bench)


def _names(order: RepositoryOrder, target: Path) -> list[str]:
    """What the repository may be called, best first: as ordered, as an earlier attempt called it, or as we make up.

    Two missions of one title and one second make up the same name; the one that finds it taken adds a mark of its own.
    """
    if known := order.repo_name or name_claimed_by(order.job_id, target):
        return [known]
    name = default_name(order.title, clock.utc_now())
    return [name, distinguished(name, blake2b(order.job_id.encode(), digest_size=3).hexdigest())]

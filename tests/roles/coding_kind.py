"""A kind that needs the coder, for workers of tests: whether it is registered shows whether the switch is real."""

from corporation.missions.outcomes import Done, Outcome
from factory_tasks.handlers import Mission, handles


@handles("coding_task", needs="vp_coder")
def write_nothing(mission: Mission) -> Outcome:
    """Succeed at once."""
    return Done({"wrote": mission.task})


@handles("greet")
def greet(mission: Mission) -> Outcome:
    """Succeed at once, on any node that takes missions."""
    return Done({"said": mission.task})

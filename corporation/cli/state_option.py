"""What `--state` means where missions are listed: the folder, as everywhere else, or states of missions, as before."""

import os
from pathlib import Path
from typing import Final

from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.missions.states import State

STATES: Final = ", ".join(State)


def states_and_folder(
    state: str | None, in_state: str | None, state_dir: Path | None
) -> tuple[str | None, Path | None]:
    """The wanted states and the state folder that the three options name, None for what is not given.

    `state` is states if each of its words is one, else the folder if it is one or looks like a path; Refusal (2) for
    everything else, and for what is said twice. A folder called `running` is `./running`.
    """
    if state is None:
        return in_state, state_dir
    if all(word.strip().lower() in list(State) for word in state.split(",")):
        if in_state is not None:
            raise Refusal(exits.USAGE, "--state and --in-state both name states of missions; say it once: --in-state")
        return state, state_dir
    if not (state and (Path(state).is_dir() or os.sep in state or state.startswith("."))):
        raise Refusal(
            exits.USAGE,
            f"--state {state!r} is neither a folder that exists nor a state of missions ({STATES}); "
            "filter with --in-state STATES, name the folder with --state-dir DIR",
        )
    if state_dir is not None:
        raise Refusal(exits.USAGE, "--state and --state-dir both name a folder; say it once: --state-dir")
    return in_state, Path(state)

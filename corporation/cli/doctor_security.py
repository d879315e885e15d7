"""`corporation doctor security`: each control, whether it is on, and how to turn it on."""

import os
import stat
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from corporation.cli import exits
from corporation.cli.checks import loaded_secrets
from corporation.cli.connection import effective
from corporation.cli.control import Control, on_if
from corporation.cli.controls_of_servers import controls_of_servers
from corporation.cli.controls_of_settings import controls_of_settings
from corporation.cli.output import say, say_json, working
from corporation.cli.untouched import is_untouched
from corporation.embedded.stack_environment import inherited_from, operators_variables
from corporation.embedded.stack_facts import from_facts, with_given
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder
from corporation.settings import load_settings

SECRET_FILES: Final = (
    *("env.json", "factory.json", "redis-password", "valkey/password", "valkey/users.acl"),
    *("valkey/user-passwords.json", "postgres/password"),
)


def doctor_security(folder: StateFolder, *, as_json: bool) -> int:
    """Say of every control whether it is on; the exit status is 1 when one is off, else 0. Changes nothing.

    Raises SettingsError for an environment that cannot be used.
    """
    with working("Looking"):
        controls = examine(os.environ, folder)
    if as_json:
        say_json({"ok": verdict(controls) == exits.OK, "controls": [asdict(control) for control in controls]})
        return verdict(controls)
    for control in controls:
        how = f" -> {control.how}" if control.how else ""
        say(f"{control.state:<8} {control.name:<20} {control.seen}{how}")
    return verdict(controls)


def verdict(controls: list[Control]) -> int:
    """1 when a control is off; one that nobody could look at is not."""
    return exits.FAILED if any(control.state == "off" for control in controls) else exits.OK


def examine(environ: Mapping[str, str], folder: StateFolder) -> list[Control]:
    """All controls of this node, in the order in which they are shown."""
    complete, _ = loaded_secrets(environ)
    settings = load_settings(_seen(complete, folder))
    known = [files_are_private(folder), not_root(os.geteuid()), *controls_of_settings(settings, complete)]
    # Where nothing was set up, the servers of the defaults are nobody's.
    return known if is_untouched(complete, folder) else [*known, *controls_of_servers(settings)]


def _seen(environ: Mapping[str, str], folder: StateFolder) -> dict[str, str]:
    """As other commands see this node, and at an HQ also what only its API is told."""
    seen = effective(environ, folder)
    facts = folder.read_facts()
    stack = from_facts(folder.path, facts, inherited_from(environ)) if facts else None
    if stack is None or stack.shape is Shape.WORKER:
        return seen
    return operators_variables("api", with_given(stack, environ)) | seen


def files_are_private(folder: StateFolder) -> Control:
    """Only their owner can read the files with secrets below the state folder."""
    places = [folder.path / name for name in SECRET_FILES]
    exposed = [place for place in places if _others_read(place)]
    how = f"chmod 600 {' '.join(map(str, exposed))}"
    seen = f"below {folder.path}: for their owner alone"
    return on_if(not exposed, "files with secrets", seen, f"others may read {len(exposed)} of them", how)


def not_root(user_id: int) -> Control:
    """A mission's script, which runs as whoever runs the factory, is nobody who may do everything here."""
    how = "run it as a user of its own, who owns nothing else"
    return on_if(user_id != 0, "ordinary user", f"user {user_id}", "this runs as root", how)


def _others_read(place: Path) -> bool:
    try:
        # Those above it may close it as well, and the launcher's folders do.
        closed = any(not stat.S_IMODE(above.stat().st_mode) & 0o077 for above in (place.parent, place.parent.parent))
        return not closed and bool(stat.S_IMODE(place.stat().st_mode) & 0o077)
    except OSError:
        return False

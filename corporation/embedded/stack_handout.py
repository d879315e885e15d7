"""What `corporation env` of a state folder gave a terminal: the folder's next stack must not take it for somebody's."""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from corporation.embedded.postgres import APPLICATION_FILE, FACTORY_FILE
from corporation.embedded.stack_addresses import DATABASE_NAMES, MAILBOX_NAMES
from corporation.embedded.stack_environment import Stack, operators_variables, variables_of
from corporation.embedded.stack_facts import from_facts
from corporation.embedded.stack_shape import MISSION_WORKERS, parts_of
from corporation.embedded.stack_state import StateFolder
from corporation.embedded.valkey import passwords_of

ADDRESSES: Final = ("UA_REDIS_URL", "UA_REDIS_ADMIN_URL", *DATABASE_NAMES, *MAILBOX_NAMES)
MOST_NAMED: Final = 3


def without_handout(environ: Mapping[str, str], folder: StateFolder) -> tuple[dict[str, str], list[str]]:
    """`environ` without what the stack of `folder` gave out, and the names that are left out, the addresses first.

    An address is ours if its password is one of our own servers', which nobody else knows. Where there is one, every
    variable that has the very value that we gave out is left out with it; where there is none, nothing is.
    """
    passwords = _passwords(folder)
    own = [name for name in ADDRESSES if _password_in(environ.get(name, "")) in passwords]
    if own:
        given = _given_out(folder)
        own += sorted(name for name in environ if name not in own and environ[name] in given.get(name, ()))
    return {name: value for name, value in environ.items() if name not in own}, own


def note_about(names: list[str]) -> str:
    """The line that says so, or an empty text where nothing is left out."""
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (
        f"{', '.join(names[:MOST_NAMED])}{more} are what `corporation env` gave this terminal; the servers they name "
        "are this stack's own, and are started"
    )


def _passwords(folder: StateFolder) -> frozenset[str]:
    """Those of our own servers' users; an address without a password is never ours."""
    redis, postgres = folder.path / "valkey", folder.path / "postgres"
    found = {*passwords_of(redis).values()}
    for path in (redis / "password", *(postgres / name for name in ("password", APPLICATION_FILE, FACTORY_FILE))):
        try:
            found.add(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue
    return frozenset(found - {""})


def _password_in(address: str) -> str:
    try:
        return unquote(urlsplit(address).password or "")
    except ValueError:
        return ""


def _given_out(folder: StateFolder) -> dict[str, set[str]]:
    """The values that each variable had in what `corporation env` printed, whoever it was for."""
    facts = folder.read_facts()
    stack = from_facts(folder.path, facts, {}) if facts else None
    found: dict[str, set[str]] = {}
    for variables in _sets_of(stack) if stack else ():
        for name, value in variables.items():
            found.setdefault(name, set()).add(value)
    return found


def _sets_of(stack: Stack) -> Iterable[dict[str, str]]:
    yield operators_variables("api", stack)
    of_shape = [name for names in parts_of(stack.shape).values() for name in names]
    for process in dict.fromkeys((*of_shape, *MISSION_WORKERS.values())):
        try:
            yield variables_of(process, stack)
        except KeyError:  # a worker of a node that a stack of this shape does not know
            continue

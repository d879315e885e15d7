"""What `corporation doctor security` judges: the settings of all processes of this node, and who they are at Redis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from corporation.broker_link import user_in
from corporation.cli.connection import effective
from corporation.embedded.stack_environment import Stack, inherited_from, operators_variables, variables_of
from corporation.embedded.stack_facts import from_facts, with_given
from corporation.embedded.stack_shape import ROLES, Shape
from corporation.embedded.stack_state import StateFolder, StateFolderError
from corporation.settings import Settings, load_settings


@dataclass(frozen=True)
class View:
    """`environ` is what the node's processes are given, taken together; `settings` are read from it."""

    environ: Mapping[str, str] = field(repr=False)
    settings: Settings
    folder: StateFolder
    redis_user: str
    """Who the process is that opens the broker here: HQ's engine, or the factory."""


def view_of(environ: Mapping[str, str], folder: StateFolder) -> View:
    """This node as its processes are set up, for an `environ` with its secrets; raises SettingsError.

    In the folder of a stack the engine's variables and the API's are taken together: no process has both.
    """
    seen = effective(environ, folder)
    stack = _stack(environ, folder)
    if stack is None or seen.get("FACTORY_ROLE") != ROLES[stack.shape]:
        settings = load_settings(seen)
        return View(seen, settings, folder, user_in(settings.redis_url))
    seen = operators_variables("api", stack) | seen
    settings = load_settings(seen)
    own = variables_of("engine", stack).get("UA_REDIS_URL", "")
    # Whoever names another broker in this environment is not looking at the stack's.
    is_the_stacks = urlsplit(own).netloc.rpartition("@")[2] == urlsplit(settings.redis_url).netloc.rpartition("@")[2]
    return View(seen, settings, folder, user_in(own if own and is_the_stacks else settings.redis_url))


def _stack(environ: Mapping[str, str], folder: StateFolder) -> Stack | None:
    try:
        facts = folder.read_facts()
    except StateFolderError:
        return None
    stack = from_facts(folder.path, facts, inherited_from(environ)) if facts else None
    return with_given(stack, environ) if stack is not None and stack.shape is not Shape.WORKER else None

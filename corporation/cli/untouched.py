"""Whether anything was set up here at all: on a fresh machine nothing is wrong yet, however little there is."""

from collections.abc import Mapping
from typing import Final

from corporation.cli.finding import Finding
from corporation.cli.membership import is_a_factorys
from corporation.embedded.stack_addresses import DATABASE_NAMES, MAILBOX_NAMES, REDIS_NAMES
from corporation.embedded.stack_state import StateFolder
from corporation.settings import names_of

SET_UP_BY: Final = (
    "FACTORY_ROLE",
    "UA_DEPLOYMENT_PROFILE",
    *REDIS_NAMES,
    *DATABASE_NAMES,
    *MAILBOX_NAMES,
    *names_of("hq_base_url"),
)
"""Variables that say what this node is or where its servers are: who set one of them has begun."""

NOTHING_YET: Final = Finding("set-up", "warning", "nothing is set up here yet", "run `ops/run` (or `corporation up`)")


def is_untouched(environ: Mapping[str, str], folder: StateFolder) -> bool:
    """Whether `environ` names no node and no server, no stack was ever started in `folder`, and no factory joined."""
    if folder.facts.exists() or is_a_factorys(folder):
        return False
    return not any(environ.get(name, "").strip() for name in SET_UP_BY)

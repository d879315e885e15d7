"""`corporation migrate`: the ledger brought to the schema that this code expects."""

import os

from corporation.cli import exits
from corporation.cli.connection import JsonOption, StateOption, effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, working
from corporation.embedded.connection_causes import cause_of
from corporation.settings import load_settings
from corporation.shown_address import shown


def migrate(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Bring the ledger of UA_DATABASE_URL to the newest schema; safe to repeat."""
    # Late: SQLAlchemy and Alembic, which most commands do not need.
    from sqlalchemy.exc import SQLAlchemyError

    from corporation import db

    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)), "UA_DATABASE_URL")
    if settings.database_url is None:
        raise Refusal(exits.CONFIG, "A LOCAL_WORKER has no ledger (FACTORY_ROLE); migrate at headquarters")
    try:
        with working("Migrating"):
            revision = db.migrate(settings.database_url)
    except (SQLAlchemyError, ValueError) as error:
        address = shown(settings.database_url).replace("+psycopg", "", 1)
        why = f"{address} cannot be migrated: {cause_of(error)}"
        raise Refusal(exits.UNAVAILABLE, f"{why}; start it, or check UA_DATABASE_URL") from None
    if as_json:
        say_json({"revision": revision})
    else:
        say(f"The ledger is at revision {revision}")

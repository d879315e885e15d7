"""`corporation migrate`: the ledger brought to the schema that this code expects."""

import os
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import JsonOption, StateOption, effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, working
from corporation.embedded.connection_causes import cause_of
from corporation.settings import load_settings
from corporation.shown_address import shown

_GRANT_HELP: Final = (
    "Let this role of the database use the ledger without owning it, for the processes to log in as; may be repeated."
)


def migrate(
    grant: Annotated[list[str] | None, typer.Option("--grant", metavar="ROLE", help=_GRANT_HELP)] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Bring the ledger of UA_DATABASE_URL to the newest schema; safe to repeat."""
    # Late: SQLAlchemy and Alembic, which most commands do not need.
    from sqlalchemy.exc import SQLAlchemyError

    from corporation import db

    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)), "UA_DATABASE_URL")
    if settings.database_url is None:
        raise Refusal(exits.CONFIG, "A LOCAL_WORKER has no ledger (FACTORY_ROLE); migrate at headquarters")
    granted = grant or []
    try:
        with working("Migrating"):
            revision = db.migrate(settings.database_url, granted)
    except db.UnknownRoleError as error:
        raise Refusal(exits.CONFIG, str(error)) from None
    except (SQLAlchemyError, ValueError) as error:
        why = f"{shown(settings.database_url).replace('+psycopg', '', 1)} cannot be migrated: {cause_of(error)}"
        if db.lacks_the_right(error):
            advice = "put the address of the role that owns the tables into UA_DATABASE_URL for this one command"
            raise Refusal(exits.CONFIG, f"{why}; {advice}") from None
        raise Refusal(exits.UNAVAILABLE, f"{why}; start it, or check UA_DATABASE_URL") from None
    if as_json:
        say_json({"revision": revision, "granted_to": granted})
    else:
        say(f"The ledger is at revision {revision}{_told(granted)}")


def _told(granted: list[str]) -> str:
    return f"; it may be used by: {', '.join(granted)}" if granted else ""

"""`corporation migrate`: the ledger brought to the schema that this code expects."""

import os
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working
from corporation.embedded.connection_causes import cause_of
from corporation.settings import load_settings
from corporation.shown_address import shown

_GRANT_HELP: Final = (
    "Let this role of the database use the ledger without owning it, for the processes to log in as; may be repeated."
)
_FACTORY_HELP: Final = (
    "Let this role read and fill the mailbox rows of that factory, and nothing else, for a worker that is given its "
    "address as UA_RESULT_BACKEND_URL; may be repeated. A factory that joined with a code needs none."
)


def migrate(
    grant: Annotated[list[str] | None, typer.Option("--grant", metavar="ROLE", help=_GRANT_HELP)] = None,
    factory: Annotated[
        list[str] | None, typer.Option("--factory", metavar="ROLE=FACTORY_ID", help=_FACTORY_HELP)
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Bring the ledger of UA_DATABASE_URL to the newest schema; safe to repeat."""
    # Late: SQLAlchemy and Alembic, which most commands do not need.
    from sqlalchemy.exc import SQLAlchemyError

    from corporation import db
    from corporation.trust.mailbox_roles import UnusableRoleError

    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)), "UA_DATABASE_URL")
    if settings.database_url is None:
        raise Refusal(exits.CONFIG, "A LOCAL_WORKER has no ledger (FACTORY_ROLE); migrate at headquarters")
    granted, admitted = grant or [], _pairs(factory or [])
    try:
        with working("Migrating"):
            revision = db.migrate(settings.database_url, granted)
            unlimited = _admit(settings.database_url, admitted)
    except (db.UnknownRoleError, db.LocksReservedError, UnusableRoleError) as error:
        raise Refusal(exits.CONFIG, str(error)) from None
    except (SQLAlchemyError, ValueError) as error:
        why = f"{shown(settings.database_url).replace('+psycopg', '', 1)} cannot be migrated: {cause_of(error)}"
        if db.lacks_the_right(error):
            advice = "put the address of the role that owns the tables into UA_DATABASE_URL for this one command"
            raise Refusal(exits.CONFIG, f"{why}; {advice}") from None
        raise Refusal(exits.UNAVAILABLE, f"{why}; start it, or check UA_DATABASE_URL") from None
    if as_json:
        say_json(
            {"revision": revision, "granted_to": granted, "factories": dict(admitted), "without_limits": unlimited}
        )
        return
    say(f"The ledger is at revision {revision}{_told(granted)}")
    for role, factory_id in admitted:
        say(f"{role} may read and fill the mailbox rows of {factory_id}")
    if unlimited:
        say(
            f"An administrator has to run this command too, once, for: {', '.join(unlimited)}; it limits their "
            "connections, and keeps the database's advisory locks and large objects for headquarters"
        )


def _told(granted: list[str]) -> str:
    return f"; it may be used by: {', '.join(granted)}" if granted else ""


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    pairs = [(role.strip(), factory_id.strip()) for role, _, factory_id in (one.partition("=") for one in given)]
    if not all(role and factory_id for role, factory_id in pairs):
        raise Refusal(exits.USAGE, "--factory takes ROLE=FACTORY_ID, for instance f_desk-7=desk-7")
    return pairs


def _admit(url: str, admitted: list[tuple[str, str]]) -> list[str]:
    """The roles whose limits (connections, time) could not be set, of those that may now fill their rows."""
    from corporation import db
    from corporation.trust.mailbox_roles import admit

    if not admitted:
        return []
    ledger = db.open_ledger(url, pool_size=1)
    try:
        with db.transaction(ledger) as connection:
            return [role for role, factory_id in admitted if not admit(connection, role, factory_id)]
    finally:
        ledger.dispose()

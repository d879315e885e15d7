"""Whether the database role of a node is weak enough: it owns nothing and no rule of the database passes it by.

What a process can do to the ledger is then what it was granted, whatever else goes wrong in it: it cannot drop a table,
switch off a trigger or read past row level security. Asked before anything else starts (ops/decisions/0012).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg
import structlog

from corporation.logs import configure_logs
from corporation.masking import Mask, secrets_of
from corporation.settings import Settings
from corporation.shown_address import shown

CONNECT_SECONDS: Final = 5
STRICT_PROFILES: Final = frozenset({"vps", "standalone_node"})
"""Where a role that is too strong stops the start; on a workstation it is only told."""

# Membership counts whether or not it is inherited: a member may become the other role with one statement.
LOOK: Final = """
    WITH reach AS (SELECT oid, rolname, rolsuper, rolbypassrls FROM pg_roles
                    WHERE pg_has_role(session_user, oid, 'MEMBER')),
         owners AS (SELECT nspowner AS owner FROM pg_namespace WHERE nspname IN ('corporation', 'mailbox')
                    UNION SELECT relowner FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                           WHERE nspname IN ('corporation', 'mailbox'))
    SELECT session_user::text,
           ARRAY(SELECT rolname::text FROM reach WHERE rolsuper ORDER BY 1),
           ARRAY(SELECT rolname::text FROM reach WHERE rolbypassrls ORDER BY 1),
           ARRAY(SELECT rolname::text FROM reach WHERE oid IN (SELECT owner FROM owners) ORDER BY 1)
"""

log = structlog.get_logger()


@dataclass(frozen=True)
class RoleFacts:
    """A role, and which roles that it is or may become are superusers, pass row security by, or own the ledger."""

    name: str
    superusers: tuple[str, ...] = ()
    bypassing: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    """Of the schemas `corporation` and `mailbox`, or of any relation in them."""


@dataclass(frozen=True)
class Judgement:
    """What is to be said of the role in the address that `variable` holds."""

    variable: str
    role: str = ""
    reasons: tuple[str, ...] = ()
    """Why it is too strong; empty when it is not, or when that is not known."""
    unknown: str = ""
    """Why nobody could look: the name of the driver's error."""

    @property
    def objection(self) -> str:
        """Which role is too strong and why, without the variable; empty when nothing is wrong with it."""
        return f"the database role {self.role!r} is too strong: {', and '.join(self.reasons)}" if self.reasons else ""

    @property
    def advice(self) -> str:
        """What to do about the objection."""
        return (
            "make a role that owns nothing (CREATE ROLE corporation_hq LOGIN PASSWORD '...'), run `corporation migrate "
            f"--grant corporation_hq` with the owner's address, and put the new role's address into {self.variable}"
        )

    @property
    def problem(self) -> str:
        """Both in one line, for whoever started the process; empty when nothing is wrong."""
        return f"{self.variable}: {self.objection}; {self.advice}" if self.reasons else ""


def reasons_against(role: RoleFacts) -> list[str]:
    """Why `role` is too strong for a process that serves others; empty when it is not."""
    if role.name in role.superusers:
        return ["it is a superuser"]  # the rest follows from it
    found = (
        _reason(role.name, role.superusers, "", "which is a superuser"),
        _reason(role.name, role.bypassing, "it has BYPASSRLS", "which has BYPASSRLS"),
        _reason(role.name, role.owners, "it owns tables of the ledger", "which owns tables of the ledger"),
    )
    return [reason for reason in found if reason]


def _reason(name: str, found: tuple[str, ...], itself: str, of_another: str) -> str:
    if not found:
        return ""
    return itself if name in found else f"it is a member of {found[0]!r}, {of_another}"


def look_at_role(url: str) -> RoleFacts:
    """The facts of the role that `url` (postgresql://…) logs in as; raises psycopg.Error or ValueError.

    It gives up connecting after CONNECT_SECONDS for each address of the host, and the question after as many.
    """
    options = f"-c statement_timeout={CONNECT_SECONDS}s"
    with psycopg.connect(
        url, connect_timeout=CONNECT_SECONDS, options=options, application_name="corporation-role"
    ) as connection:
        row = connection.execute(LOOK).fetchone()
    if row is None:
        raise ValueError("the database does not say who we are")
    name, superusers, bypassing, owners = row
    return RoleFacts(name, tuple(superusers), tuple(bypassing), tuple(owners))


def judge(variable: str, url: str) -> Judgement:
    """The judgement on the role of `url`, which `variable` holds; a database that is away gives an unknown one."""
    try:
        facts = look_at_role("postgresql://" + url.partition("://")[2])
    except (psycopg.Error, ValueError) as error:
        return Judgement(variable, unknown=type(error).__name__)
    return Judgement(variable, facts.name, tuple(reasons_against(facts)))


def is_strict(settings: Settings) -> bool:
    """Whether a role that is too strong stops a node of this deployment profile."""
    return settings.deployment_profile in STRICT_PROFILES


def why_role_is_refused(settings: Settings) -> list[str]:
    """A check of bootstrap: one problem for each address whose role is too strong, where the profile is strict.

    On a workstation it is one warning in the log. A database that is away stops nobody: that the role was not looked at
    is logged, and the node starts as ever.
    """
    problems: list[str] = []
    for variable, url in _addresses(settings):
        judgement = judge(variable, url)
        if judgement.unknown:
            _begin_to_log(settings)
            log.warning("database_role_not_checked", address=shown(url), error=judgement.unknown)
        elif judgement.reasons and is_strict(settings):
            problems.append(judgement.problem)
        elif judgement.reasons:
            _begin_to_log(settings)
            log.warning("database_role_too_strong", why=judgement.problem)
    return problems


def _addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each database that this node opens, once, with the variable to correct."""
    ledger = settings.database_url
    if ledger:
        yield "UA_DATABASE_URL", ledger
    if settings.mailbox_url_given and settings.mailbox_url and not _same(settings.mailbox_url, ledger):
        yield "UA_RESULT_BACKEND_URL", settings.mailbox_url


def _same(url: str, other: str | None) -> bool:
    return other is not None and url.partition("://")[2] == other.partition("://")[2]


def _begin_to_log(settings: Settings) -> None:
    """Checks run before the process logs; what one of them says must look like every later line, secrets masked."""
    if not structlog.is_configured():
        configure_logs(Mask(secrets_of(settings)))

"""How the controls stand that the ledger knows of: rules of the mailbox, users of the broker, who is in quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from corporation.trust.broker_alarms import EVERY_SECONDS
from corporation.trust.mailbox_roles import TOO_STRONG

GUARDED: Final = ("mailbox.celery_taskmeta", "mailbox.factory_roles")
"""Tables that factories reach, each its own rows."""

UNGUARDED = text("""
    SELECT name FROM unnest(CAST(:tables AS text[])) AS name
      JOIN pg_class ON pg_class.oid = to_regclass(name)
     WHERE NOT (relrowsecurity AND relforcerowsecurity) ORDER BY name
""")

AUDIT_IS_KEPT = text("""
    SELECT EXISTS (SELECT 1 FROM pg_trigger
                    WHERE tgrelid = 'corporation.audit_log'::regclass AND tgname = 'audit_log_is_append_only'
                      AND tgenabled <> 'D')
""")

ROLES = text("SELECT role_name::text FROM mailbox.factory_roles ORDER BY role_name")

# Of a factory that HQ knows and no user is kept for, missions come over HTTPS, or it shares a password with others.
USERS = text("""
    SELECT (SELECT count(*) FROM corporation.factories f WHERE f.factory_role = 'LOCAL_WORKER') AS factories,
           count(*) AS users,
           coalesce(array_agg(factory_id ORDER BY factory_id)
                    FILTER (WHERE applied_change IS DISTINCT FROM changed_at), '{}') AS waiting
      FROM corporation.redis_users WHERE removed_at IS NULL
""")

# Whoever has no row shares a password with others, or has no part in Redis.
QUARANTINE = text("""
    SELECT a.factory_id, coalesce(NOT u.enabled AND u.applied_change = u.changed_at, false) AS is_shut_out
      FROM corporation.factory_access a LEFT JOIN corporation.redis_users u USING (factory_id)
     WHERE a.quarantined_at IS NOT NULL AND u.removed_at IS NULL ORDER BY a.factory_id
""")

# A row tells when it was changed, which is later than its password where its factory was let in again since.
OLDEST = text("""
    SELECT u.factory_id,
           extract(epoch FROM now() - coalesce(max(a.at), u.changed_at))::double precision / 86400 AS days
      FROM corporation.redis_users u LEFT JOIN corporation.audit_log a
        ON a.target = u.factory_id AND a.action IN ('redis_password.issue', 'factory.enrol') AND a.outcome = 'done'
     WHERE u.made_here AND u.removed_at IS NULL
     GROUP BY u.factory_id, u.changed_at ORDER BY days DESC, u.factory_id LIMIT 1
""")


# What the engine has told people lately of queues that cost it time, or are too full to be read.
COSTLY_QUEUES = text("""
    SELECT DISTINCT metadata ->> 'about' AS queue FROM corporation.notifications
     WHERE kind IN ('redis_queue_slow', 'redis_queue_unread', 'redis_queue_swollen')
       AND at > now() - CAST(:every AS double precision) * interval '1 second'
     ORDER BY queue
""")


@dataclass(frozen=True)
class Standing:
    """What the ledger says of its own rules, and of those who are let into the broker."""

    unguarded: tuple[str, ...]
    """Tables of the mailbox without row security, or whose owner passes it by."""
    roles: Mapping[str, str]
    """Every role that was admitted to the mailbox, and why it is too strong; an empty text where it is not."""
    audit_is_kept: bool
    """Whether no line of the audit log can be changed or removed."""
    factories: int
    """Those that HQ knows, users or not."""
    users: int
    waiting: tuple[str, ...]
    """Factories whose user the broker does not have yet as it is to be."""
    quarantine: Mapping[str, bool]
    """Every factory in quarantine, and whether the broker follows that."""
    oldest: tuple[str, float] | None
    """The factory whose password was given out first, and how many days ago."""
    costly: tuple[str, ...] = ()
    """Keys in the broker that cost HQ time within the hour, or are too full to be read."""


def read(connection: Connection) -> Standing:
    """How all of it stands now; changes nothing."""
    users = connection.execute(USERS).one()
    oldest = connection.execute(OLDEST).one_or_none()
    return Standing(
        unguarded=tuple(connection.scalars(UNGUARDED, {"tables": list(GUARDED)})),
        roles={role: _why_too_strong(connection, role) for role in connection.scalars(ROLES).all()},
        audit_is_kept=bool(connection.execute(AUDIT_IS_KEPT).scalar_one()),
        factories=users.factories,
        users=users.users,
        waiting=tuple(users.waiting),
        quarantine={row.factory_id: row.is_shut_out for row in connection.execute(QUARANTINE)},
        oldest=(oldest.factory_id, oldest.days) if oldest else None,
        costly=tuple(connection.scalars(COSTLY_QUEUES, {"every": EVERY_SECONDS})),
    )


def _why_too_strong(connection: Connection, role: str) -> str:
    reasons: list[str] | None = connection.execute(TOO_STRONG, {"role": role}).scalar()
    return reasons[0][2:] if reasons else ""

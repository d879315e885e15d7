"""Which factories may speak at all: what ends their tokens, credentials and broker users, and lets them back in.

A factory's tokens name the epoch they were made in. Raising it ends all of them at once, whoever holds them.
"""

from typing import Final

from sqlalchemy import Connection, text

from corporation.factories.events import note_event
from corporation.trust import redis_users
from corporation.trust.redis_profiles import user_of
from corporation.wakeups import DISPATCH, RECALL, wake

LONGEST_NAME: Final = 300

RAISE = text("""
    INSERT INTO corporation.factory_access AS a (factory_id, epoch) VALUES (:factory_id, 1)
    ON CONFLICT (factory_id) DO UPDATE SET epoch = a.epoch + 1, epoch_since = now()
    RETURNING epoch
""")

REVOKE = text("""
    UPDATE corporation.factory_credentials SET revoked_at = greatest(clock_timestamp(), created_at)
     WHERE factory_id = :factory_id AND revoked_at IS NULL
""")

# Only the first word counts: who says it again must not hide who said it first, and why.
QUARANTINE = text("""
    INSERT INTO corporation.factory_access AS a (factory_id, epoch, quarantined_at, quarantined_by, quarantine_note)
    VALUES (:factory_id, 1, now(), :by, :note)
    ON CONFLICT (factory_id) DO UPDATE
       SET epoch = a.epoch + 1, epoch_since = now(), quarantined_at = now(), quarantined_by = :by,
           quarantine_note = :note
     WHERE a.quarantined_at IS NULL
    RETURNING epoch
""")

RELEASE = text("""
    UPDATE corporation.factory_access SET quarantined_at = NULL, quarantined_by = NULL, quarantine_note = NULL
     WHERE factory_id = :factory_id AND quarantined_at IS NOT NULL RETURNING epoch
""")

KNOWN = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factories WHERE factory_id = :factory_id)
        OR EXISTS (SELECT 1 FROM corporation.factory_access WHERE factory_id = :factory_id)
        OR EXISTS (SELECT 1 FROM corporation.factory_credentials WHERE factory_id = :factory_id AND revoked_at IS NULL)
""")

EPOCH = text("SELECT epoch FROM corporation.factory_access WHERE factory_id = :factory_id")

QUARANTINED = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factory_access
                    WHERE factory_id = :factory_id AND quarantined_at IS NOT NULL)
""")

BARRED = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factory_access
                    WHERE factory_id = :factory_id
                      AND (quarantined_at IS NOT NULL OR epoch > coalesce(CAST(:epoch AS integer), epoch)))
""")

RENAME = text("""
    UPDATE corporation.factories SET display_name = :display_name, updated_at = now()
     WHERE factory_id = :factory_id RETURNING factory_id
""")


def shut_out(connection: Connection, factory_id: str) -> int:
    """From the commit on no token, no credential and no user of the broker of `factory_id` is worth anything.

    It may enrol again. Returned is its new epoch. Safe to call twice, and for a factory that nobody knows. Whoever also
    changes its row in `factories` does that first, so that two callers never wait for each other.
    """
    epoch = int(connection.execute(RAISE, {"factory_id": factory_id}).scalar_one())
    connection.execute(REVOKE, {"factory_id": factory_id})
    redis_users.remove(connection, factory_id)
    return epoch


def quarantine(connection: Connection, factory_id: str, by: str, note: str | None) -> bool:
    """From the commit on HQ answers `factory_id` with 401 and gives it nothing; False when that was so before.

    The engine is woken: it takes back or gives up what the factory holds (`missions/evict.py`). Its credential is kept
    and worth nothing until it is released; its user of the broker is shut out within seconds. Safe to call twice: the
    first word stands.
    """
    values = {"factory_id": factory_id, "by": by[:LONGEST_NAME], "note": note}
    if connection.execute(QUARANTINE, values).first() is None:
        return False
    redis_users.shut_out(connection, factory_id, user_of(factory_id))
    note_event(connection, factory_id, "quarantined", by[:LONGEST_NAME], {"note": note} if note else None)
    wake(connection, RECALL, DISPATCH)
    return True


def release(connection: Connection, factory_id: str, by: str, note: str | None = None) -> bool:
    """`factory_id` is in quarantine no more; False when it was not.

    Its credential is worth something again, and so is its user of the broker; the tokens it had before are not. Safe
    to call twice.
    """
    if connection.execute(RELEASE, {"factory_id": factory_id}).first() is None:
        return False
    redis_users.let_in(connection, factory_id)
    note_event(connection, factory_id, "released", by[:LONGEST_NAME], {"note": note} if note else None)
    wake(connection, DISPATCH)
    return True


def is_known(connection: Connection, factory_id: str) -> bool:
    """Whether HQ ever heard of `factory_id`, let it in, or shut it out."""
    return bool(connection.execute(KNOWN, {"factory_id": factory_id}).scalar_one())


def is_quarantined(connection: Connection, factory_id: str) -> bool:
    """Whether `factory_id` is in quarantine now."""
    return bool(connection.execute(QUARANTINED, {"factory_id": factory_id}).scalar_one())


def epoch_of(connection: Connection, factory_id: str) -> int:
    """The epoch that a token made now for `factory_id` has to name."""
    return int(connection.execute(EPOCH, {"factory_id": factory_id}).scalar() or 0)


def is_barred(connection: Connection, factory_id: str, epoch: int | None = None) -> bool:
    """Whether `factory_id` may not speak: it is in quarantine, or `epoch` is over; None asks for the first alone."""
    return bool(connection.execute(BARRED, {"factory_id": factory_id, "epoch": epoch}).scalar_one())


def rename(connection: Connection, factory_id: str, display_name: str | None, by: str) -> bool:
    """People see `display_name` from now on, None gives the id back its place; False when there is no such factory.

    Its identity stays what it is (F-1). Safe to call twice.
    """
    values = {"factory_id": factory_id, "display_name": display_name}
    if connection.execute(RENAME, values).first() is None:
        return False
    note_event(connection, factory_id, "renamed", by[:LONGEST_NAME], {"display_name": display_name})
    return True

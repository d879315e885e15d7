"""What the broker's users are to be, one for each factory that has one: written here, made so by the doorkeeper.

Nothing here speaks to Redis. HQ keeps the SHA-256 of each password and never the password. A user that was removed
keeps its row, so that a Redis that brings it back (an older file of users, say) loses it again.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

RANDOM_BYTES: Final = 32
PREFIX: Final = "fr_"
"""So that scanners of code and logs find a password that got out."""
OVERLAP_SECONDS: Final = 900
"""How long the password before the newest one is good beside it."""
PROOF_SECONDS: Final = 120
"""How long the broker has known the new one at least before it forgets the old: a factory beats twice in that time."""

# A name that a removed factory left is free for the next one; of two that live the second is refused (UNIQUE).
MAKE_ROOM = text("""
    DELETE FROM corporation.redis_users
     WHERE user_name = :user_name AND factory_id <> :factory_id AND removed_at IS NOT NULL
""")

ISSUE = text("""
    INSERT INTO corporation.redis_users (factory_id, user_name, password_sha256, cut)
    VALUES (:factory_id, :user_name, :sha256, true)
    ON CONFLICT (factory_id) DO UPDATE
       SET user_name = :user_name, password_sha256 = :sha256, previous_sha256 = NULL, previous_until = NULL,
           made_here = true, enabled = true, removed_at = NULL, cut = true, rotation_asked_at = NULL,
           changed_at = clock_timestamp()
""")

# Asked again before the old one has ended, only the newest password gives way: the answer that told it may have been
# lost, and then its factory still has the one before. Nor does the old one live longer for it.
ROTATE = text("""
    UPDATE corporation.redis_users
       SET previous_sha256 = CASE WHEN previous_until > now() THEN previous_sha256 ELSE password_sha256 END,
           previous_until = CASE WHEN previous_until > now() THEN previous_until
                                 ELSE now() + CAST(:overlap AS double precision) * interval '1 second' END,
           password_sha256 = :sha256, rotation_asked_at = NULL, changed_at = clock_timestamp()
     WHERE factory_id = :factory_id AND made_here AND enabled AND removed_at IS NULL
    RETURNING user_name, previous_until
""")

ASK = text("""
    UPDATE corporation.redis_users
       SET rotation_asked_at = CASE WHEN previous_until > now() THEN rotation_asked_at
                                    ELSE coalesce(rotation_asked_at, now()) END
     WHERE factory_id = :factory_id AND made_here AND enabled AND removed_at IS NULL
    RETURNING coalesce(rotation_asked_at < now(), true) AS asked_before
""")

ASKED = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.redis_users
                    WHERE factory_id = :factory_id AND rotation_asked_at IS NOT NULL AND enabled AND removed_at IS NULL)
""")

# One that was made elsewhere has no row before; nothing happens to it while nobody of this name is known to the broker.
KNOW = text("""
    INSERT INTO corporation.redis_users (factory_id, user_name, made_here)
    VALUES (:factory_id, :user_name, false) ON CONFLICT DO NOTHING
""")

SWITCH = text("""
    UPDATE corporation.redis_users SET enabled = :enabled, cut = cut OR NOT :enabled, changed_at = clock_timestamp()
     WHERE factory_id = :factory_id AND enabled <> :enabled AND removed_at IS NULL RETURNING user_name
""")

REMOVE = text("""
    UPDATE corporation.redis_users
       SET removed_at = now(), rotation_asked_at = NULL, previous_sha256 = NULL, previous_until = NULL,
           changed_at = clock_timestamp()
     WHERE factory_id = :factory_id AND made_here AND removed_at IS NULL RETURNING user_name
""")

HAND_OVER = text("""
    UPDATE corporation.redis_users
       SET made_here = false, password_sha256 = NULL, previous_sha256 = NULL, previous_until = NULL,
           rotation_asked_at = NULL, cut = true, changed_at = clock_timestamp()
     WHERE factory_id = :factory_id AND made_here AND removed_at IS NULL RETURNING user_name
""")

END_OVERLAPS = text("""
    UPDATE corporation.redis_users
       SET previous_sha256 = NULL, previous_until = NULL, cut = true, changed_at = clock_timestamp()
     WHERE previous_until <= now() AND applied_change = changed_at
       AND applied_at <= now() - CAST(:proof AS double precision) * interval '1 second'
""")

READ = text("SELECT * FROM corporation.redis_users ORDER BY factory_id")

APPLIED = text("""
    UPDATE corporation.redis_users SET applied_change = changed_at, applied_at = clock_timestamp(), cut = false
     WHERE factory_id = :factory_id AND changed_at = :changed_at AND applied_change IS DISTINCT FROM changed_at
""")

COUNT_REFUSED = text("""
    UPDATE corporation.redis_users SET refused_commands = refused_commands + :more WHERE user_name = :user_name
""")

REFUSED = text("SELECT user_name, refused_commands FROM corporation.redis_users WHERE removed_at IS NULL")

# Only one doorkeeper at a time: of two, the slower one would undo what the faster one has just been told.
ALONE = text("SELECT pg_try_advisory_xact_lock(hashtextextended('corporation.doorkeeper', 0))")


@dataclass(frozen=True)
class RedisUser:
    """What one user is to be. `passwords` are SHA-256 in hex, the newest first."""

    factory_id: str
    name: str
    passwords: tuple[str, ...]
    made_here: bool
    """Else it is only let in and shut out, if the broker knows it: all else of it is somebody else's."""
    enabled: bool
    removed: bool
    cut: bool
    """Whether connections of before the last change are to be closed."""
    changed_at: datetime
    applied: bool
    """Whether the broker once followed the last change."""


@dataclass(frozen=True)
class Rotated:
    """A user whose newest password is the one just given, and until when the one before it is good as well."""

    name: str
    previous_until: datetime


def new_password(random: Callable[[int], bytes]) -> str:
    """A fresh password of 256 bits from `random(how_many_bytes)`, which must be fit for secrets."""
    return PREFIX + base64.urlsafe_b64encode(random(RANDOM_BYTES)).rstrip(b"=").decode("ascii")


def hashed(password: str) -> str:
    """As Redis keeps it: fast to compute, and 256 random bits cannot be guessed however cheap a guess is."""
    return hashlib.sha256(password.encode()).hexdigest()


def issue(connection: Connection, factory_id: str, user_name: str, password: str) -> None:
    """From the next look of the doorkeeper on `password` is the only one of this user, who is let in.

    Whoever is connected under an earlier one is cut off. Safe to call twice. Raises sqlalchemy.exc.IntegrityError when
    another factory has the name.
    """
    values = {"factory_id": factory_id, "user_name": user_name, "sha256": hashed(password)}
    connection.execute(MAKE_ROOM, values)
    connection.execute(ISSUE, values)


def rotate(connection: Connection, factory_id: str, password: str) -> Rotated | None:
    """`password` is good besides the one before it, which ends by itself; None where there is no user to be let in."""
    values = {"factory_id": factory_id, "sha256": hashed(password), "overlap": OVERLAP_SECONDS}
    row = connection.execute(ROTATE, values).one_or_none()
    return None if row is None else Rotated(row.user_name, row.previous_until)


def ask_to_rotate(connection: Connection, factory_id: str) -> bool | None:
    """The factory is told with its beats to take a new password, until it has; None where it has no user to be let in.

    False when that was so before, and while the password before the newest is still good: a third would make the one
    that its factory uses worthless. Safe to call twice.
    """
    row = connection.execute(ASK, {"factory_id": factory_id}).one_or_none()
    return None if row is None else not row.asked_before


def is_asked_to_rotate(connection: Connection, factory_id: str) -> bool:
    """Whether the factory is to take a new password. One indexed read."""
    return bool(connection.execute(ASKED, {"factory_id": factory_id}).scalar_one())


def shut_out(connection: Connection, factory_id: str, user_name: str) -> bool:
    """The user, whoever made it, is let in no more, and is cut off; False when that was so before. Safe to repeat."""
    values = {"factory_id": factory_id, "user_name": user_name}
    connection.execute(MAKE_ROOM, values)
    connection.execute(KNOW, values)
    return connection.execute(SWITCH, {"factory_id": factory_id, "enabled": False}).first() is not None


def let_in(connection: Connection, factory_id: str) -> bool:
    """The user is let in again with the password it has; False when it was not shut out. Safe to call twice."""
    return connection.execute(SWITCH, {"factory_id": factory_id, "enabled": True}).first() is not None


def remove(connection: Connection, factory_id: str) -> bool:
    """The broker is to have no such user any more; False when it was to have none before. Safe to call twice.

    One that is made elsewhere stays what it is: shut out, if its factory is in quarantine.
    """
    return connection.execute(REMOVE, {"factory_id": factory_id}).first() is not None


def hand_over(connection: Connection, factory_id: str) -> bool:
    """The user is made by somebody else from now on, who gives it its password; False when that was so before.

    It stays let in or shut out; whoever is connected as it is cut off once. Safe to call twice.
    """
    return connection.execute(HAND_OVER, {"factory_id": factory_id}).first() is not None


def is_alone(connection: Connection) -> bool:
    """Whether this transaction is the only one that makes the broker's users what they are to be, until it ends."""
    return bool(connection.execute(ALONE).scalar_one())


def end_overlaps(connection: Connection) -> None:
    """Old passwords whose time is over are good no more, unless the broker has not known the new ones for long.

    Whoever is connected is cut off once: with the new password it comes back, with the old one it does not.
    """
    connection.execute(END_OVERLAPS, {"proof": PROOF_SECONDS})


def read_users(connection: Connection) -> Sequence[RedisUser]:
    """Every user that the broker is to have or to have no more, by factory."""
    return [_user(row) for row in connection.execute(READ)]


def note_applied(connection: Connection, user: RedisUser) -> None:
    """The broker follows what `user` says; what has changed since is still to be done."""
    connection.execute(APPLIED, {"factory_id": user.factory_id, "changed_at": user.changed_at})


def count_refused(connection: Connection, user_name: str, more: int) -> None:
    """The broker has refused this user `more` commands since the last call."""
    connection.execute(COUNT_REFUSED, {"user_name": user_name, "more": more})


def refused_commands(connection: Connection) -> dict[str, int]:
    """How many commands the broker has refused each user since it was made."""
    return {row.user_name: row.refused_commands for row in connection.execute(REFUSED)}


def _user(row: Row[Any]) -> RedisUser:
    return RedisUser(
        factory_id=row.factory_id,
        name=row.user_name,
        passwords=tuple(sha for sha in (row.password_sha256, row.previous_sha256) if sha),
        made_here=row.made_here,
        enabled=row.enabled,
        removed=row.removed_at is not None,
        cut=row.cut,
        changed_at=row.changed_at,
        applied=row.applied_change == row.changed_at,
    )

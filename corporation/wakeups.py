"""The NOTIFY channels: a hint that there is work, never the only way to find it (a slow sweep stands behind each)."""

from sqlalchemy import Connection, text

REDIS_USERS = "corporation_redis_users"
"""What the users of the broker are to be has changed; sent by a trigger (migration 0010)."""
DISPATCH = "corporation_dispatch"
"""A mission waits, or a factory has room again."""
SEND = "corporation_send"
"""The outbox has rows."""
RECALL = "corporation_recall"
"""A factory must not, or will not, come for what lies in its queue."""
COLLECT = "corporation_collect"
"""A factory reported; sent by a trigger on the mailbox."""
REBUILD = "corporation_rebuild"
"""Somebody waits for a rebuild of the queues."""
PUBLISH = "corporation_publish"
"""A mission ended or a dead letter was kept; sent by triggers on both (migration 0004)."""


def wake(connection: Connection, *channels: str) -> None:
    """Wake the loops that listen on `channels` when this transaction commits; many wakes in one are one."""
    for channel in channels:
        connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": channel})

"""The importer and the publisher of this node, wired to its Redis and its ledger."""

from sqlalchemy import Engine

from corporation.delegation.importer import Importer
from corporation.delegation.keys import keys_of
from corporation.delegation.mission_stream import LONGEST_BLOCK_SECONDS, MissionStream
from corporation.delegation.publisher import Masked, Publisher
from corporation.delegation.redis_errors import open_stream_client
from corporation.settings import Settings

ANSWER_SECONDS = 0.9
"""How much longer than its wait a blocking read may take: then the process still ends within two seconds."""
PUBLISH_SECONDS = 6.0


def build_importer(settings: Settings, ledger: Engine) -> Importer:
    """The importer; it connects when it first ticks."""
    client = open_stream_client(settings.redis_url, LONGEST_BLOCK_SECONDS + ANSWER_SECONDS)
    return Importer(
        ledger,
        MissionStream(client, keys_of(settings)),
        settings.default_ttl_seconds,
        settings.stream_length,
        reclaim_idle_seconds=settings.reclaim_idle_seconds,
        poll_seconds=min(settings.poll_seconds, LONGEST_BLOCK_SECONDS),
    )


def build_publisher(settings: Settings, ledger: Engine, mask: Masked) -> Publisher:
    """The publisher; it connects when it first has something to tell."""
    client = open_stream_client(settings.redis_url, PUBLISH_SECONDS)
    return Publisher(ledger, client, keys_of(settings), settings.stream_length, mask)

"""The names of the streams, of the consumer group and of its members (contract streams §1; pure)."""

import re
from dataclasses import dataclass
from typing import Final

from corporation.settings import Settings

RESULTS_SUFFIX: Final = ":results"
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9:_-]+")


@dataclass(frozen=True)
class StreamKeys:
    """Where missions come in, where their ends and the dead letters go, and who reads for HQ."""

    missions: str
    dead_letters: str
    group: str
    consumer: str

    @property
    def results(self) -> str:
        """Always derived from the mission stream's name."""
        return self.missions + RESULTS_SUFFIX


def keys_of(settings: Settings) -> StreamKeys:
    """The names that this node's settings say."""
    consumer = settings.consumer_name or f"worker_{settings.factory_id}"
    return StreamKeys(
        settings.stream_name, settings.dead_letter_stream, settings.consumer_group, sanitised_name(consumer)
    )


def sanitised_name(name: str) -> str:
    """`name` with one `-` for each run of characters that a consumer's name must not have (S-1)."""
    return _NOT_IN_A_NAME.sub("-", name)

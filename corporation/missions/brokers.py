"""The installed broker: the core does not know which one it is."""

from importlib.metadata import entry_points

from corporation.missions.outbox import Broker
from corporation.settings import Settings


def load_broker(settings: Settings) -> Broker:
    """The broker of the entry point group `corporation.brokers`; it connects when it is first asked something."""
    [found] = entry_points(group="corporation.brokers")
    broker: Broker = found.load()(settings)
    return broker

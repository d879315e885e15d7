"""A Valkey and a PostgreSQL of their own for one measurement."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.server_process import Server
from corporation.embedded.valkey import start_valkey


@dataclass(frozen=True)
class FreshServers:
    """Two empty, durable servers on loopback, and the folder in which they and whoever uses them may keep files."""

    place: Path
    valkey: Server
    postgres: Server


@contextmanager
def fresh_servers() -> Generator[FreshServers]:
    """Both serve within the block; afterwards both have ended and nothing of them is left on the disk."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        valkey = start_valkey(place / "valkey")
        stack.callback(valkey.stop)
        # Beside the folder, where root's server may not read it.
        stack.callback(lambda: shutil.rmtree(home_of(place / "postgres"), ignore_errors=True))
        postgres = start_postgres(place / "postgres")
        stack.callback(postgres.stop)
        yield FreshServers(place, valkey, postgres)

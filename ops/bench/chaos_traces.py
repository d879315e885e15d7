"""What a run must not leave behind: secrets in what was written (I10), and more than every process needs (I12)."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ops.bench.chaos_ledger import Servers
from ops.bench.chaos_system import TOKEN

SHARE: Final = 1.05
"""What a run may leave of what it needed: five percent (notes, reliability §5)."""
WARM_FILES: Final = 24
"""So many files and connections more a process keeps once it has worked: pools fill with the first missions."""
WARM_MEGABYTES: Final = 48.0
"""So much more memory, likewise."""
WARM_CONNECTIONS: Final = 40
"""So many sessions more a server keeps, of all pools together."""
MEGABYTE: Final = 1 << 20

WRITTEN: Final = {
    "the ends of missions": """
        SELECT job_id FROM corporation.missions WHERE strpos(concat(result::text, error), %s) > 0""",
    "the history of missions": """
        SELECT DISTINCT m.job_id FROM corporation.mission_events e JOIN corporation.missions m ON m.id = e.mission_id
         WHERE strpos(e.detail::text, %s) > 0""",
    "the progress of attempts": """
        SELECT DISTINCT m.job_id FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id
         WHERE strpos(a.progress::text, %s) > 0""",
    "the log lines of missions": """
        SELECT DISTINCT m.job_id FROM corporation.mission_log l JOIN corporation.missions m ON m.id = l.mission_id
         WHERE strpos(l.line, %s) > 0""",
    "the mailbox": """
        SELECT task_id FROM mailbox.celery_taskmeta WHERE position(convert_to(%s, 'UTF8') IN result) > 0""",
}


def secrets_of(addresses: Iterable[str]) -> list[str]:
    """What must be nowhere: the token of every process, and the passwords in these addresses."""
    passwords = [urlsplit(address).password or "" for address in addresses]
    return [TOKEN, *(password for password in passwords if len(password) >= len("password"))]


def leaks_in_files(folder: Path, secrets: Sequence[str]) -> Iterator[str]:
    """Each log in `folder` that holds one of the secrets."""
    for path in sorted(folder.glob("*.log")):
        text = path.read_bytes()
        if any(secret.encode() in text for secret in secrets):
            yield f"a secret stands in {path.name}"


def leaks_in_ledger(servers: Servers, secrets: Sequence[str]) -> Iterator[str]:
    """Each place in the ledger and the mailbox that holds one of them; raises one of AWAY."""
    with servers.ledger() as ledger:
        for where, query in WRITTEN.items():
            found = {row[0] for secret in secrets for row in ledger.execute(query.encode(), [secret])}
            if found:
                yield f"a secret stands in {where}: {', '.join(sorted(found)[:3])} and {len(found)} in all"


@dataclass(frozen=True)
class Held:
    """What the processes and the servers hold at one moment; files and memory by the name of the process."""

    files: Mapping[str, int] = field(default_factory=dict[str, int])
    megabytes: Mapping[str, float] = field(default_factory=dict[str, float])
    connections: Mapping[str, int] = field(default_factory=dict[str, int])
    """Sessions by the server that they are of."""


def held(pids: Mapping[str, int], servers: Servers) -> Held:
    """What they hold now; who is gone meanwhile is left out. Raises one of AWAY."""
    files: dict[str, int] = {}
    megabytes: dict[str, float] = {}
    for name, pid in pids.items():
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            megabytes[name] = round(pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE, 1)
            files[name] = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only how many
    return Held(files, megabytes, servers.connections())


def grown(before: Held, after: Held) -> Iterator[str]:
    """What is beyond what it was by more than its share and what warms up (pure); who was not there is not judged."""
    kinds = (
        ("files open in", before.files, after.files, WARM_FILES),
        ("megabytes held by", before.megabytes, after.megabytes, WARM_MEGABYTES),
        ("connections to", before.connections, after.connections, WARM_CONNECTIONS),
    )
    for what, then, now, warm in kinds:
        for name in sorted(then.keys() & now.keys()):
            if now[name] > then[name] * SHARE + warm:
                yield f"{now[name]:g} {what} {name} at rest, and {then[name]:g} before the first mission"

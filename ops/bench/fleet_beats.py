"""Simulated factories: each beats at its own moment of the interval, over a connection that stays open for a while."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 50
"""Kept open and shared by the factories, as by a proxy before HQ: one for each would be closed between two beats."""


@dataclass
class Beats:
    """What was heard: the latency of each beat in seconds, and the statuses that were no 200."""

    seconds: list[float] = field(default_factory=list[float])
    refused: list[int] = field(default_factory=list[int])
    late: list[float] = field(default_factory=list[float])
    """By how much each beat was sent after its moment: what the generator itself could not keep up with."""


@dataclass(frozen=True)
class Simulated:
    """One factory: its token, and what it says each time but for the number."""

    token: str
    body: dict[str, Any]


async def beat_for(url: str, factories: list[Simulated], seconds: float, interval: float) -> Beats:
    """Let every factory beat each `interval` for `seconds`, spread evenly."""
    beats, place = Beats(), urlsplit(url)
    pool: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        pool.put_nowait(None)
    began = time.monotonic()
    tasks: set[asyncio.Task[None]] = set()
    number = 0
    while (moment := number * interval / len(factories)) < seconds:
        await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
        beats.late.append(time.monotonic() - began - moment)
        one = factories[number % len(factories)]
        task = asyncio.create_task(_beat(place.hostname or "", place.port or 80, one, number, pool, beats))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    await asyncio.gather(*tasks)
    return beats


async def _beat(host: str, port: int, one: Simulated, number: int, pool: Any, beats: Beats) -> None:
    body = json.dumps({**one.body, "beat_number": number + 1}).encode()
    request = (
        f"POST /api/v1/factory/registrations HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {one.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    began, status = time.monotonic(), 0
    connection = await pool.get()
    try:
        for tries in range(2):
            reader, writer = connection or await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                status = await _answer(reader)
                connection = (reader, writer)
                break
            except (OSError, asyncio.IncompleteReadError):
                connection = None  # HQ closes what was idle for five seconds
                if tries:
                    raise
    finally:
        pool.put_nowait(connection)
    beats.seconds.append(time.monotonic() - began)
    if status != 200:
        beats.refused.append(status)


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split()[1])

"""A TCP proxy on loopback that can cut the way between a factory and a server: the network as the chaos wants it.

What is dropped is held back and delivered after the healing, as a network does that loses packets which TCP sends
again; a connection that gave up meanwhile is gone. All of it runs in one thread with an event loop of its own.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Final, Literal, Self

Way = Literal["open", "drop_up", "drop_down", "drop_both", "reset", "delay", "slow"]
DELAY_SECONDS: Final = 0.3
DROP_BYTES: Final = 256
DROP_SECONDS: Final = 0.25
"""A slow way carries so much in so long: a kilobyte a second."""
CHUNK: Final = 65_536
NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Closing a socket with this sends a reset."""


@dataclass
class Proxy:
    """Listens on `port`, taken when the block begins, and leads to `target` on loopback; `way` says how well.

    `host` is loopback, or an address of a network that the caller made for itself.
    """

    target: int
    port: int = 0
    way: Way = "open"
    host: str = "127.0.0.1"
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    _open: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])
    _listening: Event = field(default_factory=Event)
    _thread: Thread | None = None

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def change(self, way: Way) -> None:
        """From now on the way is like that; safe from every thread, and to say twice."""
        self._loop.call_soon_threadsafe(self._change, way)

    def _change(self, way: Way) -> None:
        self.way = way
        for direction in ("up", "down"):
            closed = way in (f"drop_{direction}", "drop_both")
            self._gates[direction].clear() if closed else self._gates[direction].set()
        if way == "reset":
            for writer in list(self._open):
                _reset(writer)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._gates = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self._gates.values():
            gate.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, self.host, self.port))
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        """All connections are closed, by which those who carry for them come to an end."""
        for gate in self._gates.values():
            gate.set()
        for writer in list(self._open):
            writer.transport.abort()
        tasks = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=2)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if self.way == "reset":
                _reset(writer)
                return
            await self._gates["up"].wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            await asyncio.gather(self._pump("up", reader, back), self._pump("down", there, writer))
        writer.close()

    async def _pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes one way until one side ends, as far as the way is open."""
        self._open.add(writer)
        try:
            while data := await reader.read(CHUNK):
                await self._gates[direction].wait()
                if self.way == "delay":
                    await asyncio.sleep(DELAY_SECONDS)
                writer.write(await self._trickle(data, writer))
                await writer.drain()
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _trickle(self, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """What is left to be carried at once, when the way is not slow or not slow any more."""
        while self.way == "slow" and len(data) > DROP_BYTES:
            writer.write(data[:DROP_BYTES])
            data = data[DROP_BYTES:]
            await asyncio.sleep(DROP_SECONDS)
        return data


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()

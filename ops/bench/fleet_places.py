"""Where the factories of the fleet's story live: folders of this machine, or network namespaces of their own."""

import subprocess
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.bench.chaos_proxy import Proxy

NETWORK: Final = "10.77.{}"
"""Private addresses of the namespaces; nothing outside the machine is reached by them."""


@dataclass(frozen=True)
class Place:
    """One factory's machine: its state folder, how HQ is reached from there, and what commands there begin with."""

    name: str
    state: Path
    hq_url: str
    prefix: tuple[str, ...] = ()


@contextmanager
def places(names: Sequence[str], folder: Path, gateway_port: int, *, namespaces: bool) -> Generator[list[Place]]:
    """A place for each of `names`; with `namespaces` each has its own network, of which only HQ can be reached.

    Such a factory has no way to HQ's Redis, which listens on loopback. Root only; all is gone after the block.
    """
    with ExitStack() as stack:
        if not namespaces:
            url = f"http://127.0.0.1:{gateway_port}"
            yield [Place(name, folder / name, url) for name in names]
            return
        yield [
            Place(
                name,
                folder / name,
                stack.enter_context(_network(name, number, gateway_port)),
                ("ip", "netns", "exec", _space(name)),
            )
            for number, name in enumerate(names, start=1)
        ]


@contextmanager
def _network(name: str, number: int, gateway_port: int) -> Generator[str]:
    """A namespace joined to this one by a pair of cables; HQ answers at the address that is yielded."""
    here, there, space = NETWORK.format(f"{number}.1"), NETWORK.format(f"{number}.2"), _space(name)
    ours, theirs = f"ve-{name[:8]}-o", f"ve-{name[:8]}-t"
    with ExitStack() as stack:
        _ip("netns", "add", space)
        stack.callback(_ip, "netns", "del", space)
        _ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", space)
        _ip("addr", "add", f"{here}/30", "dev", ours)
        _ip("link", "set", ours, "up")
        for command in (("addr", "add", f"{there}/30", "dev", theirs), ("link", "set", theirs, "up")):
            _ip("-n", space, *command)
        _ip("-n", space, "link", "set", "lo", "up")
        proxy = stack.enter_context(Proxy(gateway_port, host=here))
        yield f"http://{here}:{proxy.port}"


def _space(name: str) -> str:
    return f"corporation-{name}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)

"""Who listens on a port, read from the kernel's table: made-up lines here, the real table in test_stack_readiness."""

import sys

import pytest

from corporation.embedded.listeners import owners_in

LOOPBACK = "0100007F" if sys.byteorder == "little" else "7F000001"


def line(local: str, uid: int = 1000, state: str = "0A") -> str:
    """A line as proc(5) has it; `local` is an address and port 5555 (15B3) unless it says another."""
    address, _, port = local.partition(":")
    return (
        f"   0: {address}:{port or '15B3'} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}  0 4711"
    )


@pytest.mark.parametrize(
    ("lines", "owners"),
    [
        ([line(LOOPBACK)], {1000}),
        ([line("00000000"), line("0" * 32, 7)], {1000, 7}),
        ([line(f"{LOOPBACK}:15B4"), line(LOOPBACK, state="01"), line("0200007F"), line("0" * 31 + "1")], set()),
        ([], set()),
    ],
)
def test_whoever_takes_connections_to_loopback_on_the_port_is_named(lines: list[str], owners: set[int]) -> None:
    assert owners_in(lines, 5555) == owners

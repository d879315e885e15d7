"""One control of `corporation doctor security`: whether it is on, what was seen, and how to turn it on."""

from dataclasses import dataclass
from typing import Literal

State = Literal["on", "off", "unknown"]


@dataclass(frozen=True)
class Control:
    """What is known of one control; nothing in it is a secret. `advice` is how to turn on what is off."""

    name: str
    state: State
    seen: str
    advice: str = ""
    advised: bool = False
    """Whether it is only advised: off, it is wrong under a strict deployment profile, and told on a workstation."""


def judged(name: str, is_on: bool, seen: str, advice: str, *, advised: bool = False) -> Control:
    """The control, on or off; `advice` is left out of one that is on."""
    return Control(name, "on", seen) if is_on else Control(name, "off", seen, advice, advised)

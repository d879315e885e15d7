"""What `corporation doctor security` says of one control."""

from dataclasses import dataclass
from typing import Literal

State = Literal["on", "off", "unknown"]


@dataclass(frozen=True)
class Control:
    """One control: whether it is on, what was seen, and how to turn it on where it is not. Nothing in it is secret."""

    name: str
    state: State
    seen: str
    how: str = ""


def on_if(condition: bool, name: str, seen: str, otherwise: str, how: str) -> Control:
    """The control is on, as `seen`; or it is off, as `otherwise` says, and `how` turns it on."""
    return Control(name, "on", seen) if condition else Control(name, "off", otherwise, how)

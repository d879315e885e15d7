"""Which names a factory may join under: those that are read the same in a queue's name, an address and a log; pure."""

import re
from typing import Final

SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


def why_unsafe(factory_id: str) -> str | None:
    """Why nobody may join as `factory_id`, as a sentence; None when one may.

    Who has joined under another name before this was asked keeps it, and is addressed by it everywhere.
    """
    if SAFE.fullmatch(factory_id):
        return None
    return "a factory_id has 1 to 200 letters, digits, '.', '_', ':' and '-', and begins with a letter or a digit"

"""What a process does to itself, so that others on the machine learn less from it."""

import ctypes
import sys
from typing import Any

PR_SET_DUMPABLE = 4
"""From linux/prctl.h."""


def hide_environment(**_: Any) -> None:
    """Other processes of this user cannot read our variables or memory: a mission's script runs as the same user.

    `PR_SET_DUMPABLE` makes `/proc/<pid>` root's. It does nothing against root itself, and nothing on systems without
    it. A child that runs another program starts afresh; one that only forked stays hidden. Safe to call twice, and from
    a signal of Celery, whose keywords it takes and ignores.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)

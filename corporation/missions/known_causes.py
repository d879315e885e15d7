"""Causes that an error's text gives away, so that whoever reads it need not have met them before; pure."""

import re
from dataclasses import dataclass
from typing import Final

LONGEST_SEARCHED: Final = 4_000
"""Characters of an error that are looked at, the last ones: what a factory keeps (`factory_tasks.mission_task`)."""


@dataclass(frozen=True)
class Cause:
    """What an error most likely means, and what to do about it."""

    code: str
    meaning: str
    remedy: str


# Plain alternatives without repetition: a hostile text must not make the search slow. The more telling ones come first.
_CAUSES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), Cause(code, meaning, remedy))
    for pattern, code, meaning, remedy in (
        (
            r"does not know this kind|NotRegistered|unregistered task",
            "unknown_kind",
            "the factory's workers do not know this kind of mission",
            "Load its handler there (UA_HANDLER_MODULES) or update the factory, then restart its workers",
        ),
        (
            r"rate.?limit|too many requests|quota exceeded|(?:http|status|error|code)[^0-9]{0,12}429\b",
            "rate_limit",
            "a service refused because it was asked too often",
            "Wait until its limit is over, or run fewer such missions at once (UA_FACTORY_SLOTS)",
        ),
        (
            r"\bMemoryError\b|cannot allocate memory",
            "memory_refused",
            "it asked for more memory than it could have, and failed by itself",
            "Give it less to do at once, the machine more memory, or the factory fewer slots (UA_FACTORY_SLOTS)",
        ),
        (
            r"out of memory|\bOOM\b|"
            r"exit (?:code|status):? 137\b|\bSIGKILL\b|signal 9\b",
            "out_of_memory",
            "it was killed from outside, mostly because memory ran out",
            "Give the machine more memory or the factory fewer slots (UA_FACTORY_SLOTS)",
        ),
        (
            r"no space left on device|ENOSPC|disk (?:is )?full|disk quota exceeded|database or disk is full",
            "disk_full",
            "a disk of the factory is full",
            "Free space on the factory's machine",
        ),
        (
            r"command not found|exit (?:code|status):? 127\b|: not found\b|No such file or directory: '[^'/]{1,60}'",
            "command_not_found",
            "a program that it calls is not installed on the factory",
            "Install it there, or put its folder on the PATH of the factory's workers",
        ),
        (
            r"permission denied|PermissionError|EACCES|operation not permitted|exit (?:code|status):? 126\b",
            "permission",
            "the user that runs the factory's workers may not do this",
            "Give that user the right, or run the workers as another one",
        ),
        (
            r"connection refused|ECONNREFUSED|name or service not known|name resolution|"
            r"network is unreachable|no route to host",
            "not_reached",
            "a server that it needs was not reached from the factory",
            "Check the address and the network there, and that the server runs",
        ),
        (
            r"unauthorized|invalid.{0,3}api.{0,3}key|authentication.(?:failed|error)|(?:http|status|code)[^0-9]{0,12}401\b",
            "not_authorized",
            "a service did not accept the factory's credentials",
            "Check the credentials that the factory uses",
        ),
    )
)


def cause_of(error: str | None) -> Cause | None:
    """The known cause that `error` speaks of; None when it speaks of none."""
    text = (error or "")[-LONGEST_SEARCHED:]
    return next((cause for pattern, cause in _CAUSES if pattern.search(text)), None)

"""What processes have worked, in seconds of CPU: other work on the machine changes it far less than their speed."""

from collections.abc import Mapping

import psutil

Seconds = Mapping[str, float]


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system seconds since the start of each named process and all its descendants, living or waited for."""
    return {name: sum(_worked(one) for one in _family(pid)) for name, pid in pids.items()}


def cpu_milliseconds(before: Seconds, after: Seconds, units: int) -> dict[str, float]:
    """Milliseconds of CPU that each name spent on one of `units` between two readings, the most first."""
    spent = {name: 1000 * (after[name] - before[name]) / units for name in before}
    return {name: round(spent[name], 2) for name in sorted(spent, key=lambda name: -spent[name])}


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _worked(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # its parent counts it from now on
        return 0.0
    return times.user + times.system + times.children_user + times.children_system

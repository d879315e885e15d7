"""Which commands there are, and where each lives: its module is loaded when it is asked for, and no sooner.

Loading them all takes a second of work, and nobody runs more than one. `corporation --help` loads all, for their help.
"""

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any, Final, cast

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

Command = TyperCommand | TyperGroup

COMMANDS: Final[dict[str, str]] = {
    "up": "corporation.cli.up:up",
    "publish": "corporation.cli.publish:publish",
    "why": "corporation.cli.why:why",
    "join-code": "corporation.cli.joining:join_code",
    "workload": "corporation.cli.workload:workload",
    "quarantine": "corporation.cli.factory_access:quarantine",
    "release": "corporation.cli.factory_access:release",
    "rotate": "corporation.cli.rotate:rotate",
    "audit": "corporation.cli.audit:audit",
    "rebuild-queues": "corporation.cli.queues:rebuild_queues",
    "env": "corporation.cli.environment:env",
    "capabilities": "corporation.cli.capabilities:capabilities",
    "migrate": "corporation.cli.migrate:migrate",
    "doctor": "corporation.cli.doctor:doctor",
    "version": "corporation.cli.version:version",
    "missions": "corporation.cli.missions:app",
    "streams": "corporation.cli.streams:app",
    "dead-letters": "corporation.cli.dead_letters:app",
    "factories": "corporation.cli.factories:app",
    "factory": "corporation.cli.factory:app",
    "keys": "corporation.cli.keys:app",
    "update-manifest": "corporation.cli.update_manifest:app",
}
"""The name of each command, in the order of `--help`, and the function or group that it is."""


class LazyCommands(Mapping[str, Command]):
    """The commands by their names; asking for one loads its module, and the names alone load nothing."""

    def __getitem__(self, name: str) -> Command:
        return _load(name, COMMANDS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class LazyGroup(TyperGroup):
    """The group of all commands, in Click's documented way of loading them lazily.

    Typer takes a group's commands from `commands`: for help, for completion and for "Did you mean …?".
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "commands": cast("Any", LazyCommands())})

    def list_commands(self, ctx: Any) -> list[str]:
        """The names alone: Typer's own list would load every command."""
        return list(self.commands)


def _load(name: str, place: str) -> Command:
    """The command as Typer would have made it, had it been added to the whole at the start."""
    found: Any = resolve_name(place)
    alone = typer.Typer()
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return cast("Command", typer.main.get_group(alone).commands[name])

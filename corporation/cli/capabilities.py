"""`corporation capabilities`: what the agents of this node, or of a node of another role, would be told of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from corporation.bootstrap import Runtime, bootstrap
from corporation.cli.connection import effective, state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, warn
from corporation.embedded.stack_state import StateFolder
from corporation.roles import FactoryRole, FactoryRuntimePolicy

if TYPE_CHECKING:
    from corporation.settings import Settings

_SHORT: Final = {
    "hq": FactoryRole.HEADQUARTERS,
    "worker": FactoryRole.LOCAL_WORKER,
    "standalone": FactoryRole.STANDALONE_NODE,
}
_BROKER: Final = ("UA_REDIS_URL", "UA_REDIS_HOST")


def _role(word: str) -> FactoryRole:
    """The role that is meant; unlike `FACTORY_ROLE`, a slip of the hand here is refused and not taken for a worker."""
    role = _SHORT.get(word.strip().lower()) or FactoryRole.__members__.get(word.strip().upper())
    if role is None:
        raise typer.BadParameter(f"allowed are: {', '.join((*FactoryRole, *_SHORT))}")
    return role


def capabilities(
    role: Annotated[
        FactoryRole | None,
        typer.Option("--role", parser=_role, metavar="ROLE", help="Show what a node of this role would have."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="PATH", help="Write the document there instead of printing it.")
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Print this node's capabilities.md, or with --json its role, policy, names, labels, kinds and tools."""
    # Late: YAML, Jinja and the broker's driver, which hardly any other command needs.
    from corporation.agents.capabilities import capabilities_of, render
    from corporation.agents.capabilities import write as write_file
    from corporation.clock import utc_now

    runtime = bootstrap(_environment(role, os.environ, state_folder(state)), logs=False)
    here = capabilities_of(runtime.settings, runtime.environ, utc_now())
    for note in (*runtime.alarms, *runtime.warnings, *here.roster.notes):
        warn(note)
    if write is not None:
        write_file(write, render(here))
    if as_json:
        say_json(_document(runtime))
    else:
        say(render(here).rstrip("\n") if write is None else f"{write} is written")


def _environment(role: FactoryRole | None, environ: Mapping[str, str], folder: StateFolder) -> dict[str, str]:
    """`environ`, else that of the stack's node; a node of another role takes nothing from the stack but its broker."""
    seen = effective(environ, folder)
    if role is None and not environ.get("FACTORY_ROLE", "").strip():
        return seen
    broker = {} if any(environ.get(name) for name in _BROKER) else {n: seen[n] for n in _BROKER if n in seen}
    return {**environ, **broker, **({} if role is None else {"FACTORY_ROLE": str(role)})}


def _document(runtime: Runtime) -> dict[str, Any]:
    from corporation.agents.personas import personas_of
    from corporation.agents.toolkits import tools_for

    settings, policy, provider = runtime.settings, runtime.policy, runtime.llm_provider
    switches = {"enable_vp_coder": policy.enable_vp_coder, "enable_vp_general": policy.enable_vp_general}
    return {
        "factory_id": settings.factory_id,
        "factory_role": str(policy.factory_role),
        "policy": policy.snapshot() | switches,
        "personas": vars(personas_of(policy, settings.coder_display_name)),
        "labels": _labels(settings),
        "kinds": _kinds(policy),
        "tools": [tool.name for tool in tools_for(policy)],
        "llm_provider": None if provider is None else vars(provider),
    }


def _labels(settings: "Settings") -> list[str]:
    """The labels of this node while its workers run every kind it is allowed; the broker is asked now."""
    from corporation.cli.checks import redis_answers
    from corporation.factories.labels import OF_KINDS, factory_labels, headquarters_labels

    connected = settings.redis_delegation_enabled and redis_answers(settings).grade == "ok"
    say_labels = headquarters_labels if settings.policy.is_headquarters else factory_labels
    return say_labels(settings.policy, OF_KINDS, connected, settings.llm_provider_override)


def _kinds(policy: FactoryRuntimePolicy) -> list[str]:
    """The kinds of mission that workers of this node may run; orders to the factory need no label."""
    from corporation.factories.permissions import permits
    from corporation.missions.kinds import KINDS

    return [kind.name for kind in KINDS.values() if permits(policy, kind.needs or "")]

"""`capabilities.md`: what an agent is told about its node at the start of each run (contract fleet §10)."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Final, TypeVar

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from corporation.agents.harmless_text import in_markdown
from corporation.agents.personas import chain_of_command, personas_of, speaks_outside
from corporation.agents.requirements import surroundings_of
from corporation.agents.roster import DEFINITIONS, SKILLS, SYSTEM_OPERATIONS, Agent, Roster, read_roster
from corporation.agents.toolkits import Domain, Need, Tool, tools_for
from corporation.clock import iso
from corporation.roles import FactoryRuntimePolicy
from corporation.settings import Settings

FILE_NAME: Final = "capabilities.md"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_MODE: Final = 0o644

log = structlog.get_logger()
_InDomain = TypeVar("_InDomain", Agent, Tool)


@dataclass(frozen=True)
class Capabilities:
    """All that the document says; made by `capabilities_of`, shown by `render`."""

    factory_id: str
    deployment_profile: str
    runtime_stage: str
    policy: FactoryRuntimePolicy
    coder_display_name: str | None
    roster: Roster
    generated_at: datetime


def capabilities_of(
    settings: Settings, environ: Mapping[str, str], now: datetime, agents: Path = DEFINITIONS, skills: Path = SKILLS
) -> Capabilities:
    """What a node with `settings` is and has; `environ` is its complete environment, of which no value is kept."""
    return Capabilities(
        factory_id=settings.factory_id,
        deployment_profile=settings.deployment_profile,
        runtime_stage=settings.runtime_stage,
        policy=settings.policy,
        coder_display_name=settings.coder_display_name,
        roster=read_roster(surroundings_of(settings.policy, environ), agents, skills),
        generated_at=now,
    )


def render(here: Capabilities) -> str:
    """The document, in the block order of the contract; the same value gives the same text.

    It names no tool that the policy forbids, and no text of a file can leave its line.
    """
    personas = personas_of(here.policy, here.coder_display_name)
    tools = tools_for(here.policy)
    return _template().render(
        here=here,
        personas=personas,
        chain_of_command=chain_of_command(here.policy, personas),
        outside=speaks_outside(here.policy),
        coder_tools=[tool.name for tool in tools if set(tool.needs) <= {Need.CODER, Need.EXECUTOR}],
        agents=_by_domain(here.roster.agents),
        browser=any(agent.domain is Domain.BROWSER for agent in here.roster.agents),
        operations=next((agent.name for agent in here.roster.agents if agent.name == SYSTEM_OPERATIONS), None),
        tools=_by_domain(tools),
        generated_at=iso(here.generated_at),
    )


def write(path: Path, text: str) -> None:
    """The file holds `text` whole, readable for all; whoever reads meanwhile sees the old text or the new one.

    Raises OSError, and then the old file is as it was. Writing again replaces the file.
    """
    try:
        _replace(path, text)
    except OSError as error:
        # The person asked for `path`, and has never heard of the file beside it.
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_or_keep(path: Path, text: str) -> str:
    """`text`, to be put into the prompt; the file holds it too, unless an error was logged that says why not (F-31)."""
    try:
        write(path, text)
    except OSError as error:
        log.error("capabilities_not_written", path=str(path), why=error.strerror)
    return text


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(handle, _MODE)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@cache
def _template() -> Template:
    # Not HTML: escaping would show as `&amp;`. What could leave its line is taken out of every value instead.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701
        finalize=in_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{FILE_NAME}.j2")


def _by_domain(things: Sequence[_InDomain]) -> list[tuple[Domain, list[_InDomain]]]:
    order = list(Domain)
    ranked = sorted(things, key=lambda thing: order.index(thing.domain))
    return [(domain, list(group)) for domain, group in groupby(ranked, key=lambda thing: thing.domain)]

"""What `corporation up` is going to start: the shape of the stack, the policy of each node, and what that lets run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from corporation.bootstrap import bootstrap
from corporation.cli.origins import origin_lines
from corporation.embedded.stack_addresses import REDIS_NAMES, first_set
from corporation.embedded.stack_components import Component, TelegramFacts, components_of, left_out, row_of
from corporation.embedded.stack_names import OVERRIDES
from corporation.embedded.stack_shape import ROLES, Shape, shape_of_role
from corporation.embedded.stack_users import OwnUsers, own_users
from corporation.errors import SettingsError
from corporation.oddities import alarms_about
from corporation.roles import FactoryRole, FactoryRuntimePolicy, read_role
from corporation.settings import Settings, load_settings
from corporation.trust.keyring import why_keys_are_refused

WORKER_NEEDS: Final = {
    ("UA_HQ_BASE_URL", "UA_BASE_URL", "UA_GATEWAY_URL"): "HQ's address",
    ("UA_FACTORY_CREDENTIAL", "UA_OPS_TOKEN"): "what this factory proves itself with",
}
"""What a worker cannot do without: the variables that may give it, the usual one first, and what it is."""

ONLY_HTTPS: Final = "No Redis is named (UA_REDIS_URL), so missions come over HTTPS only"


@dataclass(frozen=True)
class Node:
    """One node of the stack: what its policy is, and which of its processes that lets run."""

    policy: FactoryRuntimePolicy
    components: tuple[Component, ...]


@dataclass(frozen=True)
class Launch:
    """A stack that can be started; `environ` is the complete environment with its secrets: never show it."""

    shape: Shape
    settings: Settings
    nodes: tuple[Node, ...]
    alarms: tuple[str, ...]
    """What somebody wanted and does not get, one line each."""
    notes: tuple[str, ...]
    """Where values came from other than the environment, and what is odd about them, one line each."""
    environ: Mapping[str, str] = field(repr=False)
    own: OwnUsers = field(default_factory=OwnUsers)
    """Who is let into the servers that the stack starts itself."""

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of the processes to run."""
        return tuple(one.name for node in self.nodes for one in node.components if one.on)

    @property
    def opens_ledger(self) -> bool:
        """Whether a ledger belongs to this stack."""
        return self.settings.policy.opens_ledger

    @property
    def runs_first_mission(self) -> bool:
        """Whether a mission can be published here and be run here."""
        policy = self.settings.policy
        publishes = policy.can_publish_delegations and not policy.health_only
        running = set(self.processes)
        return publishes and "engine" in running and not running.isdisjoint({"factory-worker", "pull"})

    def lines(self) -> list[str]:
        """What is not granted, then the policy of each node as people read it, what is left out, and what is odd."""
        shown = [
            line
            for node in self.nodes
            for line in (row_of(node.policy, node.components), left_out(node.components))
            if line
        ]
        return [*(f"ALARM: {alarm}" for alarm in self.alarms), *shown, *(f"Note: {note}" for note in self.notes)]


def launch_of(asked: Shape | None, environ: Mapping[str, str], note: str = "") -> Launch:
    """What to start for `--role asked` in `environ`; raises SettingsError with every reason why it cannot be.

    A `note` is told with the others. Without `asked` the environment's role decides, and without one it is an HQ with
    a factory beside it.
    """
    runtime = bootstrap(environ, logs=False)
    shape = shape_for(asked, runtime.environ.get("FACTORY_ROLE", ""))
    complete = dict(runtime.environ)
    if shape is not Shape.WHOLE and not complete.get("FACTORY_ROLE", "").strip():
        complete["FACTORY_ROLE"] = ROLES[shape].value
    lone = shape is Shape.WORKER and first_set(complete, REDIS_NAMES) is None
    if lone:
        # Without this, Redis would be looked for on this machine, where nobody said that it is.
        complete["UA_DELEGATION_REDIS_ENABLED"] = "0"
    settings = load_settings(complete)
    alarms = tuple(alarms_about(complete, settings))
    if shape is Shape.WORKER and (missing := missing_for_a_worker(complete)):
        # A word that is no role made this a worker: that comes first, or nobody would look for it.
        raise SettingsError([*alarms, *missing])
    notes = tuple(one for one in (*origin_lines(environ), *runtime.warnings, ONLY_HTTPS if lone else "", note) if one)
    return Launch(shape, settings, _nodes(shape, settings, complete), alarms, notes, complete, _own(shape, settings))


def _own(shape: Shape, settings: Settings) -> OwnUsers:
    if problems := why_keys_are_refused(settings):
        raise SettingsError(problems)
    try:
        return own_users(shape, settings)
    except ValueError as reason:
        raise SettingsError([f"UA_FACTORY_ID or UA_FACTORY_QUEUE: {reason}"]) from None


def shape_for(asked: Shape | None, role_word: str) -> Shape:
    """The shape that is meant; raises SettingsError where the command line and FACTORY_ROLE contradict each other."""
    if not role_word.strip():
        return asked or Shape.WHOLE
    role = read_role(role_word)
    if asked is None:
        # A machine that says what it is must not become a headquarters because an option was forgotten.
        return shape_of_role(role)
    if ROLES[asked] is not role:
        made = "makes" if role_word.strip().upper() in FactoryRole.__members__ else "names no role and so makes"
        raise SettingsError(
            [
                f"--role {asked} contradicts FACTORY_ROLE, which {made} this node a {role}; "
                f"leave --role out, or unset FACTORY_ROLE or set it to {ROLES[asked]}"
            ]
        )
    return asked


def missing_for_a_worker(environ: Mapping[str, str]) -> list[str]:
    """One line for each thing that a worker needs and `environ` does not give, and then where to get them."""
    problems = [
        f"{' or '.join(dict.fromkeys((names[0], names[-1])))} is missing: {what}"
        for names, what in WORKER_NEEDS.items()
        if not any(environ.get(name, "").strip() for name in names)
    ]
    hint = (
        "A worker joins an HQ that runs already; at that HQ, `corporation join-code` prints the line that makes a "
        "machine one, and `corporation env` the variables for one beside it"
    )
    return [*problems, hint] if problems else []


def _nodes(shape: Shape, settings: Settings, environ: Mapping[str, str]) -> tuple[Node, ...]:
    telegram = TelegramFacts(settings.telegram_bot_token is not None, bool(settings.telegram_allowed_user_ids))
    policies = [settings.policy]
    if shape is Shape.WHOLE:
        # The overrides are headquarters': the factory beside it keeps its role's row.
        rest = {name: value for name, value in environ.items() if name not in OVERRIDES}
        policies.append(load_settings(rest | {"FACTORY_ROLE": FactoryRole.LOCAL_WORKER.value}).policy)
    over_redis = settings.redis_delegation_enabled
    return tuple(
        Node(policy, tuple(components_of(policy, shape, telegram, over_redis=over_redis))) for policy in policies
    )

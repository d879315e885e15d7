"""`corporation doctor security`: every control between machines, on or off, and how to turn it on."""

from collections.abc import Mapping, Sequence

from corporation.cli import (
    controls_of_api,
    controls_of_ledger,
    controls_of_machine,
    controls_of_redis,
    controls_of_settings,
    exits,
)
from corporation.cli.connection import with_secrets
from corporation.cli.control import Control
from corporation.cli.security_view import View, view_of
from corporation.cli.untouched import NOTHING_YET, is_untouched
from corporation.database_role import is_strict
from corporation.embedded.stack_state import StateFolder


def examine_security(environ: Mapping[str, str], folder: StateFolder) -> tuple[list[Control], int]:
    """All controls of this node, and the exit status; asks, and changes nothing. Raises SettingsError and Refusal."""
    complete = with_secrets(environ)
    if is_untouched(complete, folder):
        return [Control(NOTHING_YET.name, "unknown", NOTHING_YET.what, NOTHING_YET.advice)], exits.OK
    view = view_of(complete, folder)
    found = of_headquarters(view) if view.settings.policy.opens_ledger else of_factory(view)
    controls = [*found, *controls_of_machine.of_machine(view, environ)]
    return controls, verdict(controls, strict=is_strict(view.settings))


def of_headquarters(view: View) -> list[Control]:
    """The controls of a node with a ledger; those of the fleet where it is an HQ."""
    settings = view.settings
    found = [*controls_of_settings.everywhere(settings), *controls_of_settings.at_headquarters(settings)]
    if settings.policy.is_headquarters:
        found += controls_of_api.of_api(view)
    return [*found, *controls_of_redis.at_headquarters(view), *controls_of_ledger.at_headquarters(settings)]


def of_factory(view: View) -> list[Control]:
    """The controls of a factory."""
    settings = view.settings
    found = [*controls_of_settings.everywhere(settings), *controls_of_settings.on_a_factory(settings, view.environ)]
    return [*found, *controls_of_redis.on_a_factory(view), *controls_of_ledger.on_a_factory(settings)]


def verdict(controls: Sequence[Control], *, strict: bool) -> int:
    """The exit status: 78 for what is off, else 69 for what nobody could look at, else 0.

    What is only advised is no failure on a workstation: there it is told.
    """
    if any(control.state == "off" and (strict or not control.advised) for control in controls):
        return exits.CONFIG
    return exits.UNAVAILABLE if any(control.state == "unknown" for control in controls) else exits.OK

"""What a person reads once a stack is ready: where everything is, and what to try next."""

import shlex
import sys
from pathlib import Path

import corporation
from corporation.cli import demo
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_shape import Shape, role_of
from corporation.embedded.stack_state import default_state_folder


def where(stack: Stack) -> list[str]:
    """The addresses of `stack`, one line each."""
    flower = f"{stack.flower_url} (user corporation, password in {stack.folder.facts})"
    own_name = {Shape.WORKER: "Health", Shape.STANDALONE: "API"}.get(stack.shape, "HQ")
    lines = [(own_name, stack.gateway_url)] if "api" in stack.running else []
    if stack.shape is Shape.WORKER:
        lines.append(("HQ", stack.hq_base_url))
    if "flower" in stack.running:
        lines.append(("Flower", flower))
    lines.append(("Logs", f"{stack.folder.log('').parent}, a file for each process"))
    return [f"  {name:<7} {address}" for name, address in lines]


def what_next(stack: Stack, *, once: bool) -> str:
    """What to do now that `stack` works, as lines that can be copied; each finds this stack from every folder."""
    command = Path(sys.argv[0]).name if Path(sys.argv[0]).name == "corporation" else "python -m corporation.cli"
    start = f"{Path(sys.prefix) / 'bin' / 'corporation'}" if command == "corporation" else command
    state = _state_option(stack.state)
    if once:
        role = "" if stack.shape is Shape.WHOLE else f" --role {stack.shape}"
        return f"Next: {start} up{role}{state}"
    match stack.shape:
        case Shape.WHOLE:
            return f"Next, in another terminal:\n  {start} {demo.an_order('My second mission')}{state}"
        case Shape.HQ:
            join = f"{start} join-code{state}"
            return f"Next, in another terminal, the line that makes another machine a factory:\n  {join}"
        case Shape.WORKER:
            if not stack.redis_url:
                return "It asks HQ for missions; publish them there"
            queue = stack.queue_of(role_of("factory-worker", stack.shape))
            return f"It takes missions from the queue {queue}; publish them at HQ"
        case Shape.STANDALONE:
            return f"Next, in another terminal:\n  {start} doctor{state}"


def _state_option(state: Path) -> str:
    """` --state DIR`, or nothing where `state` is what commands take without it, whatever folder they run in."""
    usual = default_state_folder(Path("/"), Path(corporation.__file__).parent).path
    return "" if state == usual else f" --state {shlex.quote(str(state))}"

"""What a person reads once a stack is ready: where everything is, and what to try next."""

import sys
from pathlib import Path

from corporation.cli import demo
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_shape import Shape, role_of


def where(stack: Stack) -> list[str]:
    """The addresses of `stack`, one line each."""
    flower = f"{stack.flower_url} (user corporation, password in {stack.folder.facts})"
    own_name = {Shape.WORKER: "Health", Shape.STANDALONE: "API"}.get(stack.shape, "HQ")
    lines = [(own_name, stack.gateway_url)]
    if stack.shape is Shape.WORKER:
        lines.append(("HQ", stack.hq_base_url))
    if "flower" in stack.running:
        lines.append(("Flower", flower))
    return [f"  {name:<7} {address}" for name, address in lines]


def what_next(stack: Stack, *, once: bool) -> str:
    """What to do now that `stack` works, as lines that can be copied."""
    command = Path(sys.argv[0]).name if Path(sys.argv[0]).name == "corporation" else "python -m corporation.cli"
    start = f"{Path(sys.prefix) / 'bin' / 'corporation'}" if command == "corporation" else command
    if once:
        return f"Next: {start} up" if stack.shape is Shape.WHOLE else f"Next: {start} up --role {stack.shape}"
    match stack.shape:
        case Shape.WHOLE:
            context = f'{{"tutorial_run_path": "{demo.RUN_PATH}", "repo_name": "second-mission"}}'
            options = f"--kind bootstrap_repo --context '{context}' --watch"
            return f"Next, in another terminal:\n  {start} publish 'My second mission' {options}"
        case Shape.HQ:
            join = f'eval "$({start} env --state {stack.state})"'
            return f"Next, in another terminal, a factory that joins:\n  {join}\n  {start} up --role worker --state DIR"
        case Shape.WORKER:
            queue = stack.queue_of(role_of("factory-worker", stack.shape))
            return f"It takes missions from the queue {queue}; publish them at HQ"
        case Shape.STANDALONE:
            return f"Next, in another terminal:\n  {start} doctor --state {stack.state}"

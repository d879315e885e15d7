"""Whether a process of the stack is ready, by what it says and shows."""

import os
import ssl
from typing import Final

import httpx
import psutil

from corporation.embedded.listeners import owners_of_port
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_plan import ProcessPlan

PROBE_TIMEOUT_SECONDS: Final = 1.0


def seems_ready(plan: ProcessPlan, stack: Stack, pid: int) -> bool:
    """Whether `plan`'s process, which runs as `pid`, has said or shown that it is ready; waits a second at most."""
    match plan.ready:
        case "file":
            return stack.folder.ready_file(plan.name).exists()
        case "runs":
            return True
        case "healthy":
            # The file says that the port is its own: another program's health would be taken for ours otherwise, and
            # that program would be sent our missions and our token.
            return stack.folder.ready_file(plan.name).exists() and _answer(f"{plan.address}/api/v1/health") == 200
        case "answers":
            return _is_our_flower(plan, stack, pid)


def _is_our_flower(plan: ProcessPlan, stack: Stack, pid: int) -> bool:
    """Whether what answers at the plan's address is the Flower that runs as `pid`: asks for a password, takes ours.

    Ours is shown to nobody who is a stranger for sure: before that, the socket must be the child's, or where the child
    hides from its own user, at least that user's; and without a password the answer must be no.
    """
    inside = f"{plan.address}/api/task/types"
    if not (_may_listen(pid, plan.port) and _answer(inside) == 401):
        return False
    return _answer(inside, ("corporation", stack.flower_password)) == 200


def _may_listen(pid: int, port: int | None) -> bool:
    """Whether `pid` listens on `port`; where that cannot be told, whether a process of our user does and nobody else.

    A process that holds secrets hides from its own user, so without root its sockets cannot be read.
    """
    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.AccessDenied:
        owners = owners_of_port(port)
        return owners is None or owners == {os.geteuid()}
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def _answer(url: str, auth: tuple[str, str] | None = None) -> int:
    # Trusts nobody, and needs not: it speaks plain HTTP on loopback. Reading the authorities takes 20 ms each time.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.get(url, auth=auth, timeout=PROBE_TIMEOUT_SECONDS, trust_env=False, verify=nobody).status_code
    except httpx.HTTPError:
        return 0

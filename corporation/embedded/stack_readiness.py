"""Whether a process of the stack is ready, by what it says and shows."""

import ssl
from typing import Final

import httpx
import psutil

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
            return _may_listen(pid, plan.port) and 0 < _answer(f"{plan.address}/healthcheck") < 500


def _may_listen(pid: int, port: int | None) -> bool:
    """Whether `pid` listens on `port`; yes as well where that cannot be told: a process may hide from its own user."""
    try:
        sockets = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in sockets)


def _answer(url: str) -> int:
    # Trusts nobody, and needs not: it speaks plain HTTP on loopback. Reading the authorities takes 20 ms each time.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.get(url, timeout=PROBE_TIMEOUT_SECONDS, trust_env=False, verify=nobody).status_code
    except httpx.HTTPError:
        return 0

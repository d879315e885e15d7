"""Free ports on loopback, where every embedded server listens and nowhere else."""

import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"


def free_port(preferred: int | None) -> int:
    """`preferred` if nobody listens there now, else some other free port.

    Nothing is reserved: another process may take the port before you do. Calling twice may give two answers.
    """
    return preferred if preferred is not None and _is_free(preferred) else _any_free()


def _is_free(port: int) -> bool:
    # As servers bind: a port whose last connections are still closing counts as free.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _any_free() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])

"""As whom PostgreSQL runs: it refuses to be root, so root starts it in a user namespace or as another user."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corporation.embedded.server_process import ENVIRONMENT, ServerError

MODES: Final = ("userns", "drop", "direct")
NOBODY: Final = 65534
USER_NAMESPACE: Final = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--")


@dataclass(frozen=True)
class Runner:
    """How a program is started so that it is not root; `owner` is who must own the files that it writes."""

    mode: str
    owner: tuple[int, int]
    prefix: tuple[str, ...] = ()
    as_user: tuple[int, int] | None = None

    def can_enter(self, folder: Path) -> bool:
        """Whether a program run like this can reach what lies in `folder`."""
        return self._succeeds("test", "-x", str(folder))

    def can_start(self, program: Path) -> bool:
        """Whether `program`, with all the libraries it needs, can be run like this."""
        return self._succeeds(str(program), "--version")

    def _succeeds(self, *argv: str) -> bool:
        try:
            run = subprocess.run(
                [*self.prefix, *argv],
                cwd="/",
                env=ENVIRONMENT,
                capture_output=True,
                user=self.as_user[0] if self.as_user else None,
                group=self.as_user[1] if self.as_user else None,
                extra_groups=[] if self.as_user else None,
            )
        except OSError:
            return False
        return run.returncode == 0

    def give(self, path: Path) -> None:
        """Afterwards `path` and all below it belong to `owner`; needs root unless it does already."""
        if path.stat().st_uid != self.owner[0]:
            for each in [path, *path.rglob("*")]:
                os.chown(each, *self.owner, follow_symlinks=False)


def choose_runner(mode: str | None, folder: Path, program: Path) -> Runner:
    """The forced mode, or the first that works here: as we are, in a user namespace, as `postgres` or `nobody`.

    The namespace comes first for root, since its files stay root's and nothing is copied or opened to others; Docker's
    default profile forbids it, and it cannot pass a folder that only another user may enter.
    """
    if mode not in (None, *MODES):
        raise ServerError(f"{mode!r} is no way to run PostgreSQL; choose one of {', '.join(MODES)}, or name none")
    if mode == "direct" or (mode is None and os.geteuid() != 0):
        return Runner("direct", _ourselves())
    if mode == "drop":
        return _other_user()
    namespace = Runner("userns", _ourselves(), USER_NAMESPACE)
    if namespace.can_enter(folder) and namespace.can_start(program):
        return namespace
    if mode == "userns":
        raise ServerError(
            f"PostgreSQL cannot run in a user namespace here, or not in {folder}; choose the mode `drop`, or name none"
        )
    return _other_user()


def _ourselves() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def _other_user() -> Runner:
    if os.geteuid() != 0:
        raise ServerError("Only root can start PostgreSQL as another user; choose the mode `direct`, or name none")
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        user = (entry.pw_uid, entry.pw_gid)
        return Runner("drop", user, as_user=user)
    raise ServerError("PostgreSQL does not run as root and there is no user `postgres` or `nobody`; add one of them")

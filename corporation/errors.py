"""Every error a person may read: what happened, why, and what to do next."""

# EX_CONFIG of sysexits.h: a supervisor can tell "the configuration is wrong" (do not restart) from a crash.
# ops/decisions/0003-exit-78.md says why this is not the 2 of the environment contract.
EXIT_CONFIG = 78


class CorporationError(Exception):
    """Something we foresaw went wrong; the message is fit for a person and holds no secret."""

    code = "error"


class SettingsError(CorporationError):
    """The environment cannot be used; `problems` lists all that is wrong with it, one line each."""

    code = "settings"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class LedgerUnavailableError(CorporationError):
    """The ledger does not answer; nothing was stored, and the same request may be sent again."""

    code = "ledger_unavailable"


class GivenServerError(CorporationError):
    """A server that a variable names cannot be used; the message says which variable, and what to do."""

    code = "given_server"

    def __init__(self, message: str, *, is_away: bool = False, refuses_us: bool = False) -> None:
        self.is_away = is_away
        """Whether it may come by itself: nobody answered, so nobody refused us either."""
        self.refuses_us = refuses_us
        """Whether it does not know our user, or its password."""
        super().__init__(message)

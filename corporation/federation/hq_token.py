"""What a factory shows to headquarters: tokens of an hour for its credential, or the operator's token (contract F-4).

Both are `httpx.Auth`, so that one place adds them to every request, and a stale one is replaced without the caller
noticing. They live in one process: a child must make its own, since a lock may be held while its parent forks.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import httpx

from corporation.clock import chance, monotonic
from corporation.errors import CorporationError

EXCHANGE_PATH: Final = "/auth/ops-token"
RENEW_BEFORE_SECONDS: Final = 300.0
"""How long before its end a token is replaced; half its life for one that lives shorter than twice this."""
LONGEST_LIFE_SECONDS: Final = 86_400.0
UNAUTHORIZED: Final = 401
FIRST_REST_SECONDS: Final = 5.0
LONGEST_REST_SECONDS: Final = 60.0
"""How long a refused credential is not shown again, doubled each time: HQ counts wrong ones, and stops answering."""

Flow = Generator[httpx.Request, httpx.Response, None]


class HqUnavailableError(CorporationError):
    """HQ cannot be reached or is not ready; the same request may be sent again later."""

    code = "hq_unavailable"


class HqRefusedError(CorporationError):
    """HQ answered that it will not; sending the same again will not help."""

    code = "hq_refused"

    def __init__(self, status: int, message: str, cause: str = "") -> None:
        self.status = status
        self.cause = cause
        """The word with which HQ's own refusals begin, as `not_current`; empty when somebody else answered."""
        super().__init__(message)


class _TooManyError(HqUnavailableError):
    """HQ counts, and does not even look at this one."""


class OpsToken(httpx.Auth):
    """The operator's token on every request, as `x-ua-ops-token`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Flow:
        """The request, with the token."""
        request.headers["x-ua-ops-token"] = self._token
        yield request


@dataclass(frozen=True)
class _Token:
    header: str
    renew_at: float


QUARANTINED: Final = "quarantined"
"""The cause of HQ's 401 where the credential is right, and its factory is in quarantine."""


class FactoryToken(httpx.Auth):
    """A token of scope `factory` on every request, got for `credential` from HQ at `base_url` and nowhere else.

    It is renewed within the last 5 minutes of its life, by a clock that never goes backwards, and once when HQ answers
    401. Threads may share it: only one of them renews. What HQ does not exchange is raised as HqRefusedError or
    HqUnavailableError. Once the credential is refused, HQ is asked again after 5 s, and after 60 s at most; until it is
    taken, every request ends with the reason that HQ gave first.
    """

    def __init__(
        self,
        base_url: str,
        factory_id: str,
        credential: str,
        clock: Callable[[], float] = monotonic,
        chance: Callable[[], float] = chance,
    ) -> None:
        self._url = base_url.rstrip("/") + EXCHANGE_PATH
        self._factory_id = factory_id
        self._credential = credential
        self._clock = clock
        self._chance = chance
        self._lock = Lock()
        self._token: _Token | None = None
        self._refused: HqRefusedError | None = None
        self._rests_until = float("-inf")
        self._rest = 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Flow:
        """The request with a token, after the exchange that it may need; and once more when HQ did not take it."""
        shown = yield from self._token_after(request, None)
        request.headers["Authorization"] = shown.header
        answer = yield request
        if answer.status_code == UNAUTHORIZED:
            request.headers["Authorization"] = (yield from self._token_after(request, shown)).header
            yield request

    def _token_after(self, request: httpx.Request, refused: _Token | None) -> Generator[Any, Any, _Token]:
        """A token that is not `refused` and lives long enough; asks for one if there is none, while others wait."""
        patience = request.extensions.get("timeout", {}).get("read")
        if not self._lock.acquire(timeout=-1 if patience is None else patience):
            raise HqUnavailableError("HQ has not given out a token yet; another request waits for it")
        try:
            token = self._token
            if token is None or token is refused or self._clock() >= token.renew_at:
                token = self._token = yield from self._exchanged(request)
            return token
        finally:
            self._lock.release()

    def _exchanged(self, request: httpx.Request) -> Generator[Any, Any, _Token]:
        """As `_exchange`, but no more often than a refused credential may be shown."""
        if self._refused is not None and self._clock() < self._rests_until:
            raise _again(self._refused)
        try:
            token = yield from self._exchange(request)
        except HqRefusedError as error:
            self._refused = self._refused or _again(error)
            self._put_off()
            raise _again(self._refused) from None
        except _TooManyError:
            # Why the earlier ones were refused is what people need to know, and not that there were too many.
            if self._refused is None:
                raise
            self._put_off()
            raise _again(self._refused) from None
        self._refused, self._rest = None, 0.0
        return token

    def _put_off(self) -> None:
        self._rest = min(max(2 * self._rest, FIRST_REST_SECONDS), LONGEST_REST_SECONDS)
        self._rests_until = self._clock() + self._rest

    def _exchange(self, request: httpx.Request) -> Generator[Any, Any, _Token]:
        began = self._clock()
        body = {"scope": "factory", "factory_id": self._factory_id, "subject": self._factory_id}
        headers = {"Authorization": f"Bearer {self._credential}"}
        # With the time limits of the request that waits for it.
        answer: httpx.Response = yield httpx.Request(
            "POST", self._url, json=body, headers=headers, extensions=request.extensions
        )
        token, life = _read(answer)
        early = min(RENEW_BEFORE_SECONDS, life / 2)
        # Not all at once: a fleet whose tokens were made in the same minute would come back in the same minute.
        return _Token(f"Bearer {token}", began + life - early * (1 + self._chance()) / 2)


def _again(error: HqRefusedError) -> HqRefusedError:
    """The same refusal, without the way that it took the first time."""
    return HqRefusedError(error.status, str(error), error.cause)


def _cause_of(answer: httpx.Response) -> str:
    """The code before the colon of HQ's error; empty for any other body, or one that does not come."""
    try:
        answer.read()  # it streams: nobody has read it yet
        detail = answer.json().get("detail")
    except (httpx.HTTPError, ValueError, RecursionError, AttributeError):
        return ""
    return detail.partition(":")[0] if isinstance(detail, str) else ""


def _read(answer: httpx.Response) -> tuple[str, float]:
    """The token in HQ's `answer` and its life in seconds."""
    status = answer.status_code
    if status >= 500 or status == 429:
        kind = _TooManyError if status == 429 else HqUnavailableError
        raise kind(f"HQ gives out no token now (it answered {status}); it is asked again")
    if status != 200:
        cause = _cause_of(answer)
        why = "it does not accept UA_FACTORY_CREDENTIAL: the factory was removed, or has joined again"
        if cause == QUARANTINED:
            why = "the factory is in quarantine, which only HQ's operator ends; UA_FACTORY_CREDENTIAL is right"
        raise HqRefusedError(status, f"HQ answered {status} at {EXCHANGE_PATH}: {why}", cause)
    try:
        answer.read()  # it streams: nobody has read it yet
        document = answer.json()
        token, life = document["token"], float(document["ttl_seconds"])
        if (
            not isinstance(token, str)
            or not token.isascii()
            or not token.isprintable()
            or " " in token
            or not 0 < life <= LONGEST_LIFE_SECONDS
        ):
            raise ValueError
    except (ValueError, RecursionError, KeyError, TypeError):
        raise HqUnavailableError(f"HQ's answer at {EXCHANGE_PATH} is no token; is UA_HQ_BASE_URL right?") from None
    return token, life

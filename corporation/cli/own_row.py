"""What HQ says of this machine's own factory, asked with the factory's own credential."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from corporation.cli.answers import detail_of
from corporation.cli.membership import Membership
from corporation.federation.hq_token import FactoryToken, HqRefusedError, HqUnavailableError

LIMIT_SECONDS: Final = 5.0
REGISTRATIONS: Final = "/api/v1/factory/registrations"
SHUT_OUT: Final = (
    "HQ does not accept this factory's credential: it is in quarantine, which only HQ's operator can end "
    "(at HQ: `corporation release {0}`), or it was removed or joined again elsewhere; then a code of "
    "`corporation join-code --factory-id {0}` lets it join again"
)


@dataclass(frozen=True)
class OwnRow:
    """HQ's row of this factory, or None, and then why: nobody answered, it lets us in no more, or it knows no row."""

    row: dict[str, Any] | None
    why: str = ""


class AtHq:
    """HQ as this factory sees it; use it as a context manager."""

    def __init__(self, membership: Membership, ca_file: Path | None) -> None:
        self._membership = membership
        self._http = httpx.Client(
            base_url=membership.hq_base_url,
            auth=FactoryToken(membership.hq_base_url, membership.factory_id, membership.factory_credential),
            trust_env=False,
            verify=ssl.create_default_context(cafile=str(ca_file) if ca_file else None),
            timeout=LIMIT_SECONDS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def look(self) -> OwnRow:
        """What HQ says now; never raises for what is wrong with HQ or with us there."""
        where = f"HQ at {self._membership.hq_base_url}"
        try:
            answer = self._http.get(REGISTRATIONS, params={"limit": 1})
        except HqRefusedError as error:
            return OwnRow(None, self._refused(error.status, ""))
        except (httpx.HTTPError, HqUnavailableError) as error:
            return OwnRow(None, f"{where} is not reached ({_named(error)})")
        if answer.status_code != 200:
            return OwnRow(None, self._refused(answer.status_code, detail_of(answer)))
        rows = _rows(answer)
        if rows is None:
            return OwnRow(None, f"what answers at {self._membership.hq_base_url} is no HQ")
        own = next((row for row in rows if row.get("factory_id") == self._membership.factory_id), None)
        return OwnRow(own, "" if own else f"{where} knows no factory {self._membership.factory_id}")

    def _refused(self, status: int, detail: str) -> str:
        if status == 401:
            return SHUT_OUT.format(self._membership.factory_id)
        return f"HQ at {self._membership.hq_base_url} answered {status}{': ' + detail if detail else ''}"


def _named(error: Exception) -> str:
    return str(error) if isinstance(error, HqUnavailableError) else type(error).__name__


def _rows(answer: httpx.Response) -> list[dict[str, Any]] | None:
    try:
        document = answer.json()
    except (ValueError, RecursionError):
        return None
    rows = document.get("registrations") if isinstance(document, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None

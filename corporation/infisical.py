"""The secrets of one project from Infisical, through its official SDK, within a fixed time (contract E-16).

The SDK is an extra and heavy, so it is imported only when it is needed. By itself it waits for ever, repeats a refused
connection for 16 seconds and puts answers into its errors; `infisical_session` takes all three away.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from corporation.errors import CorporationError

if TYPE_CHECKING:
    from infisical_sdk import InfisicalSDKClient, ListSecretsResponse

    from corporation.infisical_session import Line

PUBLIC_CLOUD: Final = "https://app.infisical.com"
LIMIT_SECONDS: Final = 20.0
"""For the whole load, so for each request as well (E-16 allows 20 to each)."""
WAIT_SECONDS: Final = 10.0
"""For a connection, and for each piece of an answer."""

Found = dict[str, str | None]
"""Values by name; None where the server names a secret and does not show it."""


class InfisicalError(CorporationError):
    """Infisical gave no secrets; it holds the class of the reason and a status, and no text of either side (E-12)."""

    code = "infisical"

    def __init__(self, class_name: str, status: int | None = None) -> None:
        self.class_name = class_name
        self.status = status
        super().__init__(f"Infisical gave no secrets: {class_name}" + (f", status {status}" if status else ""))


@dataclass(frozen=True)
class Coordinates:
    """Who asks, where, and for which secrets; `environment` is sent as it is written (E-14)."""

    client_id: str = field(repr=False)
    client_secret: SecretStr
    project_id: str
    environment: str = "dev"
    path: str = "/"
    api_url: str = field(default=PUBLIC_CLOUD, repr=False)
    ca_bundle: str | None = None


def fetch_secrets(
    where: Coordinates, *, limit_seconds: float = LIMIT_SECONDS, wait_seconds: float = WAIT_SECONDS
) -> Found:
    """All secrets of the path, its sub-folders and its imports; raises InfisicalError, and nothing else, in time.

    Where a name occurs more than once the folder nearest to the path wins, then the first by name, then the last
    import, as in Infisical itself. Calling twice asks twice. Afterwards no connection is open and no thread runs; only
    one that waits for a name server, or to be connected, lives on until that wait ends.
    """
    client, line = _client(where, wait_seconds)
    answer: Future[Found] = Future()
    worker = Thread(target=_answer, args=(answer, client, where), name="infisical", daemon=True)
    worker.start()
    try:
        return answer.result(timeout=limit_seconds)
    except TimeoutError:
        failure = InfisicalError("TimeoutError")
    finally:
        line.cut()
        worker.join(1)
        client.api.session.close()
        client.close()
    raise failure


def _client(where: Coordinates, wait_seconds: float) -> "tuple[InfisicalSDKClient, Line]":
    try:
        from infisical_sdk import InfisicalSDKClient

        from corporation.infisical_session import Line, bounded_session
    except ImportError as error:
        failure = InfisicalError(type(error).__name__)
    else:
        line = Line()
        client = InfisicalSDKClient(host=where.api_url, cache_ttl=None)  # pyright: ignore[reportArgumentType]
        session = bounded_session(line, wait_seconds=wait_seconds, ca_bundle=where.ca_bundle)
        session.headers.update(client.api.session.headers)
        client.api.session.close()
        client.api.session = session
        return client, line
    raise failure


def _answer(answer: Future[Found], client: "InfisicalSDKClient", where: Coordinates) -> None:
    try:
        answer.set_result(_merged(_listed(client, where)))
    except Exception as error:
        name = getattr(error, "class_name", type(error).__name__)
        # A new error instead of this one, whose frames and causes hold the credentials.
        answer.set_exception(InfisicalError(name, getattr(error, "status", None)))


def _listed(client: "InfisicalSDKClient", where: Coordinates) -> "ListSecretsResponse":
    from corporation.infisical_session import RequestFailed

    _log_in(client, where)
    try:
        return _list(client, where)
    except RequestFailed as failure:
        if failure.status != 401:
            raise
    # The token ended between the two requests: a short life, or a revocation after a rotation.
    _log_in(client, where)
    return _list(client, where)


def _log_in(client: "InfisicalSDKClient", where: Coordinates) -> None:
    client.auth.universal_auth.login(where.client_id, where.client_secret.get_secret_value())


def _list(client: "InfisicalSDKClient", where: Coordinates) -> "ListSecretsResponse":
    return client.secrets.list_secrets(
        project_id=where.project_id,
        environment_slug=where.environment,
        secret_path=where.path,
        recursive=True,
        include_imports=True,
    )


def _merged(listed: "ListSecretsResponse") -> Found:
    """From the weakest to the strongest, so that the strongest is written last."""
    imported = [_row(secret) for each in listed.imports for secret in each.secrets]
    own = sorted((_row(secret) for secret in listed.secrets), key=_distance, reverse=True)
    return {row["secretKey"]: _value(row) for row in _named([*imported, *own])}


def _row(secret: Any) -> dict[str, Any]:
    # The SDK makes objects of listed secrets and leaves imported ones as they came.
    return secret if isinstance(secret, dict) else vars(secret)


def _named(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    return (row for row in rows if isinstance(row.get("secretKey"), str))


def _distance(row: dict[str, Any]) -> tuple[int, str]:
    path = str(row.get("secretPath") or "").strip("/")
    return (len(path.split("/")) if path else 0, path)


def _value(row: dict[str, Any]) -> str | None:
    # Without the right to read, Infisical sends a placeholder; as a signing secret it would be known to the world.
    if row.get("secretValueHidden") or not isinstance(row.get("secretValue"), str):
        return None
    return row["secretValue"]

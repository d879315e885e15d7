"""A factory's way to headquarters: HTTPS to the configured address only, with a limit on everything (F-3, D15)."""

import os
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from corporation.federation.hq_token import FactoryToken, OpsToken
from corporation.federation.hq_token import HqRefusedError as HqRefusedError
from corporation.federation.hq_token import HqUnavailableError as HqUnavailableError

REQUEST_SECONDS = 15.0
"""How long one request may take (contract fleet §4)."""

LARGEST_BUNDLE_BYTES = 50 * 1024 * 1024


class Hq:
    """Headquarters at `base_url`; what proves who we are goes there and nowhere else: redirects are not followed.

    With a `credential` the factory `factory_id` exchanges it for tokens of an hour (F-4); else `ops_token` is sent.
    `ca_file` names the authorities to trust instead of the usual ones.
    """

    def __init__(
        self,
        base_url: str,
        ops_token: str | None,
        *,
        credential: str | None = None,
        factory_id: str = "",
        ca_file: str | None = None,
    ) -> None:
        self._base_url = base_url
        self._ops_token = ops_token
        self._credential = credential
        self._factory_id = factory_id
        self._ca_file = ca_file
        self._clients: dict[int, httpx.Client] = {}

    def beat(self, body: Mapping[str, Any], patience: float = REQUEST_SECONDS) -> dict[str, Any]:
        """Send one heartbeat and return HQ's answer (contract fleet §2 and §3); waits `patience` s for each step."""
        return self._json("POST", "/api/v1/factory/registrations", body, patience)

    def new_redis_password(self) -> dict[str, Any]:
        """A fresh password for the broker, besides the one that this factory has; each call makes another."""
        return self._json("POST", "/api/v1/factory/redis-password", {})

    def progress(self, attempt_id: str, body: Mapping[str, Any], patience: float = REQUEST_SECONDS) -> dict[str, Any]:
        """Tell how an attempt is going, which also renews its lease (H-31); waits `patience` seconds for each step."""
        return self._json("POST", f"/api/v1/factory/missions/{quote(attempt_id, safe='')}/progress", body, patience)

    def claim(self, body: Mapping[str, Any], wait_seconds: float) -> dict[str, Any]:
        """Ask for missions, and wait up to `wait_seconds` for some (contract http §8); what is answered is ours now."""
        asked = {**body, "wait_seconds": wait_seconds}
        return self._json("POST", "/api/v1/factory/missions/claim", asked, wait_seconds + REQUEST_SECONDS)

    def start(self, attempt_id: str) -> dict[str, Any]:
        """The attempt runs; HqRefusedError with a cause of HQ's when it must not. Saying it again changes nothing."""
        return self._json("POST", f"/api/v1/factory/missions/{quote(attempt_id, safe='')}/start", {})

    def result(self, attempt_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Bring the attempt's result home; the same again has the same answer. HqRefusedError when it is too late."""
        return self._json("POST", f"/api/v1/factory/missions/{quote(attempt_id, safe='')}/result", body)

    def bundle(self, job_id: str) -> bytes:
        """Download the bundle (tar.gz) of a mission, at most 50 MB."""
        # Quoted as one path segment: a job_id is any text.
        path = f"/api/v1/ops/tutorials/bootstrap-jobs/{quote(job_id, safe='')}/bundle"
        try:
            with self._client().stream("GET", path) as answer:
                self._check(answer)
                received = bytearray()
                for chunk in answer.iter_bytes():
                    received += chunk
                    if len(received) > LARGEST_BUNDLE_BYTES:
                        raise HqRefusedError(413, f"The bundle is larger than {LARGEST_BUNDLE_BYTES} bytes")
                return bytes(received)
        except httpx.HTTPError as error:
            raise HqUnavailableError(f"HQ did not send the bundle ({type(error).__name__})") from error

    def close(self) -> None:
        """This process's connections are closed; the next request opens new ones. Safe to call twice."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    def _json(
        self, method: str, path: str, body: Mapping[str, Any], patience: float = REQUEST_SECONDS
    ) -> dict[str, Any]:
        try:
            answer = self._client().request(method, path, json=dict(body), timeout=max(0.1, patience))
            self._check(answer)
            document = answer.json()
        except (httpx.HTTPError, ValueError, RecursionError) as error:
            raise HqUnavailableError(f"HQ cannot be reached at {path} ({type(error).__name__})") from error
        return document if isinstance(document, dict) else {}

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise HqUnavailableError(f"HQ answered {answer.status_code}")
        if answer.status_code not in (200, 201, 202):
            raise HqRefusedError(answer.status_code, f"HQ answered {answer.status_code}", _cause_of(answer))

    def _client(self) -> httpx.Client:
        # One client a process: its sockets, and the lock of its token, must not be shared over a fork.
        pid = os.getpid()
        if pid not in self._clients:
            timeout = httpx.Timeout(REQUEST_SECONDS, connect=5.0)
            client = httpx.Client(
                base_url=self._base_url, auth=self._auth(), timeout=timeout, trust_env=False, verify=self._authorities()
            )
            self._clients[pid] = client
        return self._clients[pid]

    def _authorities(self) -> ssl.SSLContext | bool:
        """Who may vouch for HQ: the usual ones, or those in a file of this node's, for an HQ with a CA of its own."""
        return ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True

    def _auth(self) -> httpx.Auth | None:
        if self._credential:
            return FactoryToken(self._base_url, self._factory_id, self._credential)
        return OpsToken(self._ops_token) if self._ops_token else None


def _cause_of(answer: httpx.Response) -> str:
    """The code before the colon of an error of ours (contract http H-3); empty for any other body."""
    try:
        detail = answer.json().get("detail") if answer.is_stream_consumed else None
    except (ValueError, RecursionError, AttributeError, httpx.HTTPError):
        return ""
    return detail.partition(":")[0] if isinstance(detail, str) else ""

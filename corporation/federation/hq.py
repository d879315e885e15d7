"""A factory's way to headquarters: HTTPS to the configured address only, with a limit on everything (F-3, D15)."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from corporation.errors import CorporationError

REQUEST_SECONDS = 15.0
"""How long one request may take (contract fleet §4)."""

LARGEST_BUNDLE_BYTES = 50 * 1024 * 1024


class HqUnavailableError(CorporationError):
    """HQ cannot be reached or is not ready; the same request may be sent again later."""

    code = "hq_unavailable"


class HqRefusedError(CorporationError):
    """HQ answered that it will not; sending the same again will not help."""

    code = "hq_refused"

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class Hq:
    """Headquarters at `base_url`; the token goes there and nowhere else, since redirects are not followed."""

    def __init__(self, base_url: str, token: str | None) -> None:
        self._base_url = base_url
        self._token = token
        self._clients: dict[int, httpx.Client] = {}

    def beat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one heartbeat and return HQ's answer (contract fleet §2 and §3)."""
        return self._json("POST", "/api/v1/factory/registrations", body)

    def progress(self, attempt_id: str, body: Mapping[str, Any], patience: float = REQUEST_SECONDS) -> dict[str, Any]:
        """Tell how an attempt is going, which also renews its lease (H-31); waits `patience` seconds for each step."""
        return self._json("POST", f"/api/v1/factory/missions/{attempt_id}/progress", body, patience)

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

    def _json(
        self, method: str, path: str, body: Mapping[str, Any], patience: float = REQUEST_SECONDS
    ) -> dict[str, Any]:
        try:
            answer = self._client().request(method, path, json=dict(body), timeout=max(0.1, patience))
            self._check(answer)
            document = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise HqUnavailableError(f"HQ cannot be reached at {path} ({type(error).__name__})") from error
        return document if isinstance(document, dict) else {}

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code >= 500 or answer.status_code == 429:
            raise HqUnavailableError(f"HQ answered {answer.status_code}")
        if answer.status_code not in (200, 201, 202):
            raise HqRefusedError(answer.status_code, f"HQ answered {answer.status_code}")

    def _client(self) -> httpx.Client:
        # One client a process: its sockets must not be shared over a fork.
        pid = os.getpid()
        if pid not in self._clients:
            headers = {"x-ua-ops-token": self._token} if self._token else {}
            timeout = httpx.Timeout(REQUEST_SECONDS, connect=5.0)
            client = httpx.Client(base_url=self._base_url, headers=headers, timeout=timeout, trust_env=False)
            self._clients[pid] = client
        return self._clients[pid]

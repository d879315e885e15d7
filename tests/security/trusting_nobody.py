"""A cluster whose factories join with a code, and have a user of the broker and a credential of their own each."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpx
import redis
from canary import secret

from factory_tasks.redis_password import write_password

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

sys.path.append(str(Path(__file__).parent.parent / "faults"))

from faulty_cluster import FaultyCluster


@dataclass
class TrustingNobody(FaultyCluster):
    """Factories hold nothing of the operator's, and no way into the database."""

    joined: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def join(self, factory_id: str) -> dict[str, Any]:
        """What HQ tells the newcomer."""
        with self.client as client:
            code = client.post("/api/v1/ops/factory/join-codes", json={"factory_id": factory_id}).json()["join_code"]
            answer = client.post("/api/v1/factory/enrol", json={"join_code": code, "factory_id": factory_id})
        assert answer.status_code == 201, answer.text
        self.joined[factory_id] = answer.json()
        self.wait(lambda: self.value("SELECT 1 FROM corporation.redis_users WHERE applied_at IS NOT NULL"))
        write_password(self.password_of(factory_id), unquote(urlsplit(answer.json()["redis_url"]).password or ""))
        return self.joined[factory_id]

    def password_of(self, factory_id: str) -> Path:
        """The file that holds the password of this factory's user."""
        return self.folder / f"redis-password-{factory_id}"

    @staticmethod
    def address_of(url: str) -> str:
        """`url` with its user and without its password."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()

    def as_factory(self, bearer: str) -> httpx.Client:
        """A client that shows `bearer` and no operator's token."""
        client = self.client
        del client.headers["x-ua-ops-token"]
        client.headers["authorization"] = f"Bearer {bearer}"
        return client

    def order_factory(self, what: str, factory_id: str) -> None:
        """An operator's word about a factory."""
        with self.client as client:
            client.post(f"/api/v1/ops/factory/{what}", json={"target_factory_id": factory_id}).raise_for_status()

    def _hq(self) -> dict[str, str]:
        address = urlsplit(self.redis_url)
        told = f"redis://127.0.0.1:{address.port}/0"
        return {**super()._hq(), "UA_OPS_JWT_SECRET": secret("signing"), "UA_FACTORY_REDIS_URL": told}

    def _factory(self, factory: str = "bench") -> dict[str, str]:
        told = self.joined[factory]
        given = super()._factory(factory)
        # Nothing of the operator's, and no way into the database.
        del given["UA_OPS_TOKEN"], given["UA_RESULT_BACKEND_URL"]
        return {
            **given,
            "UA_FACTORY_CREDENTIAL": told["factory_credential"],
            "UA_REDIS_URL": self.address_of(told["redis_url"]),
            "UA_REDIS_PASSWORD_FILE": str(self.password_of(factory)),
            "UA_FACTORY_QUEUE": told["factory_queue"],
        }


def connections(server: "Server", user: str = "f_desk-7") -> list[Mapping[str, str]]:
    """Whatever is connected as this user."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        found: Any = client.client_list()
        return [one for one in found if one["user"] == user]


def cut(server: "Server", user: str = "f_desk-7") -> None:
    """Every connection of this user is closed; it may come back."""
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLIENT KILL", "USER", user)


def is_let_in(url: str) -> bool:
    """Whether the user and the password in `url` open the door; asked again if it was shut while we stood in it."""
    with redis.Redis.from_url(url) as client:
        try:
            return _answers(client)
        except redis.ConnectionError:
            return _answers(client)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return False

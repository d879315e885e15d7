"""What each kind of node shows and to whom: the table of contract http §3, held cell by cell over served nodes."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import stranger
from served_api import JWT_SECRET, OPS_TOKEN, PUBLISH, Api, served, settings_for, token
from warm_starts import WarmStarts

from corporation.settings import load_settings

MISSIONS = "/api/v1/missions"
CAPABILITIES = "/api/v1/factory/capabilities"
FLEET = [
    ("POST", "/api/v1/factory/registrations"),
    ("GET", "/api/v1/factory/registrations"),
    ("DELETE", "/api/v1/factory/registrations/desk-7"),
    ("GET", "/api/v1/ops/fleet/cost-summary"),
    ("GET", MISSIONS),
    ("GET", f"{MISSIONS}/j-1"),
    ("GET", f"{MISSIONS}/j-1/events"),
    ("GET", f"{MISSIONS}/j-1/log"),
    ("GET", f"{MISSIONS}/j-1/explain"),
    ("POST", "/api/v1/ops/tokens/revoke"),
    ("POST", "/api/v1/ops/factory/rotate"),
    ("GET", "/api/v1/ops/audit"),
]
QUEUE = [
    ("POST", "/api/v1/factory/missions/at-1/start"),
    ("POST", "/api/v1/factory/missions/at-1/progress"),
]
BUNDLE = ("GET", "/api/v1/ops/tutorials/bootstrap-jobs/j-1/bundle")
BOOTSTRAP = [
    BUNDLE,
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/claim"),
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/j-1/start"),
    ("POST", "/api/v1/ops/tutorials/bootstrap-jobs/j-1/result"),
]
ORDER_REPOSITORY = ("POST", "/api/v1/dashboard/tutorials/bootstrap-repo")
BOOTSTRAP_SHOWN = [
    ("GET", "/api/v1/dashboard/tutorials/bootstrap-jobs"),
    ("GET", "/api/v1/dashboard/tutorials/notifications"),
]
MINT = ("POST", "/auth/ops-token")
REVOKE = "/api/v1/ops/tokens/revoke"
OPEN = [("GET", "/api/v1/health"), ("GET", "/api/v1/hooks/readyz")]
WITH_TOKEN = [*FLEET, *QUEUE, *BOOTSTRAP, ORDER_REPOSITORY, *BOOTSTRAP_SHOWN, ("POST", PUBLISH), ("GET", CAPABILITIES)]
WITH_TOKEN += [("GET", "/openapi.json")]


@dataclass(frozen=True)
class Node:
    """A node by its variables, and the gates of §3 that let an operator pass."""

    role: str
    overrides: dict[str, str] = field(default_factory=dict)
    surface: bool = True
    keeps_ledger: bool = True
    fleet: bool = False
    publish: bool = False
    consume: bool = False

    def lets_pass(self, call: tuple[str, str]) -> bool:
        """Whether an operator gets further than the gates."""
        if call in OPEN:
            return True
        if not self.surface:
            return False
        gates = {
            **dict.fromkeys(BOOTSTRAP, self.consume),
            ORDER_REPOSITORY: self.publish,
            **dict.fromkeys(BOOTSTRAP_SHOWN, self.keeps_ledger),
            ("POST", PUBLISH): self.publish,
            ("GET", CAPABILITIES): self.keeps_ledger,
            ("GET", "/openapi.json"): True,
        }
        return gates.get(call, self.fleet and (self.consume or call not in QUEUE))


def full(mode: str = "full", **more: str) -> dict[str, str]:
    return {"UA_CAPABILITY_GATEWAY_MODE": mode, **more}


def delegation(mode: str) -> dict[str, str]:
    return {"UA_CAPABILITY_DELEGATION_MODE": mode}


NODES = {
    "headquarters": Node("HEADQUARTERS", fleet=True, publish=True, consume=True),
    "headquarters that only listens": Node("HEADQUARTERS", delegation("listen_only"), fleet=True, consume=True),
    "headquarters without delegation": Node("HEADQUARTERS", delegation("disabled"), fleet=True),
    "headquarters with its health only": Node("HEADQUARTERS", full("health_only"), surface=False),
    "worker": Node("LOCAL_WORKER", surface=False),
    "worker with a full gateway": Node("LOCAL_WORKER", full(), keeps_ledger=False),
    "worker that wants to publish": Node("LOCAL_WORKER", full(**delegation("publish_and_listen")), keeps_ledger=False),
    "unknown role": Node("EMPEROR", surface=False),
    "standalone": Node("STANDALONE_NODE"),
    "standalone that publishes": Node("STANDALONE_NODE", delegation("publish_and_listen"), publish=True, consume=True),
    "standalone that listens": Node("STANDALONE_NODE", delegation("listen_only"), consume=True),
    "standalone with its health only": Node("STANDALONE_NODE", full("health_only"), surface=False),
}
each_node = pytest.mark.parametrize("node", NODES.values(), ids=NODES.keys())


def serve(database_url: str, node: Node) -> Any:
    return served(settings_for(database_url, FACTORY_ROLE=node.role, **node.overrides))


@each_node
def test_an_operator_passes_the_gates_that_the_policy_opens(shared_url: str, node: Node) -> None:
    """The table of §3, and each override of the environment contract's §2 that it depends on (E-6)."""
    calls = [*WITH_TOKEN, *OPEN]
    with serve(shared_url, node) as api:
        answers = {call: api.ops.request(*call, json={} if call[0] == "POST" else None) for call in calls}

    passed = {call: answer.status_code != 403 for call, answer in answers.items()}
    assert passed == {call: node.lets_pass(call) for call in calls}
    assert {answer.status_code for answer in answers.values()} <= {200, 400, 403, 404, 422}


@each_node
def test_who_is_refused_reads_which_node_refused(shared_url: str, node: Node) -> None:
    refused = [call for call in WITH_TOKEN if not node.lets_pass(call)]
    with serve(shared_url, node) as api:
        details = {call: api.ops.request(*call).json()["detail"] for call in refused}
        role = str(api.settings.policy.factory_role)

    assert all(detail.startswith("forbidden: ") and role in detail for detail in details.values()), details
    assert all("ask headquarters" in detail for detail in details.values())
    of_fleet = [detail for call, detail in details.items() if node.surface and call == ("GET", MISSIONS)]
    assert all("so no token helps" in detail for detail in of_fleet)


@each_node
def test_a_stranger_learns_nothing_but_the_health(shared_url: str, node: Node) -> None:
    """H-7, H-14: on a full surface the token is asked for before any gate."""
    with serve(shared_url, node) as api:
        answers = {call: stranger.request(call[0], api.url + call[1]).status_code for call in [*WITH_TOKEN, *OPEN]}

    closed = {call: 401 if call[1].startswith("/api/v1/ops/") else 403 for call in WITH_TOKEN}
    expected = dict.fromkeys(WITH_TOKEN, 401) if node.surface else closed
    assert answers == {**expected, **dict.fromkeys(OPEN, 200)}


@each_node
def test_only_headquarters_mints_tokens(shared_url: str, node: Node) -> None:
    """The first row of §4's order: the role, before any credential is looked at."""
    with serve(shared_url, node) as api:
        answers = [api.ops.request(*MINT).status_code, stranger.request(MINT[0], api.url + MINT[1]).status_code]

    assert answers == ([200, 401] if node.surface and node.fleet else [403, 403])


def test_a_publisher_that_may_not_publish_here_reads_the_mode(shared_url: str) -> None:
    with serve(shared_url, NODES["headquarters that only listens"]) as api:
        detail = api.ops.post(PUBLISH, json={}).json()["detail"]

    assert "listen_only" in detail
    assert "publish_and_listen" in detail


def test_missions_of_a_standalone_node_that_publishes_are_stored_in_its_own_ledger(shared_url: str) -> None:
    """E-6: an override changes the one field it names."""
    with serve(shared_url, NODES["standalone that publishes"]) as api:
        answer = api.ops.post(PUBLISH, json={"payload": {"task": "Tidy"}})

        assert (answer.status_code, api.stored()) == (202, 1)


# The health-only surface


@pytest.fixture(scope="module")
def worker(module_servers: tuple[str, str]) -> Iterator[Api]:
    """A worker with both kinds of token, the same for all tests: it has no ledger to write into."""
    with serve(module_servers[0], NODES["worker"]) as api:
        yield api


PATHS = [
    *("/", "/docs", "/redoc", "/openapi.json", "/dashboard", "/metrics", "/favicon.ico", "/nowhere"),
    *("/api/v1/version", "/api/v1/health/", "/api/v1/health/x", "/api/v1/health%2f", "/api/v1/health%00"),
    *("/api/v1/health;x", "/api/v1/hooks/readyz/", "/api/v1/hooks", "//api/v1/health", "/api//v1/health"),
    *("/API/V1/HEALTH", "/api/v1/Health", "/api/v1/./health", "/api/v1/x/../health", "/../api/v1/health"),
    *("/api/v1/%2e/health", "/api/v1/x/%2e%2e/health", "/api%2fv1%2fhealthz", "/api/v1/health%20", "/%ff"),
    *("/api/v1/ops", "/api/v1/opsx", "/API/V1/OPS/fleet", "//api/v1/ops/fleet", "/api/v1/./ops/fleet"),
]


def status_of(api: Api, method: str, path: str, *headers: str) -> int:
    lines = [f"{method} {path} HTTP/1.1", "Host: node", "Connection: close", *headers, "", ""]
    return int(api.exchange("\r\n".join(lines).encode()).split()[1])


def test_every_other_address_is_refused_however_it_is_written(worker: Api) -> None:
    """H-14: with a good token and without one."""
    bearer = f"Authorization: Bearer {OPS_TOKEN}"
    for path in PATHS:
        assert (path, status_of(worker, "GET", path)) == (path, 403)
        assert (path, status_of(worker, "GET", path, bearer)) == (path, 403)


@pytest.mark.parametrize("path", ["/api/v1/health?x=/../ops", "/api/v1/%68ealth", "/api/v1/hooks/readyz?"])
def test_the_health_is_found_however_it_is_encoded(worker: Api, path: str) -> None:
    """The path is compared once decoded, as routers read it, so that a gate and a route can never disagree."""
    assert status_of(worker, "GET", path) == 200


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "LINK"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_refused(worker: Api, method: str) -> None:
    """H-14; on the two open addresses a method that they do not have is 405."""
    assert status_of(worker, method, "/nowhere") == 403
    assert status_of(worker, method, "/api/v1/ops/fleet") == 401
    assert status_of(worker, method, "/api/v1/health") == (200 if method in ("GET", "HEAD") else 405)


OPS = "/api/v1/ops/fleet/cost-summary"


def test_an_operators_address_asks_for_the_token_first(worker: Api) -> None:
    """H-14, H-10."""
    nobody, guess = (stranger.get(worker.url + OPS, headers=sent) for sent in ({}, {"x-ua-ops-token": "guess"}))

    assert [(a.status_code, a.json()) for a in (nobody, guess)] == [(401, {"detail": "Unauthorized"})] * 2
    assert nobody.headers["www-authenticate"] == "Bearer"
    for bearer in (OPS_TOKEN, token(), token("factory", factory_id="desk-7"), token("wizard")):
        with worker.as_token(bearer) as known:
            assert known.get(OPS).status_code == 403
    assert stranger.get(f"{worker.url}{OPS}?token={OPS_TOKEN}").status_code == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"UA_OPS_TOKEN": "", "UA_OPS_JWT_SECRET": ""},
        {"UA_OPS_JWT_SECRET": "", "UA_OPS_AUTH_ALLOW_LEGACY": "no"},
    ],
    ids=["none set", "none accepted"],
)
def test_where_nobody_could_be_known_an_operators_address_is_refused_like_the_rest(
    shared_url: str, changes: dict[str, str]
) -> None:
    """H-14."""
    with served(settings_for(shared_url, FACTORY_ROLE="LOCAL_WORKER", **changes)) as worker:
        assert [worker.ops.get(OPS).status_code, stranger.get(worker.url + OPS).status_code] == [403, 403]


def test_a_closed_surface_reads_no_body_and_limits_headers(worker: Api) -> None:
    """A74: also here the request line and headers may have 16 KiB."""
    assert status_of(worker, "POST", "/nowhere", "Content-Length: 50000000") == 403
    assert status_of(worker, "GET", "/api/v1/health", f"X-Big: {'x' * 65536}") == 431


def test_a_refusal_is_as_well_dressed_as_every_answer(worker: Api) -> None:
    """H-3, H-4."""
    answer = stranger.get(worker.url + "/nowhere", headers={"x-request-id": "req-1"})

    assert set(answer.json()) == {"detail"}
    assert answer.headers["x-request-id"] == "req-1"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_closed_surface_that_cannot_know_what_is_revoked_says_that_its_ledger_is_away(
    empty_database_url: str,
) -> None:
    """Whether it does not answer or was never migrated; the static token needs no ledger."""
    for url in (empty_database_url, "postgresql://nobody@127.0.0.1:1/none"):
        with served(settings_for(url, UA_CAPABILITY_GATEWAY_MODE="health_only")) as node:
            with node.as_token(token()) as known:
                assert known.get(OPS).status_code == 503
            assert node.ops.get(OPS).status_code == 403


# Every node


UNKNOWN = [
    ("GET", "/api/v1/ops/nowhere"),
    ("POST", OPS),
    ("GET", "/api/v1/ops/"),
    ("GET", "/api/v1/ops/tokens/revoke"),
    ("DELETE", "/api/v1/ops/tokens/revoke"),
    ("POST", BUNDLE[1]),
    ("PROPFIND", BUNDLE[1]),
    ("OPTIONS", "/api/v1/ops/tokens/revoke"),
]


def test_a_stranger_does_not_learn_what_is_there_for_operators(api: Api) -> None:
    """H-7: whatever the method, and whether or not there is anything."""
    for method, path in UNKNOWN:
        nobody = stranger.request(method, api.url + path)
        guess = stranger.request(method, api.url + path, headers={"Authorization": "Bearer wrong"})
        known = api.ops.request(method, path)

        assert (method, path, nobody.status_code, guess.status_code) == (method, path, 401, 401)
        assert (nobody.json(), nobody.headers["www-authenticate"]) == ({"detail": "Unauthorized"}, "Bearer")
        assert "allow" not in nobody.headers
        assert (method, path, known.status_code) == (method, path, 405 if path in (BUNDLE[1], REVOKE, OPS) else 404)
        assert ("allow" in known.headers) is (known.status_code == 405)
    with api.as_token(token("factory", factory_id="desk-7")) as factory:
        assert factory.get("/api/v1/ops/nowhere").status_code == 404
    assert stranger.get(f"{api.url}/api/v1/ops/nowhere?token={OPS_TOKEN}").status_code == 400


def test_a_guess_at_an_operators_address_is_counted_also_where_nothing_is(api: Api) -> None:
    wrong = {"Authorization": "Bearer wrong"}
    with stranger.client(api.url, headers=wrong) as client:
        codes = [client.get("/api/v1/ops/nowhere").status_code for _ in range(61)]

    assert codes == [401] * 60 + [429]
    assert api.ops.get("/api/v1/ops/nowhere").status_code == 404


def test_a_node_without_a_ledger_accepts_nothing_that_might_have_been_revoked(shared_url: str) -> None:
    """H-11: it could not know. A token without a name ends by itself, and the static one with its variable."""
    with serve(shared_url, NODES["worker with a full gateway"]) as worker:
        for bearer, status in ((token(), 401), (token(jti=None), 403), (OPS_TOKEN, 403)):
            with worker.as_token(bearer) as client:
                assert client.get(CAPABILITIES).status_code == status


def test_the_default_address_is_loopback_and_port_8002() -> None:
    """H-1, as ops/decisions/0002-loopback-by-default.md changes it."""
    settings = load_settings({})

    assert (settings.gateway_host, settings.gateway_port) == ("127.0.0.1", 8002)


def test_times_are_utc_with_microseconds_and_unknown_keys_are_ignored(api: Api) -> None:
    """H-2."""
    body = {"job_id": "j-1", "payload": {"task": "Tidy", "shape": "round"}, "colour": "blue"}

    assert api.ops.post(PUBLISH, json=body).status_code == 202
    created = api.ops.get(f"{MISSIONS}/j-1").json()["created_at"]
    assert (created[10], created[19], created[-6:], len(created)) == ("T", ".", "+00:00", 32)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/docs", 404), ("DELETE", PUBLISH, 405), ("GET", "/api/v1/health/", 404)],
)
def test_what_is_not_there_is_told_in_the_contracts_shape(api: Api, method: str, path: str, status: int) -> None:
    """H-3; an address is not corrected by a redirect, which would lead wherever the Host header says."""
    answer = api.ops.request(method, path)

    assert (answer.status_code, set(answer.json())) == (status, {"detail"})


def test_without_a_ledger_missions_are_503() -> None:
    """H-5."""
    with served(settings_for("postgresql://nobody@127.0.0.1:1/none")) as api:
        answers = [api.ops.get(MISSIONS), api.ops.post(PUBLISH, json={"payload": {"task": "Tidy"}})]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all(answer.headers["retry-after"] for answer in answers)


def test_the_api_description_lists_every_door_for_operators_only(api: Api) -> None:
    with api.as_token(token("publish")) as publisher, api.as_token(token("factory", factory_id="desk-7")) as factory:
        refused = [client.get("/openapi.json").status_code for client in (publisher, factory)]
    described = api.ops.get("/openapi.json").json()

    assert refused == [403, 403]
    assert {PUBLISH, MISSIONS, CAPABILITIES, "/api/v1/factory/registrations", "/auth/ops-token"} <= set(
        described["paths"]
    )
    assert stranger.get(api.url + "/openapi.json").status_code == 401
    for path, sent, answered in (
        ("/auth/ops-token", {"subject", "scope", "factory_id"}, {"token", "expires_at", "jti"}),
        ("/api/v1/ops/tokens/revoke", {"jti"}, {"ok", "jti"}),
    ):
        route = described["paths"][path]["post"]
        body, answer = (
            part["content"]["application/json"]["schema"] for part in (route["requestBody"], route["responses"]["200"])
        )
        assert (sent == set(body["properties"]), answered <= set(answer["properties"])) == (True, True)


# Starting

START = "import os; from hq_api.app import create_app, read_settings; create_app(read_settings(os.environ))"


def start(warm: WarmStarts, **ours: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a process with these variables that is about to serve."""
    quiet = {
        "UA_INFISICAL_ENABLED": "0",
        "UA_DOTENV_PATH": "/nonexistent",
        "UA_DATABASE_URL": "postgresql://127.0.0.1/x",
    }
    return warm.run(["-c", START] if "PORT" not in ours else ["-m", "hq_api"], quiet | ours)


@pytest.mark.parametrize("role", ["HEADQUARTERS", "STANDALONE_NODE", "LOCAL_WORKER"])
def test_a_full_gateway_that_knows_no_token_refuses_to_start(warm: WarmStarts, role: str) -> None:
    """H-6, E-11, D10: whatever the role."""
    ended = start(warm, PORT="", FACTORY_ROLE=role, UA_CAPABILITY_GATEWAY_MODE="full")

    assert ended.returncode == 78
    assert "UA_OPS_TOKEN" in ended.stderr
    assert "UA_OPS_JWT_SECRET" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("role", ["HEADQUARTERS", "STANDALONE_NODE", "LOCAL_WORKER"])
def test_a_gateway_that_shows_its_health_only_needs_no_token(warm: WarmStarts, role: str) -> None:
    """E-11."""
    ended = start(warm, FACTORY_ROLE=role, UA_CAPABILITY_GATEWAY_MODE="health_only")

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "ours", [{"UA_OPS_TOKEN": OPS_TOKEN}, {"UA_OPS_JWT_SECRET": JWT_SECRET}], ids=["static", "signed"]
)
def test_either_token_is_enough(warm: WarmStarts, ours: dict[str, str]) -> None:
    """H-6."""
    ended = start(warm, **ours)

    assert ended.returncode == 0, ended.stderr
    assert OPS_TOKEN not in ended.stderr
    assert JWT_SECRET not in ended.stderr

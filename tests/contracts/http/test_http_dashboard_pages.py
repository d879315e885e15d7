"""The dashboard's pages: what each kind of node shows, that nothing shown is believed, and the headers around it."""

import json
from collections.abc import Iterator
from html.parser import HTMLParser

import httpx
import pytest
import stranger
from pydantic import SecretStr
from served_api import JWT_SECRET, OPS_TOKEN, PUBLISH, Api, served, settings_for

from corporation.clock import utc_now
from hq_api.dashboard.session import COOKIE, open_session, seal

NODE, FLEET, NAVIGATION = "/dashboard", "/dashboard/corporation", "/api/v1/dashboard/navigation"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
HTML = {"Accept": "text/html"}
BOTH = [{"title": "Node", "href": NODE}, {"title": "Corporation", "href": FLEET}]
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
CORPUS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</title><script>alert(1)</script>",
    "<!--<b>",
    "]]><b>",
    "{{ 7 * 7 }}{% raw %}",
    "${7*7}",
    "&lt;script&gt;",
    "<a href=//evil.example>x</a>",
    "\u202egnp.exe",
    "__proto__",
    "\x1b[31mred",
]
OUR_TAGS = {
    *("html", "head", "meta", "title", "link", "body", "header", "main", "footer", "nav", "section", "div", "form"),
    *("h1", "h2", "h3", "p", "a", "img", "span", "small", "bdi", "ul", "li", "dl", "dt", "dd", "pre", "code", "time"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "button"),
}


ODD_PERCENT = [-1, 101, 10**30, True, None, "40", [40]]


class Reader(HTMLParser):
    """The tags, attributes and texts that a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src", "action")}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags.add("comment")


@pytest.fixture
def signed_in(api: Api) -> Iterator[httpx.Client]:
    """A browser of an operator at headquarters."""
    value = seal(open_session("ana", "session-1", utc_now()), SecretStr(JWT_SECRET), SecretStr(OPS_TOKEN))
    with stranger.client(api.url, headers=HTML | {"Cookie": f"{COOKIE}={value}"}) as client:
        yield client


def shown(client: httpx.Client, path: str) -> Reader:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return Reader(answer.text)


@pytest.mark.parametrize("text", CORPUS)
def test_what_a_factory_says_of_itself_is_shown_as_text(api: Api, signed_in: httpx.Client, text: str) -> None:
    beat = {"factory_id": text, "capabilities": [text] * 9, "version": text, "slots": 1}
    assert api.ops.post("/api/v1/factory/registrations", json=beat).status_code == 200
    # No such host name is taken any more; an older row may hold one.
    api.sql("UPDATE corporation.factories SET metadata = json_build_object('hostname', :host || '2')", host=text)

    page = shown(signed_in, FLEET)
    assert page.tags <= OUR_TAGS
    assert not [name for name in page.attributes if name.startswith("on") or name in ("style", "srcdoc", "formaction")]
    assert all(link.startswith(("/dashboard", "#")) for link in page.links)
    assert page.texts.count(text) == 1 + 9 + 1
    assert f"{text}2" in page.texts


def test_a_name_from_the_environment_is_shown_as_text_too(shared_url: str) -> None:
    with served(settings_for(shared_url, UA_FACTORY_ID=CORPUS[2])) as api:
        login = Reader(stranger.get(api.url + "/dashboard/login").text)
        pages = [shown(api.ops, NODE), shown(api.ops, FLEET)]

    assert all(page.tags <= OUR_TAGS | {"input", "label"} for page in (login, *pages))
    assert not any("onerror" in page.attributes for page in (login, *pages))
    assert all(CORPUS[2] in page.texts for page in (login, *pages))


def test_what_no_encoding_can_carry_is_shown_as_a_question_mark(api: Api, signed_in: httpx.Client) -> None:
    api.sql(r"""INSERT INTO corporation.factories (factory_id, source, capabilities, metadata)
                VALUES ('odd', 'enrolment', '["\ud800", 7, null, {"a": 1}]', '{"hostname": {"a": ["<b>"]}}')""")
    api.sql("""INSERT INTO corporation.factories (factory_id, source, capabilities, metadata)
               VALUES ('odder', 'enrolment', '{"a": 1}', '[1]')""")

    page = shown(signed_in, FLEET)
    assert "?" in page.texts
    assert {"odd", "odder"} <= set(page.texts)


@pytest.mark.parametrize(
    ("environ", "menu", "fleet"),
    [
        ({"FACTORY_ROLE": "HEADQUARTERS"}, BOTH, 200),
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, BOTH[:1], 403),
        ({"FACTORY_ROLE": "STANDALONE_NODE", "UA_CAPABILITY_DELEGATION_MODE": "listen_only"}, BOTH[:1], 403),
    ],
)
def test_only_headquarters_has_a_page_of_the_fleet(
    shared_url: str, environ: dict[str, str], menu: list[dict[str, str]], fleet: int
) -> None:
    """Contract http §13"""
    with served(settings_for(shared_url, **environ)) as api:
        assert api.ops.get(NAVIGATION).json() == {"items": menu}
        assert api.ops.get(FLEET).status_code == fleet
        assert api.ops.get(FLEET, headers=HTML).status_code == fleet
        page = shown(api.ops, NODE)

    assert (FLEET in page.links) is (fleet == 200)
    assert "Simone" in page.texts
    assert environ["FACTORY_ROLE"] in page.texts


def test_a_refused_page_says_why_in_the_language_of_the_caller(shared_url: str) -> None:
    with served(settings_for(shared_url, FACTORY_ROLE="STANDALONE_NODE")) as api:
        page, document = api.ops.get(FLEET, headers=HTML), api.ops.get(FLEET)

    assert "the fleet is shown at headquarters" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert document.json()["detail"].startswith("forbidden: this node is a standalone node")


@pytest.mark.parametrize("environ", [{"UA_CAPABILITY_START_UI": "0"}, {"UA_CAPABILITY_GATEWAY_MODE": "health_only"}])
def test_where_the_policy_has_no_pages_there_are_none(shared_url: str, environ: dict[str, str]) -> None:
    with served(settings_for(shared_url, **environ)) as api:
        answers = {api.ops.get(path).status_code for path in (NODE, FLEET, NAVIGATION, "/dashboard/login")}

    assert answers <= {403, 404}


def test_the_fleet_page_shows_who_is_silent_and_how_the_missions_stand(api: Api, signed_in: httpx.Client) -> None:
    for factory_id, silent in (("desk-7", 2), ("attic", 400), ("nas", 1000)):
        beat = {"factory_id": factory_id, "capabilities": ["vp_general"], "slots": 3, "version": "4f2a9c1"}
        api.ops.post("/api/v1/factory/registrations", json=beat)
        api.sql("""UPDATE corporation.factories SET last_seen_at = now() - CAST(:silent AS integer) * interval '1 s'
                    WHERE factory_id = :factory_id""", factory_id=factory_id, silent=silent)  # fmt: skip
    api.ops.post(PUBLISH, json={"missions": [{"job_id": f"j-{n}", "payload": {"task": "x"}} for n in range(3)]})
    api.sql("""UPDATE corporation.missions SET state = 'failed', finished_at = now(), error = 'x', state_reason = NULL
                WHERE job_id = 'j-0'""")

    texts = " ".join(" ".join(shown(signed_in, FLEET).texts).split())
    lights = "process : red consumer : unknown work : unknown"
    assert f"attic local worker stale 6 min ago {lights} 0 of 3 slots 4f2a9c1 vp_general" in texts
    assert "nas local worker offline 16 min ago" in texts
    assert "attic has been silent for 6 min. What to do: see that its machine is on." in texts
    assert "waiting 2 queued 0 claimed 0 running 0" in texts
    assert "succeeded 0 failed 1 timed out 0 cancelled 0" in texts


def runs(api: Api, job_id: str, factory_id: str, percent: object, kind: str = "general_task") -> None:
    """The mission of this name has run at the factory for two minutes."""
    api.ops.post(PUBLISH, json={"job_id": job_id, "payload": {"task": "x"}}).raise_for_status()
    api.sql(
        """
        WITH made AS (
          UPDATE corporation.missions SET state = 'running', attempt = 1, attempt_id = gen_random_uuid(),
                 factory_id = :factory_id, mission_kind = :kind, started_at = now() - interval '2 minutes'
           WHERE job_id = :job_id RETURNING *
        )
        INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, state, started_at, progress,
                                          lease_expires_at)
        SELECT attempt_id, id, 1, factory_id, 'q', 'running', started_at, CAST(:progress AS json),
               now() + interval '3 minutes' FROM made
        """,
        job_id=job_id,
        factory_id=factory_id,
        kind=kind,
        progress=json.dumps({"percent": percent}),
    )


@pytest.mark.parametrize(("percent", "told"), [(40, ", 40 %"), (7.9, ", 7 %"), *[(odd, "") for odd in ODD_PERCENT]])
def test_the_fleet_page_shows_what_runs_and_how_missions_travel(
    api: Api, signed_in: httpx.Client, percent: object, told: str
) -> None:
    beat = {"factory_id": "desk-7", "capabilities": ["transport:http"], "slots": 2, "version": "4f2a9c1" + "0" * 33}
    api.ops.post("/api/v1/factory/registrations", json=beat)
    runs(api, "j-1", "desk-7", percent)
    runs(api, "an-order", "desk-7", 1, "system:pause_factory")

    texts = " ".join(" ".join(shown(signed_in, FLEET).texts).split())
    assert f"2 of 2 slots j-1 , general_task for 2 min{told} over HTTPS 4f2a9c1 transport:http" in texts
    assert "consumer : unknown work : green" in texts
    assert "an-order" not in texts


@pytest.mark.parametrize("text", CORPUS)
def test_what_people_and_missions_say_is_shown_as_text_too(api: Api, signed_in: httpx.Client, text: str) -> None:
    api.ops.post("/api/v1/factory/registrations", json={"factory_id": "desk-7", "slots": 1}).raise_for_status()
    runs(api, "j-1", "desk-7", text)
    api.sql("UPDATE corporation.missions SET job_id = :text, mission_kind = :text", text=text)
    api.sql(
        "UPDATE corporation.factories SET display_name = :text, draining = true, paused_by = :text, pause_note = :text",
        text=text,
    )

    page = shown(signed_in, FLEET)
    assert page.tags <= OUR_TAGS
    assert not [name for name in page.attributes if name.startswith("on") or name in ("style", "srcdoc", "formaction")]
    assert page.texts.count(text) == 2 + 1 + 2


def test_the_fleet_page_shows_who_stopped_a_factory_why_and_until_when(api: Api, signed_in: httpx.Client) -> None:
    for factory_id in ("bench", "desk-7", "nas", "own"):
        said = "draining" if factory_id == "own" else "online"
        beat = {"factory_id": factory_id, "slots": 3, "registration_status": said}
        api.ops.post("/api/v1/factory/registrations", json=beat)
    api.sql("""UPDATE corporation.factories SET draining = true, paused_by = 'ana', pause_note = 'moving the desk',
                      paused_until = '2126-06-01 08:07:59+00' WHERE factory_id = 'desk-7'""")
    api.sql("UPDATE corporation.factories SET paused = true, paused_by = 'bob' WHERE factory_id IN ('bench', 'nas')")
    api.sql("""INSERT INTO corporation.factory_access (factory_id, quarantined_at, quarantined_by, quarantine_note)
               VALUES ('nas', now(), 'eve', 'stolen')""")

    texts = " ".join(" ".join(shown(signed_in, FLEET).texts).split())
    assert "desk-7 local worker draining draining by ana : moving the desk until 2126-06-01 08:07 UTC now" in texts
    assert "bench local worker paused paused by bob now" in texts
    assert "nas local worker quarantined quarantined by eve : stolen now" in texts
    assert "own local worker draining by its own word now" in texts
    assert "3 of 4 present 9 slots for missions" in texts


def test_a_factory_that_never_came_has_no_age(api: Api, signed_in: httpx.Client) -> None:
    api.sql("""INSERT INTO corporation.factories (factory_id, source, registration_status, last_seen_at)
               VALUES ('new', 'enrolment', 'offline', 'epoch')""")

    texts = " ".join(" ".join(shown(signed_in, FLEET).texts).split())
    assert "new local worker offline never process : unknown" in texts
    assert "new was never heard of. What to do: start it on its machine" in texts


def test_an_empty_fleet_is_told_what_to_do(signed_in: httpx.Client) -> None:
    texts = " ".join(shown(signed_in, FLEET).texts)

    assert "No factory has joined yet" in texts
    assert "corporation join-code" in texts
    assert "celery -A factory_tasks worker -Q local_factory" in texts
    assert "corporation publish" in texts


def test_without_its_ledger_a_node_still_shows_itself(shared_url: str) -> None:
    """H-5: the static token needs no ledger; a session might have been ended in it, so it waits."""
    value = seal(open_session("ana", "session-1", utc_now()), SecretStr(JWT_SECRET), SecretStr(OPS_TOKEN))
    with served(settings_for(NOWHERE)) as api:
        node, fleet = api.ops.get(NODE, headers=HTML), api.ops.get(FLEET, headers=HTML)
        session = stranger.get(api.url + NODE, headers=HTML | {"Cookie": f"{COOKIE}={value}"})

    assert node.status_code == 200
    assert "OperationalError" in node.text
    assert [(a.status_code, "The ledger does not answer" in a.text) for a in (fleet, session)] == [(503, True)] * 2
    assert not [a for a in (node, fleet, session) if "nobody@" in a.text]


def test_pages_carry_their_own_policy_and_the_edges_headers(api: Api, signed_in: httpx.Client) -> None:
    answers = [signed_in.get(NODE), signed_in.get(FLEET), stranger.get(api.url + "/dashboard/login")]

    for answer in answers:
        assert answer.headers["content-security-policy"] == CSP
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert {"accept", "cookie"} <= {name.strip().lower() for name in answer.headers["vary"].split(",")}
        assert "<script" not in answer.text
        assert " style=" not in answer.text


def test_files_are_named_by_their_content_and_kept_for_ever(api: Api, signed_in: httpx.Client) -> None:
    files = sorted(link for link in shown(signed_in, NODE).links if "/static/" in link)
    answers = [stranger.get(api.url + file) for file in files]

    assert [answer.headers["content-type"] for answer in answers] == ["text/css; charset=utf-8", "image/svg+xml"]
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=31536000, immutable"}


@pytest.mark.parametrize("name", ["dashboard.css", "dashboard.0.css", "..%2fdoor.py", "%2e%2e/door.py", "", "a/b"])
def test_no_other_file_can_be_had(api: Api, name: str) -> None:
    assert api.exchange(
        f"GET /dashboard/static/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    ).startswith(b"HTTP/1.1 404")


def test_every_page_has_a_title_of_its_own_and_marks_where_one_is(api: Api, signed_in: httpx.Client) -> None:
    for path, title in ((NODE, api.settings.factory_id), (FLEET, "Corporation")):
        text = signed_in.get(path).text
        assert f"<title>{title} · Corporation</title>" in text
        assert f'<a href="{path}" aria-current="page">' in text


def test_one_sign_too_many_leads_to_the_first_page(signed_in: httpx.Client) -> None:
    assert signed_in.get("/dashboard/").headers["location"] == NODE

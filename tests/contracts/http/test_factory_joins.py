"""A machine becomes a factory of a real headquarters with one line; or a person is told why not, and what to do."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from leftovers import left_in
from served_api import OPS_TOKEN, Api, forgetful, registered, served, settings_for
from structlog.testing import capture_logs
from warm_starts import WarmStarts

from corporation.cli import checkout
from corporation.cli.exits import Refusal
from corporation.cli.factory_access import quarantine, release, remove, rename
from corporation.cli.factory_join import CODE_VARIABLE, join
from corporation.cli.factory_running import TELL_EVERY_SECONDS, down, until_online, up
from corporation.cli.factory_status import look
from corporation.cli.joining import command, hints, join_code
from corporation.cli.membership import Membership, factory_folder, joined, keep
from corporation.embedded.stack_state import StateFolder
from corporation.errors import SettingsError

HQ_ID = "hq-east"
FACTORY = ("-m", "corporation.cli", "factory")
BEATS = "/api/v1/factory/registrations"
Told = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def module_api(module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Api]:
    """A headquarters that tells factories where its broker is, which is really there."""
    database, broker = module_servers
    with served(settings_for(database, UA_FACTORY_ID=HQ_ID, UA_FACTORY_REDIS_URL=broker)) as api:
        registered(api, wait_until)
        yield api


@pytest.fixture
def api(module_api: Api, shared_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The same with an empty ledger; the operator's commands know it, and its log is not taken for their output."""
    del shared_url
    monkeypatch.setenv("UA_HQ_BASE_URL", module_api.url)
    monkeypatch.setenv("UA_OPS_TOKEN", OPS_TOKEN)
    with capture_logs():
        yield forgetful(module_api)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "factory"


def code_from(told: Told, factory_id: str | None = None) -> str:
    told.readouterr()
    join_code(factory_id, 900, as_json=True, state=None)
    return str(json.loads(told.readouterr().out)["join_code"])


def join_as(api: Api, state: Path, code: str, factory_id: str | None = "desk-7") -> None:
    join(api.url, code, factory_id, as_json=False, state=state)


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"UA_DOTENV_PATH": os.devnull, "UA_HEARTBEAT_INTERVAL_SECONDS": "10"}


def run(*arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *FACTORY, *arguments, "--state", str(state)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_one_line_is_printed_and_it_says_how_to_clone(
    api: Api, capsys: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkout, "remote", lambda: "https://git.example/corporation.git")
    join_code(factory_id="desk-8", ttl=60, as_json=False, state=tmp_path)
    out, err = capsys.readouterr()
    [line] = out.splitlines()

    assert line.startswith("git clone https://git.example/corporation.git corporation && corporation/ops/join http")
    assert line.split()[-2] == api.url
    assert "works once" in err
    [row] = api.sql("SELECT factory_id, expires_at - created_at < interval '61 s' AS short FROM corporation.join_codes")
    assert tuple(row) == ("desk-8", True)


@pytest.mark.usefixtures("api")
def test_a_checkout_that_nobody_can_clone_says_so(
    capsys: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checkout, "remote", lambda: "")
    join_code(factory_id=None, ttl=900, as_json=False, state=tmp_path)
    out, err = capsys.readouterr()

    assert out.startswith("ops/join http://127.0.0.1:")
    assert "no remote to clone from" in err


def test_the_line_survives_a_shell() -> None:
    line = command("https://hq.example", "A-B", "https://git.example/my repo.git")

    assert line == (
        "git clone 'https://git.example/my repo.git' corporation && corporation/ops/join https://hq.example A-B"
    )


@pytest.mark.parametrize("remote", ["/srv/repo.git", "../repo", "file:///srv/repo.git", "repo"])
def test_a_folder_of_this_machine_is_no_place_that_another_can_clone_from(remote: str) -> None:
    line = command("https://hq.example", "A-B", remote)

    assert line == "git clone GIT_URL corporation && corporation/ops/join https://hq.example A-B"
    assert any("in place of GIT_URL" in hint for hint in hints("https://hq.example", remote, {}))


@pytest.mark.parametrize("remote", ["git@git.example:corporation.git", "https://git.example/c", "ssh://h/c"])
def test_an_address_that_others_reach_is_printed_as_it_is(remote: str) -> None:
    assert command("https://hq.example", "A-B", remote).startswith(f"git clone {remote} corporation")
    assert not [hint for hint in hints("https://hq.example", remote, {}) if "GIT_URL" in hint]


def test_what_proves_the_factory_is_kept_for_its_owner_alone_and_shown_to_nobody(
    api: Api, state: Path, capsys: Told
) -> None:
    join_as(api, state, code_from(capsys))
    told = "".join(capsys.readouterr())
    membership = joined(StateFolder(state))

    assert (membership.factory_id, membership.hq_base_url) == ("desk-7", api.url)
    assert membership.factory_credential.startswith("fc_")
    assert membership.factory_credential not in told + repr(membership)
    assert membership.redis_url not in told + repr(membership)
    password = (state / "redis-password").read_text().strip()
    assert password
    assert password not in told + (state / "factory.json").read_text()
    assert password not in "".join(membership.environment({}).values())
    assert membership.environment({})["UA_REDIS_PASSWORD_FILE"] == str(state / "redis-password")
    for name in ("factory.json", "redis-password"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert "corporation factory up" in told


@pytest.mark.parametrize("way", ["variable", "standard input"])
def test_the_code_may_come_by_ways_that_nobody_else_can_read(
    api: Api, state: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    code = code_from(capsys)
    if way == "variable":
        monkeypatch.setenv(CODE_VARIABLE, code)
        join(api.url, None, "desk-7", as_json=True, state=state)
    else:
        monkeypatch.setattr("sys.stdin", StringIO(f"{code}\n"))
        join(api.url, "-", "desk-7", as_json=True, state=state)

    assert json.loads(capsys.readouterr().out)["factory_id"] == "desk-7"


def test_a_factory_without_a_name_gets_that_of_its_code_or_of_its_host_or_the_next_free_one(
    api: Api, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTNAME", "studio")
    for number, bound in enumerate((None, "desk-9", None)):
        join_as(api, tmp_path / str(number), code_from(capsys, factory_id=bound), None)

    names = [joined(StateFolder(tmp_path / str(number))).factory_id for number in range(3)]
    assert names == ["studio", "desk-9", "studio-2"]
    assert "join-code --factory-id studio" in capsys.readouterr().err


def test_joining_again_from_the_same_folder_takes_no_other_name(
    api: Api, state: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTNAME", "studio")
    join_as(api, state, code_from(capsys), "desk-7")
    before = joined(StateFolder(state))
    with pytest.raises(Refusal, match=r"already_enrolled.*join-code --factory-id desk-7"):
        join_as(api, state, code_from(capsys), None)

    assert joined(StateFolder(state)) == before
    join_as(api, state, code_from(capsys, factory_id="desk-7"), None)
    assert "a new credential" in capsys.readouterr().out
    assert joined(StateFolder(state)).factory_credential != before.factory_credential


@pytest.mark.parametrize(
    ("name", "code", "status", "words"),
    [
        ("desk-7", "NONE-SUCH", 77, "unknown, was used already, or its time is over"),
        (HQ_ID, None, 77, "headquarters itself"),
        ("desk-7", "bound elsewhere", 77, "made for another factory_id"),
        ("desk 7", None, 65, "does not take this name"),
    ],
)
def test_each_refusal_says_what_to_do_and_leaves_the_folder_as_it_was(
    api: Api, state: Path, capsys: Told, name: str, code: str | None, status: int, words: str
) -> None:
    api.ops.post(BEATS, json={"factory_id": "desk-7"})
    given = code_from(capsys, factory_id="desk-8") if code == "bound elsewhere" else code or code_from(capsys)
    with pytest.raises(Refusal) as refused:
        join_as(api, state, given, name)

    assert refused.value.exit_code == status
    assert words in str(refused.value)
    assert "join-code" in str(refused.value) or "--factory-id" in str(refused.value)
    assert given not in str(refused.value)
    assert not state.exists()


def test_a_folder_that_was_there_keeps_what_was_in_it_when_joining_fails(api: Api, state: Path, capsys: Told) -> None:
    (state / "logs").mkdir(parents=True)
    (state / "notes.txt").touch()
    with pytest.raises(Refusal):
        join_as(api, state, "NONE-SUCH")

    assert sorted(path.name for path in state.iterdir()) == ["logs", "notes.txt"]


@pytest.mark.parametrize("url", ["hq.example", "hq.example:8443", "localhost:8002"])
def test_an_address_without_its_scheme_is_told_so(state: Path, url: str) -> None:
    with pytest.raises(Refusal, match=r"no scheme.*https://"):
        join(url, "CODE", None, as_json=False, state=state)


@pytest.mark.parametrize("shape", ["whole", "hq", "standalone"])
def test_the_folder_of_a_stack_is_no_place_for_a_factory(state: Path, shape: str) -> None:
    """`factory down` there would end the headquarters."""
    folder = StateFolder(state)
    folder.prepare()
    folder.write_facts({"shape": shape})
    attempts: list[Callable[[], None]] = [
        lambda: join("https://hq.example", "CODE", None, as_json=False, state=state),
        lambda: up(detach=True, state=state),
        lambda: down(state=state),
    ]
    for attempt in attempts:
        with pytest.raises(Refusal, match=r"state folder of `corporation up`.*--state DIR") as refused:
            attempt()
        assert refused.value.exit_code == 78


def test_the_folder_of_a_factory_is_one(state: Path, capsys: Told) -> None:
    folder = StateFolder(state)
    folder.prepare()
    folder.write_facts({"shape": "worker"})
    down(state=state)

    assert "No factory runs" in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_of_somebody_else_is_told_so(state: Path) -> None:
    folder = StateFolder(state)
    folder.prepare()
    keep(folder, Membership("desk-7", "https://hq.example", "fc_own"))
    (state / "lock").touch()
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(state)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout.count("may not be read by this user") == 2, ended.stderr


AS_NOBODY = """
import os, sys
from pathlib import Path
from corporation.cli.membership import kept
from corporation.embedded.stack_state import StateFolder
from corporation.errors import CorporationError
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = StateFolder(Path(sys.argv[1]))
for look in (lambda: kept(folder), folder.is_held):
    try:
        look()
    except CorporationError as error:
        print(error)
"""


@pytest.mark.parametrize("url", ["nonsense", "ftp://hq", "https://u:p@hq.example", "https://hq.example/?token=x", ""])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(state: Path, url: str) -> None:
    with pytest.raises(Refusal) as refused:
        join(url, "CODE", None, as_json=False, state=state)

    assert refused.value.exit_code == 2
    assert not state.exists()


def test_a_code_is_not_sent_over_the_open_internet_in_clear(state: Path) -> None:
    with pytest.raises(SettingsError, match="unencrypted"):
        join("http://hq.example", "CODE", None, as_json=False, state=state)

    assert not state.exists()


def test_a_headquarters_that_is_not_there_leaves_the_code_as_it_was(state: Path) -> None:
    with pytest.raises(Refusal, match="the code is as good as before") as refused:
        join("http://127.0.0.1:1", "CODE", None, as_json=False, state=state)

    assert refused.value.exit_code == 69


def test_the_variables_of_a_headquarters_do_not_become_the_factorys() -> None:
    membership = Membership("desk-7", "https://hq.example", "fc_own", "redis://:x@10.8.0.1:6379/0", "gpu", 15)
    hqs = {
        "UA_OPS_TOKEN": "t",
        "UA_OPS_JWT_SECRET": "j",
        "DATABASE_URL": "postgresql://x",
        "UA_FACTORY_ID": "hq-east",
        "UA_REDIS_HOST": "other",
        "UA_BASE_URL": "https://other.example",
        "PATH": "/bin",
    }

    assert membership.environment(hqs) == {
        "PATH": "/bin",
        "UA_FACTORY_ID": "desk-7",
        "UA_HQ_BASE_URL": "https://hq.example",
        "UA_FACTORY_CREDENTIAL": "fc_own",
        "UA_REDIS_URL": "redis://:x@10.8.0.1:6379/0",
        "UA_FACTORY_QUEUE": "gpu",
        "UA_HEARTBEAT_INTERVAL_SECONDS": "15",
    }
    away = {"UA_DELEGATION_REDIS_ENABLED": "0", "UA_MISSION_SIGNING_KEY": "hqs", "UA_REDIS_ADMIN_URL": "redis://x"}
    assert membership.environment(away)["UA_DELEGATION_REDIS_ENABLED"] == "0"
    assert not {"UA_MISSION_SIGNING_KEY", "UA_REDIS_ADMIN_URL"} & membership.environment(away).keys()
    lone = Membership("desk-7", "https://hq.example", "fc_own")
    assert lone.environment({"UA_REDIS_URL": "redis://x"})["UA_DELEGATION_REDIS_ENABLED"] == "0"


def test_what_hq_told_of_its_broker_and_its_keys_is_read_back_and_the_password_lies_apart(state: Path) -> None:
    folder = StateFolder(state)
    folder.prepare()
    told = Membership("desk-7", "https://hq.example", "fc_own", "redis://f_desk-7:p%40w@10.8.0.1:6379/0")
    keep(folder, replace(told, mission_keys=("one", "two")))
    (state / "redis-password.new").touch()
    own = joined(folder).environment({})
    keep(folder, joined(folder))

    assert (own["UA_REDIS_URL"], own["UA_MISSION_KEYS"]) == ("redis://f_desk-7@10.8.0.1:6379/0", "one,two")
    assert Path(own["UA_REDIS_PASSWORD_FILE"]).read_text() == "p@w\n"
    assert joined(folder).environment({}) == own
    assert (state / "redis-password.new").exists(), "a rotation goes on"

    keep(folder, told)
    assert not (state / "redis-password.new").exists(), "the user is another one"
    keep(folder, replace(told, redis_url=""))
    assert not (state / "redis-password").exists()


def test_a_file_of_an_older_version_holds_the_password_in_its_address(state: Path) -> None:
    state.mkdir(mode=0o700)
    older = {"factory_id": "desk-7", "hq_base_url": "https://hq.example", "factory_credential": "fc_own"}
    place = state / "factory.json"
    place.write_text(json.dumps(older | {"redis_url": "redis://:x@10.8.0.1:6379/0"}))
    place.chmod(0o600)
    own = joined(StateFolder(state)).environment({})

    assert own["UA_REDIS_URL"] == "redis://:x@10.8.0.1:6379/0"
    assert "UA_REDIS_PASSWORD_FILE" not in own


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"factory_id": 7}', '{"factory_id": "a", "hq_base_url": null}'])
def test_a_spoilt_file_is_told_in_one_line(state: Path, text: str) -> None:
    state.mkdir(mode=0o700)
    (state / "factory.json").write_text(text)
    (state / "factory.json").chmod(0o600)
    with pytest.raises(Refusal, match="cannot be read; join again"):
        joined(StateFolder(state))


def test_a_file_that_others_can_read_is_not_used(state: Path) -> None:
    folder = StateFolder(state)
    folder.prepare()
    keep(folder, Membership("desk-7", "https://hq.example", "fc_own"))
    (state / "factory.json").chmod(0o644)
    with pytest.raises(Refusal, match="chmod 600"):
        joined(folder)


def test_where_nobody_joined_the_person_is_told_how(state: Path, capsys: Told) -> None:
    with pytest.raises(Refusal, match="corporation join-code"):
        joined(factory_folder(state))
    down(state=state)
    assert "No factory runs" in capsys.readouterr().out


def test_status_says_who_shut_the_factory_out(api: Api, state: Path, capsys: Told) -> None:
    join_as(api, state, code_from(capsys))
    folder, membership = StateFolder(state), joined(StateFolder(state))
    new = look(folder, membership, environment())
    quarantine("desk-7", note="odd", as_json=False, state=None)
    cut = look(folder, membership, environment())
    release("desk-7", note=None, as_json=False, state=None)
    back = look(folder, membership, environment())

    assert (new.at_hq, new.runs, new.is_online) == ("offline", False, False)
    assert any("never" in problem for problem in new.problems)
    assert any("in quarantine" in problem and "join-code --factory-id desk-7" in problem for problem in cut.problems)
    assert back.at_hq == "offline"


def test_the_operator_renames_and_removes_it_and_is_told_what_that_means(api: Api, state: Path, capsys: Told) -> None:
    join_as(api, state, code_from(capsys))
    rename("desk-7", "The desk", as_json=False, state=None)
    [row] = api.ops.get(BEATS).json()["registrations"]
    remove("desk-7", yes=True, as_json=False, state=None)
    told = capsys.readouterr().out

    assert row["display_name"] == "The desk"
    assert "desk-7 is shown as The desk" in told
    assert "join-code --factory-id desk-7" in told
    with pytest.raises(Refusal, match="knows no factory"):
        remove("desk-7", yes=True, as_json=False, state=None)
    assert any("does not accept" in one for one in look(StateFolder(state), joined(StateFolder(state)), {}).problems)


@pytest.mark.parametrize(
    ("broker", "way"), [("as told", "redis"), ("", "https"), ("redis://:x@127.0.0.1:1/0", "https")]
)
def test_a_machine_joins_runs_is_online_and_ends(
    api: Api, state: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch, broker: str, way: str, warm: WarmStarts
) -> None:
    """Also one that was told of no Redis, and one whose Redis is away when it starts."""
    join_as(api, state, code_from(capsys))
    monkeypatch.delenv("UA_OPS_TOKEN")
    if broker != "as told":
        keep(StateFolder(state), replace(joined(StateFolder(state)), redis_url=broker))

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return warm.run([*FACTORY, *arguments, "--state", str(state)], environment(), 120)

    started = run("up", "--detach", state=state)
    try:
        assert (started.returncode, started.stderr) == (0, ""), started.stderr
        assert "desk-7 is online" in started.stdout
        seen = ask("status", "--json")
        found = json.loads(seen.stdout)
        assert (seen.returncode, found["online"], found["transport"], found["problems"]) == (0, True, way, [])
        # Headquarters beats too, once a minute.
        rows = api.ops.get(BEATS).json()["registrations"]
        [row] = [one for one in rows if one["factory_id"] == "desk-7"]
        assert ("transport:http" in row["capabilities"]) is (way == "https")
        assert row["registration_status"] == "online"
        again = ask("up", "--detach")
        assert (again.returncode, "runs already" in again.stderr) == (75, True)
        assert f"`corporation factory down --state {state}`" in again.stderr
    finally:
        ended = ask("down")
    assert ended.returncode == 0
    assert f"has ended; `corporation factory up --state {state}`" in ended.stdout
    assert left_in(state) == []
    assert ask("status").returncode == 1


def test_while_a_factory_is_not_let_in_the_reason_is_told_once_a_minute(
    api: Api, state: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    join_as(api, state, code_from(capsys))
    monkeypatch.delenv("UA_OPS_TOKEN")
    api.sql("UPDATE corporation.factory_credentials SET revoked_at = now()")
    moments = iter([1.0, 1.0, 2.0, TELL_EVERY_SECONDS + 2.0])
    news = until_online(
        StateFolder(state), joined(StateFolder(state)), environment(), 0.0, moment=lambda: next(moments)
    )

    lines = [next(news), next(news), next(news)]
    assert lines[:2] == [[], []]
    assert "is not online yet" in lines[2][0]
    assert "does not accept this factory's credential" in lines[2][0]

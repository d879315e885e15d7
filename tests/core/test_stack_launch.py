"""What `corporation up` decides to start, before anything is started."""

import os
from pathlib import Path

import pytest
from canary import secret

from corporation.cli.launch import ONLY_HTTPS, launch_of, missing_for_a_worker, shape_for
from corporation.embedded.stack_shape import Shape
from corporation.errors import SettingsError

NO_FILE = {"UA_DOTENV_PATH": "/nonexistent/.env", "HOSTNAME": "desk"}
JOINED = {
    "UA_REDIS_URL": f"redis://:{secret('redis')}@127.0.0.1:6379/0",
    "UA_HQ_BASE_URL": "https://hq.example",
    "UA_RESULT_BACKEND_URL": f"postgresql://u:{secret('mailbox')}@127.0.0.1/corporation",
    "UA_FACTORY_CREDENTIAL": secret("credential"),
}


NEEDED = ("UA_FACTORY_CREDENTIAL", "UA_HQ_BASE_URL")
"""What no worker can do without; the rest makes it faster."""


@pytest.mark.parametrize(
    ("asked", "word", "shape"),
    [
        (None, "", Shape.WHOLE),
        (Shape.HQ, "", Shape.HQ),
        (Shape.WORKER, " ", Shape.WORKER),
        (None, "HEADQUARTERS", Shape.HQ),
        (None, "local_worker", Shape.WORKER),
        (None, "STANDALONE_NODE", Shape.STANDALONE),
        (None, "boss", Shape.WORKER),
        (Shape.HQ, " headquarters ", Shape.HQ),
        (Shape.WORKER, "boss", Shape.WORKER),
    ],
)
def test_the_option_and_the_environment_name_one_node(asked: Shape | None, word: str, shape: Shape) -> None:
    assert shape_for(asked, word) is shape


@pytest.mark.parametrize(
    ("asked", "word"), [(Shape.HQ, "LOCAL_WORKER"), (Shape.WORKER, "HEADQUARTERS"), (Shape.HQ, "boss")]
)
def test_an_option_that_contradicts_the_environment_is_refused(asked: Shape, word: str) -> None:
    with pytest.raises(SettingsError, match=f"--role {asked} contradicts FACTORY_ROLE"):
        shape_for(asked, word)


def test_a_dotenv_file_that_says_what_this_node_is_counts_as_well(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("FACTORY_ROLE=STANDALONE_NODE\n")
    environ = {"UA_DOTENV_PATH": str(file)}

    assert launch_of(None, environ).shape is Shape.STANDALONE
    with pytest.raises(SettingsError, match="contradicts"):
        launch_of(Shape.HQ, environ)


def test_all_that_a_worker_misses_is_named_at_once_and_where_to_get_it() -> None:
    with pytest.raises(SettingsError) as refused:
        launch_of(Shape.WORKER, NO_FILE)

    text = str(refused.value)
    assert all(name in text for name in NEEDED)
    assert "`corporation join-code`" in refused.value.problems[-1]
    assert "`corporation env`" in refused.value.problems[-1]


@pytest.mark.parametrize("name", NEEDED)
def test_each_thing_that_a_worker_misses_is_named_alone(name: str) -> None:
    given = {other: value for other, value in JOINED.items() if other != name}
    problems = missing_for_a_worker(given)

    assert len(problems) == 2
    assert problems[0].startswith(name)


@pytest.mark.parametrize(
    ("left", "instead"),
    [
        ("UA_HQ_BASE_URL", {"UA_GATEWAY_URL": "https://hq.example"}),
        ("UA_FACTORY_CREDENTIAL", {"UA_OPS_TOKEN": secret("ops")}),
    ],
)
def test_a_worker_may_be_given_the_same_in_other_words(left: str, instead: dict[str, str]) -> None:
    given = {name: value for name, value in JOINED.items() if name != left} | instead

    assert missing_for_a_worker(given) == []


def test_without_a_role_an_hq_and_a_factory_start_and_a_first_mission_can_run() -> None:
    launch = launch_of(None, NO_FILE)

    assert launch.processes == ("api", "engine", "hq-worker", "flower", "factory-worker", "pull", "control", "beat")
    assert launch.runs_first_mission


@pytest.mark.parametrize(
    "override", [{"UA_CAPABILITY_DELEGATION_MODE": "listen_only"}, {"UA_CAPABILITY_GATEWAY_MODE": "health_only"}]
)
def test_where_nothing_can_be_published_there_is_no_first_mission(override: dict[str, str]) -> None:
    assert not launch_of(None, NO_FILE | override).runs_first_mission


@pytest.mark.parametrize(
    ("shape", "environ", "processes"),
    [
        (Shape.HQ, {}, ("api", "engine", "hq-worker", "control", "beat", "flower")),
        (Shape.WORKER, JOINED, ("api", "factory-worker", "pull", "control", "beat")),
        (Shape.STANDALONE, {}, ("api", "control", "beat", "flower")),
    ],
)
def test_one_node_starts_what_its_role_lets_run(
    shape: Shape, environ: dict[str, str], processes: tuple[str, ...]
) -> None:
    launch = launch_of(shape, NO_FILE | environ)

    assert launch.processes == processes
    assert not launch.runs_first_mission


def test_a_worker_that_was_told_of_no_redis_asks_hq_and_says_so() -> None:
    given = NO_FILE | {name: value for name, value in JOINED.items() if name in NEEDED}
    launch = launch_of(Shape.WORKER, given)

    assert launch.processes == ("api", "pull")
    assert not launch.settings.redis_delegation_enabled
    assert f"Note: {ONLY_HTTPS}" in launch.lines()


def test_a_worker_may_leave_the_redis_alone_that_it_was_told_of() -> None:
    launch = launch_of(Shape.WORKER, NO_FILE | JOINED | {"UA_DELEGATION_REDIS_ENABLED": "0"})

    assert launch.processes == ("api", "pull")


def test_what_is_asked_for_and_not_granted_is_told() -> None:
    """E-7"""
    given = {**JOINED, "UA_CAPABILITY_TELEGRAM_POLL": "1", "UA_DATABASE_URL": "postgresql://u:p@127.0.0.1/x"}
    lines = "\n".join(launch_of(Shape.WORKER, NO_FILE | given).lines())

    assert "ALARM: UA_DATABASE_URL is ignored" in lines
    assert "ALARM: UA_CAPABILITY_TELEGRAM_POLL is ignored" in lines


def test_a_profile_that_is_none_is_an_alarm_before_everything_else() -> None:
    launch = launch_of(None, NO_FILE | {"UA_DEPLOYMENT_PROFILE": "vpss", "UA_OPS_TOKENS": "x"})
    first, *rest = launch.lines()

    assert first.startswith("ALARM: UA_DEPLOYMENT_PROFILE names no profile, so it is local_workstation")
    assert "Note: UA_OPS_TOKENS is not a variable" in rest[-1]


def test_a_word_that_is_no_role_is_told_before_what_the_worker_it_made_misses() -> None:
    """D18"""
    with pytest.raises(SettingsError) as refused:
        launch_of(None, NO_FILE | {"FACTORY_ROLE": "JUNK"})
    with pytest.raises(SettingsError, match="which names no role and so makes this node a LOCAL_WORKER"):
        launch_of(Shape.HQ, NO_FILE | {"FACTORY_ROLE": "JUNK"})

    assert refused.value.problems[0].startswith("FACTORY_ROLE names no role, so this node is a LOCAL_WORKER")
    assert "UA_HQ_BASE_URL" in refused.value.problems[1]


@pytest.mark.parametrize(
    ("text", "count"), [("UA_FACTORY_SLOTS=3\n", "1 variable comes"), ("A=1\nB=2", "2 variables come")]
)
def test_values_of_a_dotenv_file_are_told_with_the_file(tmp_path: Path, text: str, count: str) -> None:
    file = tmp_path / "own.env"
    file.write_text(text)
    lines = launch_of(None, {"UA_DOTENV_PATH": str(file)}).lines()

    assert lines[-1] == f"Note: {count} from {file}; no vault was asked"


def test_the_null_device_as_dotenv_file_is_not_spoken_of() -> None:
    assert not any("Note" in line for line in launch_of(None, {"UA_DOTENV_PATH": os.devnull}).lines())


@pytest.mark.parametrize("text", ["", None])
def test_a_dotenv_file_that_gives_nothing_is_not_spoken_of(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "own.env"
    if text is not None:
        file.write_text(text)

    assert not any(str(file) in line for line in launch_of(None, {"UA_DOTENV_PATH": str(file)}).lines())


def test_a_dotenv_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    lines = launch_of(None, {"UA_DOTENV_PATH": str(tmp_path), "UA_INFISICAL_ENABLED": "0"}).lines()

    assert lines[-1] == f"Note: {tmp_path} was not read whole (OSError); correct it, or remove it"


def test_a_launch_shows_no_secret() -> None:
    given = NO_FILE | JOINED | {"ANTHROPIC_API_KEY": secret("anthropic"), "UA_OPS_TOKEN": secret("ops")}
    launch = launch_of(Shape.WORKER, given)

    assert "canary7f3a9d1e" not in repr(launch) + "".join(launch.lines())


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"UA_CAPABILITY_GATEWAY_MODE": "open"}, "UA_CAPABILITY_GATEWAY_MODE"),
        ({"LLM_PROVIDER_OVERRIDE": "ANTHROPIC"}, "ANTHROPIC_API_KEY"),
        ({"UA_DEPLOYMENT_PROFILE": "vps"}, "INFISICAL_CLIENT_ID"),
    ],
)
def test_what_no_process_could_start_with_is_refused_before_any_does(environ: dict[str, str], name: str) -> None:
    """E-3, E-9, E-12: the launcher fails closed, so that its children need not."""
    with pytest.raises(SettingsError, match=name):
        launch_of(None, NO_FILE | environ)

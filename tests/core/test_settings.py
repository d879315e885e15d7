"""The environment is read whole: every problem is reported at once, and no secret is ever repeated."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.errors import SettingsError
from corporation.oddities import warnings_about
from corporation.roles import FactoryRole
from corporation.settings import (
    KNOWN_NAMES,
    Settings,
    load_settings,
    names_of,
    nearest_name,
)
from corporation.shown_address import shown
from corporation.variables import read_flag

SECRET = "s3cret-Pa55-that-nobody-may-see"


def problems(environ: dict[str, str], *required: str) -> dict[str, str]:
    """What is wrong with `environ`, by variable."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, *required)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return {problem.split(":")[0].split()[0]: problem for problem in caught.value.problems}


def test_an_empty_environment_is_a_headquarters_on_loopback() -> None:
    settings = load_settings({})

    assert settings.role is FactoryRole.HEADQUARTERS
    assert (settings.gateway_host, settings.redis_url) == ("127.0.0.1", "redis://127.0.0.1:6379/0")


def test_every_wrong_variable_is_reported_at_once() -> None:
    environ = {
        "UA_REDIS_PORT": "many",
        "UA_FACTORY_SLOTS": "0",
        "UA_HEARTBEAT_INTERVAL_SECONDS": "5s",
        "UA_MISSION_RETRY_JITTER": "2",
        "UA_OPS_JWT_SECRET": "short",
        "UA_REDIS_URL": f"http://:{SECRET}@h/0",
        "UA_DATABASE_URL": f"mysql://u:{SECRET}@h/d",
        "UA_RESULT_BACKEND_URL": "sqlite:///x",
        "UA_HQ_BASE_URL": "ftp://h",
        "UA_FACTORY_STALE_SECONDS": "900",
    }

    assert set(problems(environ, "UA_OPS_TOKEN")) == (set(environ) - {"UA_FACTORY_STALE_SECONDS"}) | {
        "UA_FACTORY_OFFLINE_SECONDS",
        "UA_OPS_TOKEN",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UA_REDIS_PORT", "0"),
        ("UA_REDIS_PORT", "70000"),
        ("UA_REDIS_PORT", "6379.5"),
        ("UA_REDIS_DB", "-1"),
        ("UA_GATEWAY_PORT", "8002x"),
        ("UA_HEARTBEAT_INTERVAL_SECONDS", "often"),
        ("UA_FACTORY_REGISTRATION_INTERVAL_SECONDS", "soon"),
        ("UA_FACTORY_SLOTS", "-1"),
        ("UA_SQLITE_BUSY_TIMEOUT_MS", "0.5 s"),
        ("UA_DELEGATION_RECLAIM_IDLE_SECONDS", "nan"),
        ("UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS", "1h"),
        ("UA_ATTEMPT_LEASE_SECONDS", "0"),
        ("UA_ATTEMPT_LEASE_SECONDS", "1" + "0" * 18),
        ("UA_MISSION_DEFAULT_TTL_SECONDS", "-1"),
        ("UA_MISSION_DEFAULT_TTL_SECONDS", "1" + "0" * 18),
        ("UA_MISSION_RETRY_BASE_SECONDS", "-1"),
        ("UA_MISSION_RETRY_BASE_SECONDS", "nan"),
        ("UA_MISSION_RETRY_CAP_SECONDS", "inf"),
        ("UA_MISSION_RETRY_JITTER", "1.1"),
        ("UA_OPS_JWT_SECRET", "31-bytes-are-one-too-few-for-it"),
        ("UA_HQ_BASE_URL", "hq.example"),
        ("UA_HQ_BASE_URL", "http://[::1"),
        ("UA_HQ_BASE_URL", "http://hq:99999"),
    ],
)
def test_a_wrong_value_is_reported_under_the_name_it_was_given(name: str, value: str) -> None:
    found = problems({name: value})

    assert list(found) == [name]


@pytest.mark.parametrize("name", ["UA_REDIS_URL", "UA_DATABASE_URL", "UA_RESULT_BACKEND_URL"])
@pytest.mark.parametrize(
    "address", [f"gopher://u:{SECRET}@h/0", f"redis://:{SECRET}[@h/0", f"redis://:{SECRET}℀@h/0", f"{SECRET}", "//h"]
)
def test_a_wrong_address_is_reported_without_any_of_it(name: str, address: str) -> None:
    assert list(problems({name: address})) == [name]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"UA_HEARTBEAT_INTERVAL_SECONDS": "100"}, "UA_ATTEMPT_LEASE_SECONDS"),
        ({"UA_ATTEMPT_LEASE_SECONDS": "119"}, "UA_ATTEMPT_LEASE_SECONDS"),
        ({"UA_FACTORY_STALE_SECONDS": "900"}, "UA_FACTORY_OFFLINE_SECONDS"),
        ({"UA_FACTORY_OFFLINE_SECONDS": "300"}, "UA_FACTORY_OFFLINE_SECONDS"),
    ],
)
def test_values_that_do_not_go_together_are_reported(environ: dict[str, str], name: str) -> None:
    assert list(problems(environ)) == [name]


@pytest.mark.parametrize("name", ["UA_HEARTBEAT_INTERVAL_SECONDS", "UA_FACTORY_REGISTRATION_INTERVAL_SECONDS"])
def test_a_value_that_is_wrong_in_itself_is_not_also_compared_with_others(name: str) -> None:
    assert list(problems({name: "x", "UA_ATTEMPT_LEASE_SECONDS": "30"})) == [name]


def test_a_missing_variable_is_reported_with_what_to_do() -> None:
    assert "`corporation env`" in problems({}, "UA_OPS_TOKEN")["UA_OPS_TOKEN"]


def test_a_missing_variable_that_was_set_under_a_slip_of_its_name_is_recognised() -> None:
    found = problems({"UA_DATABSE_URL": f"postgresql://u:{SECRET}@h/d"}, "UA_DATABASE_URL")

    assert "did you mean UA_DATABASE_URL" in found["UA_DATABASE_URL"]


def test_a_required_variable_may_be_given_under_any_of_its_names() -> None:
    assert load_settings({"DATABASE_URL": "postgresql://h/d"}, "UA_DATABASE_URL").database_url


@pytest.mark.parametrize("value", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_unset(value: str) -> None:
    assert load_settings({"UA_REDIS_PORT": value, "UA_FACTORY_ID": value}).redis_port == 6379


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("UA_REDS_URL", "UA_REDIS_URL"),
        ("UA_HEARTBEAT_INTERVAL_SECOND", "UA_HEARTBEAT_INTERVAL_SECONDS"),
        ("UA_OPS_TOKN", "UA_OPS_TOKEN"),
        ("UA_SOMETHING_ELSE_ENTIRELY", None),
        ("PATH", None),
    ],
)
def test_a_slip_finds_the_name_that_was_meant(slip: str, meant: str | None) -> None:
    assert nearest_name(slip) == meant


def test_what_is_odd_but_not_wrong_is_told() -> None:
    environ = {"UA_REDS_URL": SECRET, "UA_OPS_AUTH_ALLOW_LEGACY": "maybe", "UA_OPS_TOKEN": SECRET}
    environ |= {"UA_CAPABILITY_START_UI": "perhaps", "UA_DISABLE_CODER_VP": "1", "UA_SIGNALS_DEDUPE_DAYS": "90"}
    notes = warnings_about(environ)

    assert [note.split()[0] for note in notes] == [
        "UA_REDS_URL",
        "UA_CAPABILITY_START_UI",
        "UA_OPS_AUTH_ALLOW_LEGACY",
        "UA_DISABLE_CODER_VP",
        "UA_OPS_TOKEN",
    ]
    assert SECRET not in "".join(notes)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET and INFISICAL_PROJECT_ID are missing"),
        ("INFISICAL_CLIENT_ID INFISICAL_PROJECT_ID", "INFISICAL_CLIENT_SECRET is missing"),
    ],
)
def test_half_a_vault_is_odd_and_what_is_missing_is_named(given: str, missing: str) -> None:
    environ = dict.fromkeys(given.split(), SECRET)
    [note] = warnings_about(environ)

    assert note.startswith(given.split()[0])
    assert f"but {missing}, so no vault is asked" in note
    assert SECRET not in note
    assert warnings_about(environ | {"UA_INFISICAL_ENABLED": "0"}) == []


FLOORS = [
    ("UA_HEARTBEAT_INTERVAL_SECONDS", 10, "heartbeat_interval_seconds"),
    ("UA_FACTORY_REGISTRATION_INTERVAL_SECONDS", 10, "heartbeat_interval_seconds"),
    ("UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS", 60, "bootstrap_claim_ttl_seconds"),
    ("UA_SQLITE_BUSY_TIMEOUT_MS", 250, "sqlite_busy_timeout_ms"),
    ("UA_DELEGATION_RECLAIM_IDLE_SECONDS", 1, "reclaim_idle_seconds"),
]


@pytest.mark.parametrize(("name", "least", "field"), FLOORS)
def test_what_is_below_its_floor_is_lifted_and_told(name: str, least: int, field: str) -> None:
    """env §5, §7, §9"""
    for below in (str(least - 1), "0", "-7"):
        assert getattr(load_settings({name: below}), field) == least
        assert warnings_about({name: below}) == [f"{name} is less than {least}, its floor; {least} is used"]
    for enough in (least, least + 1):
        assert getattr(load_settings({name: str(enough)}), field) == enough
        assert warnings_about({name: str(enough)}) == []


def test_only_the_name_that_won_is_told_to_be_below_its_floor() -> None:
    both = {"UA_HEARTBEAT_INTERVAL_SECONDS": "60", "UA_FACTORY_REGISTRATION_INTERVAL_SECONDS": "5"}

    assert load_settings(both).heartbeat_interval_seconds == 60
    assert warnings_about(both) == []


def test_a_good_environment_has_nothing_odd() -> None:
    assert warnings_about({"UA_OPS_AUTH_ALLOW_LEGACY": "No", "FACTORY_ROLE": "local_worker", "HOME": "/root"}) == []


@pytest.mark.parametrize(
    ("word", "flag"),
    [("1", True), ("TRUE", True), (" yes ", True), ("on", True), ("0", False), ("False", False), ("off", False)],
)
def test_a_flag_is_read_whatever_its_case(word: str, flag: bool) -> None:
    assert read_flag(word, not flag) is flag


@pytest.mark.parametrize("word", [None, "", "2", "ja", "enabled"])
@pytest.mark.parametrize("default", [True, False])
def test_any_other_word_leaves_a_flag_at_its_default(word: str | None, default: bool) -> None:
    assert read_flag(word, default) is default


@pytest.mark.parametrize(
    ("word", "role"),
    [
        (None, FactoryRole.HEADQUARTERS),
        ("headquarters", FactoryRole.HEADQUARTERS),
        (" local_worker ", FactoryRole.LOCAL_WORKER),
        ("STANDALONE_NODE", FactoryRole.STANDALONE_NODE),
        ("boss", FactoryRole.LOCAL_WORKER),
    ],
)
def test_a_role_that_is_no_role_is_the_least_powerful_one(word: str | None, role: FactoryRole) -> None:
    assert load_settings({"FACTORY_ROLE": word} if word else {}).role is role


def test_the_first_of_several_names_wins() -> None:
    environ = {
        "UA_MACHINE_SLUG": "second",
        "UA_FACTORY_ID": "first",
        "UA_GATEWAY_URL": "http://b",
        "UA_BASE_URL": "http://a",
    }
    settings = load_settings(environ)

    assert (settings.factory_id, settings.hq_base_url) == ("first", "http://a")


def test_a_node_nobody_named_is_called_after_its_host() -> None:
    assert load_settings({"HOSTNAME": "desk 7!"}).factory_id == "desk-7-hq"
    assert load_settings({"HOSTNAME": "desk-7", "FACTORY_ROLE": "LOCAL_WORKER"}).factory_id == "desk-7"


def test_a_local_worker_does_not_even_know_the_ledgers_address() -> None:
    settings = load_settings({"FACTORY_ROLE": "LOCAL_WORKER", "UA_DATABASE_URL": "postgresql://h/d"})

    assert (settings.database_url, settings.mailbox_url) == (None, None)


def test_a_redis_password_may_hold_any_character() -> None:
    settings = load_settings({"REDIS_PASSWORD": "p@ss/w:rd[", "UA_REDIS_HOST": "redis.example"})

    assert settings.redis_url == "redis://:p%40ss%2Fw%3Ard%5B@redis.example:6379/0"


SECRETS = {
    "UA_REDIS_URL": f"redis://:{SECRET}@h:6379/0",
    "REDIS_PASSWORD": SECRET,
    "UA_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
    "UA_RESULT_BACKEND_URL": f"postgresql://u:{SECRET}@h/d",
    "UA_OPS_TOKEN": SECRET,
    "UA_OPS_JWT_SECRET": f"{SECRET}-{SECRET}",
}


def test_no_secret_is_in_what_settings_look_like() -> None:
    settings = load_settings(SECRETS)
    used = (settings.redis_url, settings.database_url, settings.mailbox_url)  # the values that are computed are kept

    assert all(SECRET in (value or "") for value in used)
    assert SECRET not in repr(settings) + str(settings) + f"{settings.model_dump()}" + settings.model_dump_json()


@given(st.dictionaries(st.sampled_from(sorted(KNOWN_NAMES)), st.just(SECRET) | st.text(max_size=5), max_size=6))
def test_no_environment_makes_the_settings_repeat_a_secret_or_raise_anything_else(environ: dict[str, str]) -> None:
    said = ""
    try:
        load_settings(environ, "UA_OPS_TOKEN")
    except SettingsError as error:
        said = f"{error} {error!r} {error.problems} {error.__cause__} {error.__context__}"

    assert SECRET not in said


def test_settings_cannot_be_changed() -> None:
    settings = load_settings({})

    with pytest.raises(ValueError, match="frozen"):
        settings.redis_port = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_reading_the_same_environment_twice_gives_equal_settings() -> None:
    one, other = load_settings(SECRETS), load_settings(SECRETS)
    _ = one.redis_url

    assert one == other


def test_every_setting_has_a_name_in_the_environment_and_no_name_fills_two() -> None:
    names = [name for field in Settings.model_fields for name in names_of(field)]

    assert all(names_of(field) for field in Settings.model_fields)
    assert len(names) == len(set(names)) == len(KNOWN_NAMES)


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql://u:p%40w@h/d?x=1", "postgresql://u:***@h/d?x=1"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, seen: str) -> None:
    assert shown(address) == seen


def test_paths_are_read_as_paths() -> None:
    assert load_settings({"UA_VP_DB_PATH": "/var/lib/x.db"}).spool_path == Path("/var/lib/x.db")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"UA_REDIS_PORT": "abc"}, "UA_REDIS_PORT"),
        ({"UA_REDIS_PORT": "0"}, "UA_REDIS_PORT"),
        ({"UA_REDIS_PORT": "70000"}, "UA_REDIS_PORT"),
        ({"REDIS_PASSWORD": ""}, "REDIS_PASSWORD"),
        ({"REDIS_PASSWORD": "  ", "UA_REDIS_HOST": "10.8.0.1"}, "REDIS_PASSWORD"),
        ({"UA_REDIS_URL": f"rediss://:{SECRET}@10.8.0.1/0"}, "UA_REDIS_URL"),
        ({"UA_REDIS_URL": f"rediss://:{SECRET}@10.8.0.1/0?ssl_cert_reqs=none&ssl_ca_certs=/ca"}, "UA_REDIS_URL"),
        ({"UA_REDIS_URL": f"rediss://:{SECRET}@10.8.0.1/0?ssl_cert_reqs=required"}, "UA_REDIS_URL"),
        ({"UA_REDIS_URL": f"redis://:{SECRET}@8.8.8.8/0"}, "UA_REDIS_URL"),
        ({"UA_REDIS_HOST": "2001:4860:4860::8888"}, "UA_REDIS_URL"),
        ({"UA_REDIS_HOST": "8.8.8.8", "REDIS_PASSWORD": SECRET}, "UA_REDIS_URL"),
        ({"UA_DELEGATION_STREAM_NAME": "two words"}, "UA_DELEGATION_STREAM_NAME"),
        ({"UA_DELEGATION_STREAM_NAME": "ua:*"}, "UA_DELEGATION_STREAM_NAME"),
        ({"UA_DELEGATION_CONSUMER_GROUP": "a[b]"}, "UA_DELEGATION_CONSUMER_GROUP"),
        ({"UA_DELEGATION_STREAM_MAXLEN": "-1"}, "UA_DELEGATION_STREAM_MAXLEN"),
        ({"UA_BRIDGE_POLL_SECONDS": "0"}, "UA_BRIDGE_POLL_SECONDS"),
        ({"UA_DELEGATION_DLQ_STREAM": "ua:missions:delegation"}, "UA_DELEGATION_DLQ_STREAM"),
        ({"UA_DELEGATION_DLQ_STREAM": "ua:missions:delegation:results"}, "UA_DELEGATION_DLQ_STREAM"),
        ({"UA_OPS_JWT_SECRET": "x" * 31}, "UA_OPS_JWT_SECRET"),
        ({"UA_OPS_JWT_SECRET": "x" * 64}, "UA_OPS_JWT_SECRET"),
        ({"UA_OPS_JWT_SECRET": "please-change-me-before-production-1234567"}, "UA_OPS_JWT_SECRET"),
        ({"UA_OPS_JWT_SECRET": "<from Infisical, thirty-two bytes at least>"}, "UA_OPS_JWT_SECRET"),
        ({"UA_CORS_ALLOWED_ORIGINS": "https://a.example, *"}, "UA_CORS_ALLOWED_ORIGINS"),
        ({"UA_CORS_ALLOWED_ORIGINS": "https://a.example/path"}, "UA_CORS_ALLOWED_ORIGINS"),
        ({"UA_GATEWAY_TRUSTED_PROXIES": "*"}, "UA_GATEWAY_TRUSTED_PROXIES"),
        ({"TELEGRAM_ALLOWED_USER_IDS": "me"}, "TELEGRAM_ALLOWED_USER_IDS"),
        ({"UA_RUNTIME_STAGE": "prod"}, "UA_RUNTIME_STAGE"),
        ({"UA_HQ_BASE_URL": "http://hq.example"}, "UA_HQ_BASE_URL"),
        ({"UA_BASE_URL": "http://93.184.216.34:8002"}, "UA_HQ_BASE_URL"),
        ({"UA_DATABASE_URL": f"postgresql://u:{SECRET}%zz@h/d"}, "UA_DATABASE_URL"),
        ({"UA_DATABASE_URL": f"postgresql://u:{SECRET} x@h/d"}, "UA_DATABASE_URL"),
        ({"UA_DATABASE_URL": f"postgresql://u:{SECRET}@x@h/d"}, "UA_DATABASE_URL"),
        ({"UA_DATABASE_URL": f"postgresql://u:12/{SECRET}@h/d"}, "UA_DATABASE_URL"),
        ({"UA_REDIS_URL": f"redis://:12/{SECRET}@h:6379/0"}, "UA_REDIS_URL"),
        ({"UA_ATTEMPT_LEASE_SECONDS": "100"}, "UA_ATTEMPT_LEASE_SECONDS"),
    ],
)
def test_what_is_unsafe_or_senseless_refuses_the_start(environ: dict[str, str], named: str) -> None:
    """E-3 and the list of bad input (E3, E5, E7, E8, E11, E15); 0010 says why a short secret is no warning."""
    assert set(problems(environ)) == {named}


@pytest.mark.parametrize(
    "environ",
    [
        {"UA_REDIS_URL": "redis://10.8.0.1/0"},
        {"UA_REDIS_URL": "redis://redis:6379/0"},
        {"UA_REDIS_URL": "redis://8.8.8.8/0", "UA_REDIS_ALLOW_PLAINTEXT": "1"},
        {"UA_REDIS_URL": "rediss://8.8.8.8/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/etc/ca.pem"},
        {"REDIS_PASSWORD": "", "UA_DELEGATION_REDIS_ENABLED": "0"},
        {"REDIS_PASSWORD": "", "UA_REDIS_URL": "redis://10.8.0.1/0"},
        {"UA_CORS_ALLOWED_ORIGINS": " https://a.example , http://localhost:3000"},
        {"UA_GATEWAY_TRUSTED_PROXIES": "127.0.0.1, 10.8.0.0/24"},
        {"UA_DELEGATION_REDIS_ENABLED": "yes please"},
        {"FACTORY_ROLE": "headquarters "},
        {"UA_HQ_BASE_URL": "http://10.8.0.1:8002"},
        {"UA_HQ_BASE_URL": "http://hq:8002"},
        {"UA_HQ_BASE_URL": "http://[fd00::1]:8002"},
        {"UA_HQ_BASE_URL": "http://hq.example", "UA_HQ_ALLOW_PLAINTEXT": "1"},
        {"UA_DATABASE_URL": "postgresql://u:p%40ss%20word@h/d"},
    ],
)
def test_what_the_contract_allows_is_accepted(environ: dict[str, str]) -> None:
    """E-2, E-3: the lax half of the list of bad input (E1, E2, E4, E8)."""
    load_settings(environ)


def test_blanks_around_what_travels_in_a_header_or_names_a_node_mean_nothing() -> None:
    """A newline after a token, as files have it, would never be right; HQ would know the node by another name."""
    settings = load_settings({"UA_OPS_TOKEN": f" {SECRET}\n", "UA_FACTORY_ID": " desk-7 ", "UA_FACTORY_QUEUE": "q\n"})

    assert settings.ops_token is not None
    assert settings.ops_token.get_secret_value() == SECRET
    assert (settings.factory_id, settings.mission_queue) == ("desk-7", "q")


def test_junk_in_a_flag_of_the_secrets_is_warned_about() -> None:
    """E-2: a slip in UA_INFISICAL_STRICT must not pass in silence."""
    assert [note.split()[0] for note in warnings_about({"UA_INFISICAL_STRICT": "ture"})] == ["UA_INFISICAL_STRICT"]

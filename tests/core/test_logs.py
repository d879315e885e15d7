"""What is logged holds no secret, however deep it was put and whatever it was wrapped in."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from corporation.logs import configure_logs
from corporation.masking import MASK, SHORTEST_IN_REPORTS, Mask, secrets_of
from corporation.settings import Settings, load_settings

REDIS, LEDGER, TOKEN, SIGNING = "redis-pw-1", "ledger-pw-22", "ops-token-333", "signing-secret-of-more-than-32-bytes"


def settings() -> Settings:
    return load_settings(
        {
            "UA_REDIS_URL": f"redis://:{REDIS}@h:6379/0",
            "UA_DATABASE_URL": f"postgresql://u:{LEDGER}@h/d",
            "UA_OPS_TOKEN": TOKEN,
            "UA_OPS_JWT_SECRET": SIGNING,
        }
    )


def logger() -> Any:
    """A logger as a process has it; called inside a test, since pytest changes standard error after the fixtures."""
    configure_logs(Mask(secrets_of(settings())))
    return structlog.get_logger()


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_every_secret_of_the_settings_is_known_also_the_passwords_inside_addresses() -> None:
    assert secrets_of(settings()) == sorted([REDIS, LEDGER, TOKEN, SIGNING], key=len, reverse=True)


def test_a_full_disk_of_logs_ends_nobody_and_what_comes_after_it_is_logged_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as context:  # noqa: PTH123
        context.setattr("sys.stderr", full)
        logger().error("lost")
        with suppress(OSError):
            full.close()
    with (tmp_path / "log").open("w") as file, monkeypatch.context() as context:
        context.setattr("sys.stderr", file)
        logger().error("kept")
    assert "kept" in (tmp_path / "log").read_text()


def test_a_secret_too_short_to_be_told_from_a_word_is_not_masked() -> None:
    assert secrets_of(load_settings({"UA_OPS_TOKEN": "abc"})) == []


@pytest.mark.parametrize("secret", [REDIS, LEDGER, TOKEN, SIGNING])
def test_no_secret_is_written(capsys: pytest.CaptureFixture[str], secret: str) -> None:
    logger().warning(f"failed {secret}", text=f"a{secret}b", deep={"list": [secret, (secret,)]}, number=7)

    assert secret not in (written := capsys.readouterr().err)
    assert written.count(MASK) == 4


def test_a_secret_in_a_traceback_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError(f"cannot connect with {TOKEN}")
    except ValueError:
        logger().exception("failed")

    assert TOKEN not in (written := capsys.readouterr().err)
    assert "ValueError" in written


def test_a_secret_bound_to_the_context_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.contextvars.bind_contextvars(caller=TOKEN)
    logger().info("hello")

    assert TOKEN not in capsys.readouterr().err


def test_an_event_is_one_line_of_json_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    logger().warning("factory_said", text="\x1b[31mred\nsecond line\r\0")
    written = capsys.readouterr().err

    assert json.loads(written)["text"] == "\x1b[31mred\nsecond line\r\0"
    assert "\x1b" not in written
    assert written.count("\n") == 1


def test_configuring_twice_writes_each_event_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Mask(secrets_of(settings())))
    logger().info("hello")

    assert len(capsys.readouterr().err.splitlines()) == 1


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just(TOKEN) | st.just(f"x{TOKEN}y"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_masking_reaches_every_depth_and_changes_nothing_else(value: Any) -> None:
    assert Mask([TOKEN])(value) == json.loads(json.dumps(value).replace(TOKEN, MASK))


@pytest.mark.parametrize("wrapped", [ValueError(TOKEN), TOKEN.encode(), {TOKEN: 1}, {TOKEN}, [ValueError(f"x{TOKEN}")]])
def test_a_secret_inside_an_exception_bytes_or_a_key_is_masked_too(wrapped: Any) -> None:
    masked = Mask(secrets_of(settings()))(wrapped)

    assert TOKEN not in repr(masked)
    assert MASK in repr(masked)


@pytest.mark.parametrize(
    "text",
    [
        "Invalid header value b'Bearer sk-with-a-newline\\n'",
        "Bearer sk-with-a-newline",
        "sk-with-a-newline\n",
        "http://user:sk-with-a-newline%0A@h/",
    ],
)
def test_a_secret_that_ends_in_a_newline_is_masked_however_it_is_written(text: str) -> None:
    assert "sk-with" not in Mask(["sk-with-a-newline\n"]).text(text)


def test_a_report_keeps_the_words_that_a_short_password_is_made_of() -> None:
    mask = Mask(["postgres", TOKEN], SHORTEST_IN_REPORTS)

    assert mask({"said": f"postgres took {TOKEN}"}) == {"said": f"postgres took {MASK}"}
    assert TOKEN not in repr(mask)


def test_a_password_is_masked_as_it_stands_in_the_address_and_as_it_is_meant() -> None:
    encoded = load_settings({"UA_REDIS_URL": "redis://:p%40ss-word@h:6379/0"})

    assert {"p%40ss-word", "p@ss-word"} <= set(secrets_of(encoded))

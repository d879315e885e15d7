"""`python -m hq_api.telegram` as a process, with a Bot API of our own over real HTTP and a real PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from canary import secret, shows
from fake_telegram import HANG_UP, FakeTelegram
from telegram.error import NetworkError, RetryAfter
from warm_starts import Started, WarmStarts

from hq_api.telegram_polling import pause_after

OWNER = 77
PARTNER = 78
STRANGER = 666
TOKEN = f"123456:{secret('telegram')}"
COMMAND = ["-m", "hq_api.telegram"]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
SAID_BY_STRANGERS = "hidden-from-the-logs"


def environment(**ours: str) -> dict[str, str]:
    """A headquarters for two people, with nothing of the machine's own configuration."""
    return {
        "PATH": os.environ["PATH"],
        "UA_INFISICAL_ENABLED": "0",
        "UA_INFISICAL_ALLOW_DOTENV_FALLBACK": "0",
        "UA_FACTORY_ID": "desk-hq",
        "TELEGRAM_BOT_TOKEN": TOKEN,
        "TELEGRAM_ALLOWED_USER_IDS": f"{OWNER},{PARTNER}",
        **ours,
    }


class Polling:
    """One bot process, what it logged, and its Telegram; without `warm` it is a fresh Python."""

    def __init__(
        self,
        telegram: FakeTelegram,
        folder: Path,
        wait_until: Callable[..., Any],
        warm: WarmStarts | None = None,
        **ours: str,
    ) -> None:
        self.telegram = telegram
        self.ready_file = folder / "ready"
        self.log = folder / "telegram.log"
        self._wait_until = wait_until
        own = {"UA_TELEGRAM_API_URL": telegram.url, "UA_READY_FILE": str(self.ready_file)}
        environ = environment(**own | ours)
        with self.log.open("ab") as log:
            self.process: Started | subprocess.Popen[bytes] = (
                warm.popen(COMMAND, environ, log, log)
                if warm
                else subprocess.Popen([sys.executable, *COMMAND], env=environ, stdout=log, stderr=log)
            )

    def until_ready(self) -> "Polling":
        self._wait_until(lambda: self.ready_file.exists() or self._dead(), 60, "the ready file")
        return self

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        return self._wait_until(lambda: condition() or self._dead(), 30, what or "what the bot does")

    def hears(self, text: str, **more: Any) -> str:
        """What the bot answers to `text` from its owner."""
        before = len(self.telegram.sent)
        self.telegram.write(text, OWNER, **more)
        self.until(lambda: len(self.telegram.sent) > before, f"an answer to {text}")
        return self.telegram.said()[before]

    def ends(self) -> int:
        return self.process.wait(30)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ends()

    def output(self) -> str:
        return self.log.read_text()

    def _dead(self) -> None:
        if self.process.poll() is not None:
            pytest.fail(f"the bot ended with {self.process.returncode}:\n{self.output()}")


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    with FakeTelegram(TOKEN) as telegram:
        yield telegram


Start = Callable[..., Polling]


def starting(
    telegram: FakeTelegram,
    folder: Path,
    wait_until: Callable[..., Any],
    stack: ExitStack,
    warm: WarmStarts | None = None,
) -> Start:
    """Starts bots that are gone when `stack` closes, and then none of them may have shown a secret."""

    def start(**ours: str) -> Polling:
        bot = Polling(telegram, folder, wait_until, warm, **ours)
        stack.callback(gone, bot)
        return bot

    def gone(bot: Polling) -> None:
        bot.process.kill()
        bot.process.wait(10)

        assert not shows(bot.output())
        for unwanted in (SAID_BY_STRANGERS, "Traceback", "Warning"):
            assert unwanted not in bot.output()

    return start


@pytest.fixture
def start(telegram: FakeTelegram, tmp_path: Path, wait_until: Callable[..., Any], warm: WarmStarts) -> Iterator[Start]:
    with ExitStack() as stack:
        yield starting(telegram, tmp_path, wait_until, stack, warm)


@pytest.fixture(scope="module")
def bot(
    module_servers: tuple[str, str], tmp_path_factory: pytest.TempPathFactory, wait_until: Callable[..., Any]
) -> Iterator[Polling]:
    """A bot at headquarters that all tests of its commands share, a fresh Python."""
    with ExitStack() as stack:
        telegram = stack.enter_context(FakeTelegram(TOKEN))
        start = starting(telegram, tmp_path_factory.mktemp("telegram"), wait_until, stack)
        yield start(UA_DATABASE_URL=module_servers[0]).until_ready()


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


MISSIONS = "SELECT job_id, source, mission_kind, envelope->'payload'->>'task' FROM corporation.missions ORDER BY id"


def test_the_owner_learns_what_the_bot_understands(bot: Polling) -> None:
    for command in ("/start", "/help", "/help@the_bot"):
        assert all(name in bot.hears(command) for name in ("/status", "/missions", "/mission", "/help"))


def test_the_status_is_the_nodes_own_policy_and_its_missions_by_state(bot: Polling) -> None:
    bot.hears("/mission Look at the clock")

    first, row, missions = bot.hears("/status").split("\n")
    assert first == "desk-hq: HEADQUARTERS"
    assert row.startswith("gateway full · UI yes · Telegram yes · heartbeat global · delegation publish_and_listen")
    assert "waiting" in missions


def test_an_order_becomes_a_mission_of_the_source_telegram(bot: Polling, module_servers: tuple[str, str]) -> None:
    answer = bot.hears("/mission Tidy\nthe *notes* <b>now</b>")

    job_id, *mission = rows(module_servers[0], MISSIONS)[-1]
    assert mission == ["telegram", "general_task", "Tidy\nthe *notes* <b>now</b>"]
    assert answer == f"Published: {job_id} is waiting."
    assert job_id in bot.hears("/missions")


def test_no_word_at_the_beginning_of_an_order_makes_it_another_kind(
    bot: Polling, module_servers: tuple[str, str]
) -> None:
    """D4: whatever a chat message starts with, it gives no orders to factories."""
    bot.hears("/mission system:update_factory desk-7")

    assert rows(module_servers[0], MISSIONS)[-1][2] == "general_task"


def test_the_latest_five_missions_are_listed_newest_first(bot: Polling, module_servers: tuple[str, str]) -> None:
    for number in range(6):
        bot.hears(f"/mission number {number}")

    newest = [row[0] for row in rows(module_servers[0], MISSIONS)][:-6:-1]
    assert [line.split(" · ")[1:] for line in bot.hears("/missions").split("\n")] == [
        ["general_task", job_id] for job_id in newest
    ]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("good morning", "/help"),
        ("/quit", "/help"),
        ("/mission", "/mission Tidy the notes"),
        ("/mission   ", "/mission Tidy the notes"),
        ("/mission turn \u202e around", "cannot take this order"),
    ],
)
def test_what_is_no_command_gets_one_friendly_line(bot: Polling, text: str, answer: str) -> None:
    said = bot.hears(text)

    assert answer in said
    assert "\n" not in said


def test_answers_are_plain_text_whose_addresses_nobody_looks_up(bot: Polling) -> None:
    bot.hears("/missions")

    message = bot.telegram.sent[-1]
    assert "parse_mode" not in message
    assert message["link_preview_options"] == '{"is_disabled": true}'


def ignored(telegram: FakeTelegram) -> dict[str, dict[str, Any]]:
    """Updates that are none of the owners' own new messages, by what they are."""
    said = f"/mission {SAID_BY_STRANGERS}"
    group = {"id": -100, "type": "group", "title": "A group"}
    channel = {"id": -200, "type": "channel", "title": "A channel"}
    origin = {"type": "hidden_user", "date": 1780300800, "sender_user_name": "x"}
    other = {"id": 9, "is_bot": True, "first_name": "Other"}
    person = {"id": OWNER, "is_bot": False, "first_name": "Owner"}
    return {
        "stranger": {"message": telegram.message(said, STRANGER)},
        "group": {"message": telegram.message(said, OWNER, group)},
        "stranger in the owner's chat": {
            "message": telegram.message(said, STRANGER, {"id": OWNER, "type": "private", "first_name": "x"})
        },
        "owner in a stranger's chat": {
            "message": telegram.message(said, OWNER, {"id": STRANGER, "type": "private", "first_name": "x"})
        },
        "forward": {"message": telegram.message(said, OWNER, forward_origin=origin)},
        "another bot's text": {"message": telegram.message(said, OWNER, via_bot=other)},
        "edit": {"edited_message": telegram.message(said, OWNER, edit_date=1780300900)},
        "channel post": {"channel_post": telegram.message(said, OWNER, channel)},
        "inline query": {"inline_query": {"id": "1", "from": person, "query": said, "offset": ""}},
        "button": {"callback_query": {"id": "1", "from": person, "chat_instance": "1", "data": said}},
        "kind of tomorrow": {"something_new": {"text": said}},
    }


def test_nobody_else_and_nothing_else_is_answered(bot: Polling, module_servers: tuple[str, str]) -> None:
    before, missions = len(bot.telegram.sent), len(rows(module_servers[0], MISSIONS))
    numbers = [bot.telegram.deliver(content) for content in ignored(bot.telegram).values()]

    # Updates are handled in order: after this answer, all of those have been seen.
    assert "/status" in bot.hears("/help")
    assert len(bot.telegram.sent) == before + 1
    assert len(rows(module_servers[0], MISSIONS)) == missions
    lines = [line for line in bot.output().splitlines() if "telegram_update_ignored" in line]
    assert [sum(f'"update_id": {number}' in line for line in lines) for number in numbers] == [1] * len(numbers)
    assert any(f'"sender": {STRANGER}' in line for line in lines)


def test_an_answer_that_telegram_puts_off_is_sent_later(bot: Polling) -> None:
    bot.telegram.fail("sendMessage", 429, retry_after=1)

    assert "/status" in bot.hears("/help")


@pytest.mark.parametrize("status", [500, 502, 429, HANG_UP])
def test_a_poll_that_fails_is_tried_again(bot: Polling, status: int) -> None:
    bot.telegram.fail("getUpdates", status, retry_after=1 if status == 429 else None)

    assert "/status" in bot.hears("/help")


def test_a_person_who_blocked_the_bot_stops_nobody_else(bot: Polling) -> None:
    bot.telegram.fail("sendMessage", 403)
    bot.telegram.write("/help", PARTNER)

    assert "/status" in bot.hears("/help")


def test_the_token_is_in_no_list_of_processes(bot: Polling) -> None:
    command_line = Path(f"/proc/{bot.process.pid}/cmdline").read_bytes()

    assert not shows(command_line)


def test_an_order_that_telegram_sends_again_is_the_same_mission(
    start: Start, telegram: FakeTelegram, database_url: str
) -> None:
    order = {"message": telegram.message("/mission Count to ten", OWNER)}
    first = start(UA_DATABASE_URL=database_url).until_ready()
    number = telegram.deliver(order)
    first.until(lambda: telegram.sent)
    telegram.deliver_again(number, order)

    assert "/status" in first.hears("/help")
    first.until(lambda: telegram.offset == number + 2, "the confirmation of both")
    first.process.kill()
    first.ends()
    first.ready_file.unlink()
    second = start(UA_DATABASE_URL=database_url).until_ready()
    telegram.deliver_again(number, order)
    second.until(lambda: len(telegram.sent) == 3)
    [[job_id, *_]] = rows(database_url, MISSIONS)
    published, _, again = telegram.said()
    assert published == f"Published: {job_id} is waiting."
    assert again == f"I had this order already: {job_id} is waiting."


def test_an_order_is_confirmed_only_after_it_is_stored(start: Start, telegram: FakeTelegram, database_url: str) -> None:
    """A process that dies in between loses nothing: Telegram gives the update to the next one."""
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE corporation.missions IN ACCESS EXCLUSIVE MODE")
        first = start(UA_DATABASE_URL=database_url).until_ready()
        number = telegram.write("/mission Survive", OWNER)
        first.until(lambda: waits_for_a_lock(database_url), "the bot waiting for the ledger")
        first.process.kill()
        first.ends()
        first.ready_file.unlink()

        assert telegram.offset <= number
    second = start(UA_DATABASE_URL=database_url).until_ready()
    second.until(lambda: telegram.sent)
    assert [row[3] for row in rows(database_url, MISSIONS)] == ["Survive"]


def waits_for_a_lock(url: str) -> bool:
    return bool(
        rows(url, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )


def test_a_full_queue_takes_no_order(start: Start, telegram: FakeTelegram, database_url: str) -> None:
    bot = start(UA_DATABASE_URL=database_url, UA_MISSION_WAITING_LIMIT="1").until_ready()
    bot.hears("/mission one")

    assert "1 missions wait already" in bot.hears("/mission two")
    assert len(rows(database_url, MISSIONS)) == 1


@pytest.mark.parametrize(
    "policy",
    [
        {"FACTORY_ROLE": "STANDALONE_NODE", "UA_STANDALONE_ENABLE_TELEGRAM_POLL": "1"},
        {"FACTORY_ROLE": "HEADQUARTERS", "UA_CAPABILITY_DELEGATION_MODE": "listen_only"},
    ],
    ids=["standalone", "listening headquarters"],
)
def test_a_node_that_publishes_nothing_polls_and_refuses_orders(
    start: Start, database_url: str, policy: dict[str, str]
) -> None:
    bot = start(UA_DATABASE_URL=database_url, **policy).until_ready()

    assert policy["FACTORY_ROLE"] in bot.hears("/status")
    assert "publishes no missions" in bot.hears("/mission Anything")
    assert rows(database_url, MISSIONS) == []
    assert bot.stop() == 0


@pytest.mark.parametrize(
    ("ours", "names"),
    [
        ({"FACTORY_ROLE": "LOCAL_WORKER"}, ["LOCAL_WORKER", "E-7"]),
        ({"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_TELEGRAM_POLL": "1"}, ["LOCAL_WORKER", "E-7"]),
        ({"FACTORY_ROLE": "no such role"}, ["LOCAL_WORKER", "E-7"]),
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, ["STANDALONE_NODE", "UA_STANDALONE_ENABLE_TELEGRAM_POLL"]),
        ({"UA_CAPABILITY_TELEGRAM_POLL": "0"}, ["HEADQUARTERS", "UA_CAPABILITY_TELEGRAM_POLL"]),
        (
            {"TELEGRAM_BOT_TOKEN": "", "TELEGRAM_ALLOWED_USER_IDS": "", "UA_DATABASE_URL": ""},
            ["TELEGRAM_BOT_TOKEN", "TELEGRAM_ALLOWED_USER_IDS", "UA_DATABASE_URL"],
        ),
        ({"UA_TELEGRAM_API_URL": "http://telegram.example"}, ["UA_TELEGRAM_API_URL", "https://"]),
        ({"TELEGRAM_BOT_TOKEN": f"{TOKEN}/../x"}, ["TELEGRAM_BOT_TOKEN"]),
    ],
)
def test_where_polling_is_not_allowed_or_not_configured_the_process_ends_with_78_and_says_why(
    ours: dict[str, str], names: list[str], telegram: FakeTelegram, warm: WarmStarts
) -> None:
    """E-3, E-7"""
    given = {"UA_DATABASE_URL": NOWHERE, "UA_TELEGRAM_API_URL": telegram.url} | ours
    ended = warm.run(COMMAND, environment(**given))

    assert ended.returncode == 78, ended.stderr
    assert all(name in ended.stderr for name in names)
    assert "Traceback" not in ended.stderr
    assert not shows(ended.stdout + ended.stderr)
    assert telegram.calls.total() == 0


def test_a_ledger_that_is_away_is_a_sentence_and_not_an_end(start: Start) -> None:
    bot = start(UA_DATABASE_URL=NOWHERE).until_ready()

    for command in ("/status", "/missions", "/mission Anything"):
        assert "The ledger does not answer" in bot.hears(command)
    assert bot.stop() == 0


def test_a_database_that_is_not_migrated_is_a_sentence_too(start: Start, empty_database_url: str) -> None:
    bot = start(UA_DATABASE_URL=empty_database_url).until_ready()

    assert "The ledger does not answer" in bot.hears("/missions")


def test_telegram_being_away_at_the_start_is_waited_for(start: Start, telegram: FakeTelegram) -> None:
    telegram.fail("getMe", HANG_UP)
    telegram.fail("deleteWebhook", 500)
    bot = start(UA_DATABASE_URL=NOWHERE).until_ready()

    assert "/status" in bot.hears("/help")
    assert bot.output().count("telegram_unreachable") == 2


@pytest.mark.parametrize("method", ["getMe", "getUpdates"])
def test_a_token_that_telegram_rejects_ends_the_process_with_78(
    start: Start, telegram: FakeTelegram, method: str
) -> None:
    telegram.fail(method, 401)
    bot = start(UA_DATABASE_URL=NOWHERE)

    assert bot.ends() == 78
    assert "Telegram does not accept TELEGRAM_BOT_TOKEN" in bot.output()
    assert not bot.ready_file.exists()


def test_a_token_that_is_revoked_later_ends_the_process_with_78(start: Start, telegram: FakeTelegram) -> None:
    bot = start(UA_DATABASE_URL=NOWHERE).until_ready()
    telegram.fail("getUpdates", 401)

    assert bot.ends() == 78
    assert not bot.ready_file.exists()


def test_a_second_poller_for_the_same_bot_ends_the_first(start: Start, telegram: FakeTelegram, tmp_path: Path) -> None:
    first = start(UA_DATABASE_URL=NOWHERE).until_ready()
    second = start(UA_DATABASE_URL=NOWHERE, UA_READY_FILE=str(tmp_path / "second"))

    assert first.ends() == 1
    assert "Another process polls Telegram with the same TELEGRAM_BOT_TOKEN" in first.output()
    assert "/status" in second.hears("/help")


def test_sigterm_ends_it_cleanly_after_what_is_being_handled(
    start: Start, telegram: FakeTelegram, database_url: str
) -> None:
    """What was handled last is confirmed at the end, so that it does not come again."""
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE corporation.missions IN ACCESS EXCLUSIVE MODE")
        bot = start(UA_DATABASE_URL=database_url).until_ready()
        number = telegram.write("/mission Just in time", OWNER)
        bot.until(lambda: waits_for_a_lock(database_url), "the bot waiting for the ledger")
        bot.process.send_signal(signal.SIGTERM)

    assert bot.ends() == 0
    assert not bot.ready_file.exists()
    assert telegram.said()[0].startswith("Published")
    assert telegram.offset == number + 1
    assert "telegram_polling_stopped" in bot.output()


def test_sigterm_ends_it_while_telegram_is_away(start: Start, telegram: FakeTelegram) -> None:
    telegram.fail("getMe", 500, times=100)
    bot = start(UA_DATABASE_URL=NOWHERE)
    bot.until(lambda: telegram.calls["getMe"])

    assert bot.stop() == 0


def test_sigterm_ends_it_while_the_ledger_hangs(start: Start, telegram: FakeTelegram, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE corporation.missions IN ACCESS EXCLUSIVE MODE")
        bot = start(UA_DATABASE_URL=database_url).until_ready()
        telegram.write("/mission Later", OWNER)
        bot.until(lambda: waits_for_a_lock(database_url), "the bot waiting for the ledger")

        assert bot.stop() == 0
        assert not bot.ready_file.exists()


def test_a_failure_nobody_foresaw_ends_it_with_1_and_shows_nothing_but_its_kind_and_place(
    start: Start, telegram: FakeTelegram
) -> None:
    bot = start(UA_DATABASE_URL=NOWHERE).until_ready()
    telegram.deliver({"message": {"text": SAID_BY_STRANGERS}})

    assert bot.ends() == 1
    assert "telegram_failed" in bot.output()
    assert not bot.ready_file.exists()


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
def test_pauses_grow_up_to_half_a_minute_unless_telegram_names_one() -> None:
    pauses = [0.0]
    for _ in range(7):
        pauses.append(pause_after(NetworkError("away"), pauses[-1]))

    assert pauses == [0, 1, 2, 4, 8, 16, 30, 30]
    assert pause_after(RetryAfter(90), 30) == 90

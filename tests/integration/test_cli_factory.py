"""`corporation factory refused`: what this factory would not take, escaped, and an honest word where that is none."""

import json
import os
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from warm_starts import WarmStarts

from corporation.cli.membership import Membership, keep
from corporation.embedded.stack_state import StateFolder
from corporation.federation.refused_messages import RefusedMessages, refused_message

Said = Callable[..., tuple[int, str, str]]
HOSTILE = b'\x1b[2J\xe2\x80\xae{"body": '
AT = "2026-06-01T08:00:00.000000+00:00"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def said(warm: WarmStarts, tmp_path: Path, spool: Path) -> Said:
    """The exit status of `corporation factory refused …` and what it wrote."""

    def run(*arguments: str) -> tuple[int, str, str]:
        environ = {
            "PATH": os.environ["PATH"],
            "UA_DOTENV_PATH": os.devnull,
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": "desk-7",
            "UA_VP_DB_PATH": str(spool),
        }
        words = ["-m", "corporation.cli", "factory", "refused", *arguments, "--state", str(tmp_path / "state")]
        ended = warm.run(words, environ)
        return ended.returncode, ended.stdout, ended.stderr

    return run


@pytest.fixture
def refused(spool: Path) -> RefusedMessages:
    messages = RefusedMessages(spool)
    messages.keep(refused_message(AT, "local_factory", "not_json", "the first", b"one"))
    messages.keep(refused_message(AT, "local_factory\x1b[2J", "bad_headers", "why \x1b]0;x\x07 \u202e", HOSTILE))
    messages.count("expired")
    return messages


@pytest.mark.usefixtures("refused")
def test_the_newest_come_first_and_all_are_counted(said: Said) -> None:
    status, out, err = said()

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert "bad_headers" in lines[1]
    assert "not_json" in lines[2]
    assert lines[-2] == "Refused so far: bad_headers 1, expired 1, not_json 1"
    assert "counted, not kept" in lines[-1]


@pytest.mark.usefixtures("refused")
def test_nothing_of_a_message_can_steer_the_terminal(said: Said) -> None:
    _, out, _ = said()

    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\\x1b[2J" in out


@pytest.mark.usefixtures("refused")
def test_a_program_gets_the_start_of_the_message_too(said: Said) -> None:
    status, out, _ = said("--json", "--limit", "1")

    document = json.loads(out)
    assert status == 0
    assert (document["total"], document["counts"]) == (3, {"bad_headers": 1, "expired": 1, "not_json": 1})
    [one] = document["refused"]
    assert b64decode(one["start_base64"]) == HOSTILE
    assert (one["reason"], one["at"], one["size"], len(one["sha256"])) == ("bad_headers", AT, len(HOSTILE), 64)


def test_a_factory_that_refused_nothing_says_so(said: Said, spool: Path) -> None:
    RefusedMessages(spool).counts()

    assert said() == (0, "desk-7 never refused a message\n", "")
    assert json.loads(said("--json")[1]) == {"refused": [], "counts": {}, "total": 0}


def test_where_no_worker_ever_ran_nothing_is_made(said: Said, spool: Path) -> None:
    status, out, err = said()

    assert (status, out) == (66, "")
    assert f"There is no spool at {spool}" in err
    assert not spool.exists()


def test_a_file_that_is_no_spool_is_an_error_with_advice(said: Said, spool: Path) -> None:
    spool.write_text("this is no database, and longer than its header of a hundred bytes " * 3)

    status, out, err = said()

    assert (status, out) == (74, "")
    assert "cannot be read" in err
    assert "bug" not in err


def test_a_limit_of_nothing_is_wrong_use(said: Said) -> None:
    assert said("--limit", "0")[0] == 2


def test_a_folder_that_is_named_says_whose_messages_they_are(warm: WarmStarts, tmp_path: Path, spool: Path) -> None:
    """Also in a terminal that `corporation env` made headquarters' for a while."""
    folder = StateFolder(tmp_path / "desk-7")
    folder.prepare()
    keep(folder, Membership("desk-7", "https://hq.example", "a credential"))
    RefusedMessages(folder.spool("factory")).count("expired")
    RefusedMessages(spool).count("not_json")
    environ = {"PATH": os.environ["PATH"], "UA_DOTENV_PATH": os.devnull, "UA_VP_DB_PATH": str(spool)}
    environ |= {"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_ID": "vm-hq", "UA_DATABASE_URL": "postgresql://h/x"}
    words = ["-m", "corporation.cli", "factory", "refused"]
    by_name = warm.run([*words, "--state", str(folder.path)], environ)
    by_chance = warm.run([*words, "--state", str(tmp_path / "nothing")], environ)

    assert "expired 1" in by_name.stdout
    assert "not_json 1" in by_chance.stdout

"""What the fuzz found once, each as a sentence, so that it does not have to be found again."""

import io
import tarfile
from pathlib import Path
from typing import Final

import httpx
import pytest
from canary import secret
from pydantic import SecretStr

from corporation.cli import answers, audit
from corporation.cli.exits import Refusal
from corporation.cli.server_events import ServerEvent, read_events
from corporation.cli.time_words import how_long
from corporation.envelope import EnvelopeRefused
from corporation.errors import SettingsError
from corporation.masking import Mask, secrets_of
from corporation.settings import Settings, load_settings
from corporation.trust.key_announcement import trusted
from factory_tasks.bootstrap_repo.bundle import SCRIPT, BundleUnreadableError, unpack
from factory_tasks.bootstrap_repo.order import OrderRefusedError
from factory_tasks.mission_task import read_order
from hq_api.routers.results import ResultForm
from hq_api.validation import checked

LONG: Final = "implementation/" + "x" * 300


def packed(*members: tuple[str, bytes, str]) -> bytes:
    """An archive of members, each a name, a type and what it links to."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return whole.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [(".", tarfile.REGTYPE, "")],
        [("implementation/a", tarfile.REGTYPE, ""), ("implementation/a/b", tarfile.REGTYPE, "")],
        [("implementation/a", tarfile.DIRTYPE, ""), ("implementation/a", tarfile.REGTYPE, "")],
        [(LONG, tarfile.REGTYPE, "")],
    ],
    ids=["the folder itself", "a file as a folder", "a folder as a file", "a name too long"],
)
def test_a_bundle_whose_names_cannot_be_files_is_refused_for_good(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    with pytest.raises(OrderRefusedError, match="in each other's way"):
        unpack(packed(*members, (SCRIPT, tarfile.REGTYPE, "")), tmp_path)


def test_a_bundle_with_a_hard_link_to_nothing_is_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BundleUnreadableError):
        unpack(packed(("implementation/a", tarfile.LNKTYPE, "implementation/nothing")), tmp_path)


@pytest.mark.parametrize("host", ["[", ":", "::1::", "[::1]", "h:6379", "redis://h", "a b"])
def test_a_host_that_is_none_is_a_problem_and_no_crash(host: str) -> None:
    with pytest.raises(SettingsError, match="UA_REDIS_HOST"):
        load_settings({"UA_REDIS_HOST": host})


@pytest.mark.parametrize("host", ["redis", "10.8.0.1", "fd00::1", "fe80::1%eth0", "valkey.corp_net.internal"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    settings = load_settings({"UA_REDIS_HOST": host, "UA_REDIS_ALLOW_PLAINTEXT": "1"})

    assert host in settings.redis_url


def test_a_secret_that_looks_like_an_address_and_is_none_is_masked_whole() -> None:
    odd = f"https://[{secret('odd')}"

    assert secrets_of(Settings.model_construct(ops_token=SecretStr(odd))) == [odd]


def test_a_note_that_is_too_deep_for_a_parser_is_none() -> None:
    assert trusted(["key"], "[" * 100_000) == ("key",)


def test_a_report_whose_outcome_is_a_list_is_a_mistake_of_its_sender() -> None:
    """It was a 500."""
    with pytest.raises(EnvelopeRefused):
        checked(ResultForm, {"status": "FAILED", "report": {"outcome": []}})


def test_a_password_of_bytes_that_are_no_utf8_is_passed_on_as_it_is() -> None:
    """As the environment gives it: every other byte is written as half a pair."""
    settings = load_settings({"REDIS_PASSWORD": "long-\udcff-password"})

    assert settings.redis_url == "redis://:long-%FF-password@127.0.0.1:6379/0"
    assert Mask(secrets_of(settings)).text("see long-%FF-password") == "see ***"


@pytest.mark.parametrize("name", ["attempt", "timeout_seconds"])
def test_an_order_with_an_endless_number_is_none_of_ours(name: str) -> None:
    order = {"job_id": "j", "attempt": 1, "factory_id": "f", "timeout_seconds": 1}
    order |= {"envelope": {"payload": {"task": "t"}}}

    with pytest.raises(ValueError, match="no whole number"):
        read_order({**order, name: float("inf")})


def test_a_date_beyond_the_calendar_is_refused_like_every_other_mistake() -> None:
    with pytest.raises(Refusal, match="--since takes"):
        audit._moment("9999-12-31T23:59:59-14:00")  # pyright: ignore[reportPrivateUsage]


def test_what_has_no_length_is_a_dash() -> None:
    assert [how_long(seconds) for seconds in (float("inf"), float("nan"), None)] == ["-"] * 3


def test_an_answer_that_is_too_deep_for_a_parser_is_no_answer_of_headquarters() -> None:
    """Whatever answers at its address."""
    deep = httpx.Response(409, content=b"[" * 100_000)

    assert answers.detail_of(deep) == ""
    assert list(read_events(["data: " + "[" * 100_000, ""])) == [ServerEvent("message", "", {})]


def test_a_problem_without_a_place_is_told_all_the_same() -> None:
    refused = httpx.Response(400, json={"detail": [{"loc": None, "msg": "no"}]})

    assert answers.detail_of(refused) == "body: no"

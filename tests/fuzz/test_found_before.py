"""What the fuzz found once, each as a sentence, so that it does not have to be found again."""

import io
import tarfile
from pathlib import Path
from typing import Final

import pytest
from canary import secret
from pydantic import SecretStr

from corporation.envelope import EnvelopeRefused
from corporation.errors import SettingsError
from corporation.masking import secrets_of
from corporation.settings import Settings, load_settings
from corporation.trust.key_announcement import trusted
from factory_tasks.bootstrap_repo.bundle import SCRIPT, BundleUnreadableError, unpack
from factory_tasks.bootstrap_repo.order import OrderRefusedError
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


def test_a_host_that_is_none_is_a_problem_and_no_crash() -> None:
    with pytest.raises(SettingsError, match="UA_REDIS_HOST"):
        load_settings({"UA_REDIS_HOST": "["})


def test_a_secret_that_looks_like_an_address_and_is_none_is_masked_whole() -> None:
    odd = f"https://[{secret('odd')}"

    assert secrets_of(Settings.model_construct(ops_token=SecretStr(odd))) == [odd]


def test_a_note_that_is_too_deep_for_a_parser_is_none() -> None:
    assert trusted(["key"], "[" * 100_000) == ("key",)


def test_a_report_whose_outcome_is_a_list_is_a_mistake_of_its_sender() -> None:
    """It was a 500."""
    with pytest.raises(EnvelopeRefused):
        checked(ResultForm, {"status": "FAILED", "report": {"outcome": []}})

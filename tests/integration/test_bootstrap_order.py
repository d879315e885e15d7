"""What a bootstrap mission orders is clear before anything is touched; the unclear and the unsafe are refused."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from corporation.bootstrap_jobs.names import clean_name, default_name, distinguished
from factory_tasks.bootstrap_repo.order import (
    GitSource,
    HqBundle,
    InlineBundle,
    OrderRefusedError,
    read_order,
)

NOON = datetime(2026, 6, 1, 8, 0, 0, tzinfo=UTC)


def order(**context: Any) -> Any:
    return read_order("job-1", "Make a repository", context)


def test_each_source_is_recognised_by_its_key() -> None:
    packed = base64.encodebytes(b"bytes").decode()

    assert order(tutorial_run_path="runs/5").source == HqBundle("runs/5")
    assert order(bundle_base64=packed).source == InlineBundle(b"bytes")
    assert order(git_url="https://host/x.git").source == GitSource("https://host/x.git", "", None)


def test_empty_keys_are_absent_keys() -> None:
    context = {"tutorial_run_path": "runs/5", "bundle_base64": "", "git_url": None, "git_ref": "", "python_version": ""}

    assert order(**context, verify=None).source == HqBundle("runs/5")


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"tutorial_run_path": " "},
        {"tutorial_run_path": "a", "git_url": "https://host/x"},
        {"tutorial_run_path": "a", "bundle_base64": "YQ=="},
    ],
)
def test_no_source_and_two_sources_are_refused(context: dict[str, Any]) -> None:
    with pytest.raises(OrderRefusedError, match="exactly one"):
        order(**context)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::https://host/x",
        "--upload-pack=touch /tmp/x",
        "-u",
        "file:///srv/x.git",
        "http://host/x.git",
        "ftp://host/x.git",
        "git@host:x.git",
        "relative/x.git",
        "ssh://-oProxyCommand=x/y",
        "ssh://user@-oProxyCommand=x/y",
        "https://",
        "https://[::1/x",
        "https://host/x\n--config=y",
        "https://token@host/x.git",
        "https://user:secret@host/x.git",
        "ssh://git:secret@host/x.git",
    ],
)
def test_an_unsafe_address_of_a_repository_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(OrderRefusedError, match="git_url") as refused:
        order(git_url=url)

    assert "secret" not in str(refused.value)
    assert "token" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://host/x.git", "ssh://git@host:2222/x.git", "git://host/x", "/srv/x.git", "https://[::1]:8/x"]
)
def test_a_plain_address_of_a_repository_is_taken(url: str) -> None:
    assert order(git_url=url).source.url == url


@pytest.mark.parametrize("ref", ["--upload-pack=x", "-b", "a..b", "a b", "a:b", "@{-1}", "a\nb", "x~1^"])
def test_a_ref_that_git_could_read_otherwise_is_refused(ref: str) -> None:
    with pytest.raises(OrderRefusedError, match="git_ref"):
        order(git_url="/srv/x", git_ref=ref)


@pytest.mark.parametrize("ref", ["main", "feature/one", "v1.2.3", "0a1b2c3d"])
def test_branches_tags_and_commits_are_refs(ref: str) -> None:
    assert order(git_url="/srv/x", git_ref=ref).source.ref == ref


def test_what_belongs_to_git_alone_is_refused_elsewhere() -> None:
    with pytest.raises(OrderRefusedError, match="belongs to git_url"):
        order(tutorial_run_path="a", template_variables={"a": 1})


@pytest.mark.parametrize("given", [["a"], {"a b": 1}, {"a": [1]}, {"a": None}, {"__import__('os')": 1}, "a"])
def test_variables_that_are_no_names_with_plain_values_are_refused(given: Any) -> None:
    with pytest.raises(OrderRefusedError, match="template_variables"):
        order(git_url="/srv/x", template_variables=given)


@pytest.mark.parametrize("given", ["python3 -m unittest", [], [1], [""], ["a\0"], ["a"] * 65, ["a" * 5000], {"a": 1}])
def test_a_verify_that_is_no_list_of_texts_is_refused(given: Any) -> None:
    with pytest.raises(OrderRefusedError, match="verify"):
        order(tutorial_run_path="a", verify=given)


@pytest.mark.parametrize("version", ["--help", "3.12; rm -rf /", "3 12", "$(x)"])
def test_a_python_version_is_a_version(version: str) -> None:
    with pytest.raises(OrderRefusedError, match="python_version"):
        order(tutorial_run_path="a", python_version=version)


@pytest.mark.parametrize("key", ["repo_name", "target_root", "tutorial_title", "git_url"])
def test_a_number_where_a_text_belongs_is_refused(key: str) -> None:
    with pytest.raises(OrderRefusedError, match=key):
        order(**{"tutorial_run_path": "a", key: 5})


def test_a_bundle_that_is_no_base64_is_refused() -> None:
    with pytest.raises(OrderRefusedError, match="not base64"):
        order(bundle_base64="a*b")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("queue_demo", "queue_demo"),
        ("../../etc/passwd", "etc_passwd"),
        (".corporation", "corporation"),
        ("-rf", "rf"),
        ("a b/c", "a_b_c"),
        ("Größe", "Gr_e"),
        ("...", ""),
        ("", ""),
        ("x" * 300, "x" * 120),
        ("x" * 119 + "..", "x" * 119),
    ],
)
def test_a_name_becomes_a_plain_folder_name(given: str, name: str) -> None:
    assert (clean_name(given), clean_name(clean_name(given))) == (name, name)


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Queue demo", "queue_demo__20260601_080000"),
        ("Über Größe!", "uber_groe__20260601_080000"),
        ("日本", "repo__20260601_080000"),
        ("", "repo__20260601_080000"),
    ],
)
def test_a_mission_without_a_name_is_called_after_its_title_and_the_time(title: str, name: str) -> None:
    assert default_name(title, NOON.astimezone(timezone(timedelta(hours=2)))) == name


def test_the_longest_default_name_keeps_its_time() -> None:
    name = default_name("word " * 100, NOON)

    assert (len(name) <= 120, name.endswith("__20260601_080000")) == (True, True)


def test_a_mark_sets_two_equal_names_apart_and_keeps_them_short() -> None:
    assert distinguished("queue_demo__20260601_080000", "a1b2c3") == "queue_demo__20260601_080000_a1b2c3"
    assert len(distinguished("x" * 120, "a1b2c3")) == 120


def test_the_title_wins_over_the_task() -> None:
    assert order(tutorial_run_path="a").title == "Make a repository"
    assert order(tutorial_run_path="a", tutorial_title="Queue demo").title == "Queue demo"

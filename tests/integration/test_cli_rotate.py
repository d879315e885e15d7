"""`corporation rotate`: what HQ is asked, and what the person is told of what happens now."""

import json

import pytest
from test_cli_factories import ROW, WORK, listed
from test_cli_requests import Headquarters, hq, run  # noqa: F401  # pyright: ignore[reportUnusedImport] - the fixture

ROTATE = "/api/v1/ops/factory/rotate"


def asked(factory_id: str = "desk-7", *, changed: bool = True) -> tuple[int, dict[str, str], dict[str, object]]:
    return 200, {}, {"ok": True, "factory_id": factory_id, "changed": changed}


def test_it_says_what_happens_next_and_what_to_do_about_a_theft(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [asked()]
    ended = run(hq, "rotate", "desk-7", "--note", "it is June")
    lines = ended.stdout.splitlines()

    assert ended.returncode == 0
    assert lines[0] == "desk-7 is asked to take a new password for Redis, which it fetches with its next beat"
    assert "15 minutes" in lines[1]
    assert "quarantine desk-7" in lines[2]
    [(method, path, _, body)] = hq.requests
    assert (method, path) == ("POST", ROTATE)
    assert json.loads(body) == {"target_factory_id": "desk-7", "note": "it is June"}


def test_asking_again_says_that_it_has_not_come_yet(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [asked(changed=False)]

    assert "was asked before" in run(hq, "rotate", "desk-7").stdout


def test_a_program_reads_hqs_answer(hq: Headquarters) -> None:  # noqa: F811
    hq.answers = [asked()]

    assert json.loads(run(hq, "rotate", "desk-7", "--json").stdout)["changed"] is True


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "no_redis_user",
            "desk-7 has no password of its own that HQ could change: that of the factory beside HQ is its",
        ),
        ("quarantined", "desk-7 is in quarantine, where its password is worth nothing and none is changed"),
        ("own_registration", "desk-7 is headquarters itself, to which this cannot be done"),
    ],
)
def test_who_cannot_take_a_new_password_is_told_in_one_sentence(
    hq: Headquarters,  # noqa: F811
    code: str,
    said: str,
) -> None:
    hq.answers = [(409, {}, {"detail": f"{code}: in HQ's own words"})]
    ended = run(hq, "rotate", "desk-7")

    assert (ended.returncode, ended.stderr.count("\n")) == (65, 1)
    assert ended.stderr.startswith(said)
    assert "--job-id" not in ended.stderr


def test_a_blank_name_is_none(hq: Headquarters) -> None:  # noqa: F811
    assert run(hq, "rotate", " ").returncode == 2
    assert hq.requests == []


def test_a_factory_shows_its_user_and_what_is_still_to_come(hq: Headquarters) -> None:  # noqa: F811
    user = {
        "name": "f_desk-7",
        "enabled": True,
        "applied": False,
        "rotation_asked_at": "2026-06-01T08:00:00.000000+00:00",
        "previous_until": None,
        "refused_commands": 2,
    }
    hq.answers = [listed({**ROW, "redis_user": user}), (200, {}, {"factories": [WORK]}), (200, {}, {"events": []})]
    shown = run(hq, "factories", "show", "desk-7").stdout

    assert "f_desk-7, not in Redis yet, a new password is asked for, 2 commands refused" in shown

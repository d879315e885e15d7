"""Which database roles are too strong for a process that serves others (bad input E10), decided from facts alone."""

import pytest

from corporation.database_role import Judgement, RoleFacts, reasons_against


def test_a_role_that_owns_nothing_is_not_objected_to() -> None:
    assert reasons_against(RoleFacts("app")) == []
    judgement = Judgement("UA_DATABASE_URL", "app")
    assert (judgement.objection, judgement.problem) == ("", "")


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        (RoleFacts("app", superusers=("app",)), "it is a superuser"),
        (RoleFacts("app", bypassing=("app",)), "it has BYPASSRLS"),
        (RoleFacts("app", owners=("app",)), "it owns tables of the ledger"),
        (RoleFacts("app", superusers=("admin",)), "it is a member of 'admin', which is a superuser"),
        (RoleFacts("app", bypassing=("dump",)), "it is a member of 'dump', which has BYPASSRLS"),
        (RoleFacts("app", owners=("owner",)), "it is a member of 'owner', which owns tables of the ledger"),
    ],
)
def test_each_thing_that_makes_a_role_too_strong_is_a_reason(role: RoleFacts, reason: str) -> None:
    assert reasons_against(role) == [reason]


def test_of_a_superuser_nothing_else_is_said_since_it_may_do_all_of_it() -> None:
    assert reasons_against(RoleFacts("app", ("app", "admin"), ("app",), ("app", "owner"))) == ["it is a superuser"]


def test_all_reasons_stand_in_one_line_with_what_to_do() -> None:
    reasons = tuple(reasons_against(RoleFacts("app", bypassing=("app",), owners=("owner",))))
    problem = Judgement("UA_RESULT_BACKEND_URL", "app", reasons).problem

    assert problem.startswith(
        "UA_RESULT_BACKEND_URL: the database role 'app' is too strong: it has BYPASSRLS, "
        "and it is a member of 'owner', which owns tables of the ledger; "
    )
    for step in ("CREATE ROLE", "`corporation migrate --grant corporation_hq`", "into UA_RESULT_BACKEND_URL"):
        assert step in problem
    assert "\n" not in problem


def test_a_name_that_would_break_a_line_of_a_log_cannot() -> None:
    assert "\n" not in Judgement("UA_DATABASE_URL", "a\nb", ("it is a superuser",)).problem

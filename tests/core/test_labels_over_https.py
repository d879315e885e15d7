"""The labels of a factory whose missions travel over HTTPS: nothing invites HQ to send them over Redis."""

from corporation.factories.labels import OVER_HTTPS, factory_labels
from corporation.roles import DelegationMode, FactoryRole, Overrides, build_factory_runtime_policy

WORKER = build_factory_runtime_policy(FactoryRole.LOCAL_WORKER)


def test_it_says_the_one_way_and_not_the_other_whatever_redis_does() -> None:
    for connected in (False, True):
        labels = factory_labels(WORKER, ["vp_coder"], connected, None, over_https=True)

        assert OVER_HTTPS in labels
        assert "delegation_redis" not in labels
        assert "vp_coder" in labels


def test_it_stands_behind_the_labels_of_the_contract_and_before_those_of_further_kinds() -> None:
    labels = factory_labels(WORKER, ["kind:weekly_report", "vp_coder"], False, "ZAI", over_https=True)

    assert labels[-3:] == ["llm_override:ZAI", OVER_HTTPS, "kind:weekly_report"]


def test_who_takes_no_missions_says_no_way() -> None:
    deaf = build_factory_runtime_policy(FactoryRole.LOCAL_WORKER, Overrides(delegation_mode=DelegationMode.DISABLED))

    assert OVER_HTTPS not in factory_labels(deaf, [], True, None, over_https=True)
    assert OVER_HTTPS not in factory_labels(WORKER, [], True, None)

"""H-5: who asks an HQ whose ledger stands still hears so within ten seconds, and when to come again."""

import stranger
from frozen_server import frozen
from served_api import OPS_TOKEN, served, settings_for

from corporation import clock
from corporation.embedded.server_process import Server

OPS = {"x-ua-ops-token": OPS_TOKEN}


def test_a_question_is_answered_within_ten_seconds_while_the_ledger_is_frozen(
    shared_url: str, postgres: Server
) -> None:
    with served(settings_for(shared_url)) as api:
        address = f"{api.url}/api/v1/missions"
        assert stranger.get(address, headers=OPS).status_code == 200
        with frozen(postgres.pid):
            began = clock.monotonic()
            away = [stranger.get(address, headers=OPS) for _ in range(2)]
            took = clock.monotonic() - began
        after = stranger.get(address, headers=OPS)

    assert [(one.status_code, one.headers["retry-after"]) for one in away] == [(503, "5")] * 2
    assert away[0].json()["detail"].startswith("ledger_unavailable: ")
    # Two questions: a ping and a new connection for the first one, a new connection for the second.
    assert took < 20
    assert after.status_code == 200

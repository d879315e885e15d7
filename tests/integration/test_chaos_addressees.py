"""Whom the chaos believes a message in a mission queue to be for: what is for nobody is a broken promise (I8)."""

import base64
import json
from typing import Any

import pytest

from ops.bench.chaos_ledger import EVERYBODY, addressee_of

ORDER = base64.b64encode(json.dumps([[], {"order": {"factory_id": "alpha"}}, {}]).encode()).decode()


def message(task: str, body: str = "", **headers: Any) -> bytes:
    return json.dumps({"headers": {"task": task, **headers}, "body": body}).encode()


@pytest.mark.parametrize(
    ("body", "addressee"),
    [
        (message("mission.chaos", ORDER), "alpha"),
        (message("corporation.echo"), EVERYBODY),
        (message("corporation.echo", corp_env=None), EVERYBODY),
        (message("corporation.echo", corp_env={"factory": "beta"}), "beta"),
        (message("corporation.stop_attempt"), "nobody"),
        (message("mission.chaos", "not base64!"), "nobody"),
        (b"[]", "nobody"),
        (b"not json", "nobody"),
    ],
)
def test_a_message_is_for_the_factory_it_names_and_an_echo_for_whoever_takes_it(body: bytes, addressee: str) -> None:
    assert addressee_of(body) == addressee

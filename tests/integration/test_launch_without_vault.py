"""A launcher whose vault does not answer; it asks with the vault's own client, which is no part of the pure tests."""

import os

from canary import secret

from corporation.cli.launch import launch_of


def test_a_vault_that_gave_nothing_is_told_where_a_node_starts_without() -> None:
    given = dict.fromkeys(("INFISICAL_CLIENT_ID", "INFISICAL_CLIENT_SECRET", "INFISICAL_PROJECT_ID"), secret("vault"))
    # Nobody listens there.
    lines = launch_of(
        None, {"UA_DOTENV_PATH": os.devnull} | given | {"INFISICAL_API_URL": "http://127.0.0.1:1"}
    ).lines()

    assert lines[-1].startswith("Note: No variable comes from a vault or a dotenv file: the vault gave none (")
    assert secret("vault") not in "".join(lines)

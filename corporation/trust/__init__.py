"""What one machine may do to another: users of the broker, signed missions, and a log of every privileged act.

`redis_profiles.py` what each user of the broker may do · `redis_users.py`, `redis_acl.py`, `redis_address.py`,
`broker_alarms.py` which users there are, how they are made so, and what is alarming · `key_sizes.py` how much lies in a
key that a factory may fill · `mailbox_roles.py` a factory's role in PostgreSQL · `signatures.py`, `claimed_orders.py`
what HQ signs, over Redis and over HTTPS · `keyring.py`, `key_announcement.py` with which keys, and how they are
exchanged · `update_manifest.py` signed releases · `standing.py`, `redis_standing.py` how a node and its broker stand,
for `doctor security` · `audit.py` who did what. Who holds what: README.md.
"""

"""The routes by subject, one file each.

`missions.py` in and out · `mission_log.py` output as it grows, `mission_log_socket.py` the same over a WebSocket ·
`factories.py` heartbeats · `attempts.py` what factories tell of their work · `bundles.py` what bootstrap missions
download · `capabilities.py` what this node may do · `tokens.py` credentials become tokens · `health.py` is it well.
"""

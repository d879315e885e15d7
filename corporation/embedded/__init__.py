"""The servers and processes of one machine: Valkey, PostgreSQL and a whole stack, for development, tests and one host.

`binaries.py` where the server programs are · `ports.py` free ports on loopback · `server_folder.py` one folder, one
server: its lock and its password · `server_process.py` a server as a process, bound to its launcher ·
`valkey.py` start Valkey · `postgres.py` start PostgreSQL · `postgres_cluster.py` its data folder ·
`postgres_place.py` where that lies · `unprivileged.py` as whom PostgreSQL runs when we are root.

`stack.py` the supervisor of a stack · `stack_readiness.py` whether a process is ready · `stack_shape.py` which kinds
of stack there are · `stack_components.py` what a policy lets run · `stack_plan.py` which processes ·
`stack_environment.py` what each may see · `stack_users.py` who each is at our own servers · `stack_names.py` the
variables that are handed on · `stack_servers.py` its data servers · `stack_given.py` those of others ·
`stack_watch.py` whether they answer · `stack_handout.py` what `corporation env` gave out ·
`stack_addresses.py` their addresses · `connection_causes.py` why one cannot be used · `stack_process.py` one child ·
`stack_restarts.py` restart or give up · `stack_state.py` the state folder · `stack_facts.py` what is written there.
"""

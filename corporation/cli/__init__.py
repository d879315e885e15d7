"""The command line: what a person or a script can ask of a running Corporation.

`app.py`: runs a command, and makes of its ending an exit status · `commands.py`: the table of commands, each loaded
when it is asked for · `options.py`: the options that many share · `exits.py`: the exit statuses · `output.py`:
everything that is printed · `reading.py`: files and standard input, bounded · `connection.py`: which HQ, with which
token · `client.py`: HQ's REST API (+ `tries.py` how often) · `answers.py`: what an HTTP status means to a person ·
`publish.py` (+ `envelope_options.py`, `after_publishing.py` what else is worth a line, `publish_batch.py` many at once,
`publish_lines.py` what a line is), `missions.py` (+ `watch.py`, `server_events.py`, `cancelling.py`,
`replaying_missions.py`, `adopting.py`), `why.py`, `dead_letters.py` (+ `letters_in_bulk.py`, `one_letter.py`),
`order_changes.py` what a replay changes, `streams.py` (+ `replaying.py`), `queues.py`, `joining.py` (+ `checkout.py`),
`factory_access.py`, `factory.py` (+ `factory_join.py`, `factory_running.py`, `factory_status.py`, `membership.py` what
a machine keeps of having joined, `own_row.py` what HQ says of it, `hqs_door.py` whether HQ lets it in),
`environment.py`, `migrate.py`, `doctor.py` (+ `checks.py`, `checks_of_headquarters.py`, `checks_of_progress.py`,
`checks_of_trust.py`): one command each · `up.py`: the whole stack in one terminal (+ `session.py` one run of it,
`screen.py` what it shows, `stop_requests.py` when it ends, `demo.py` the first mission).
"""

import sys


def main() -> None:
    """The command `corporation`; a Ctrl-C while it still loads ends it as quietly as a later one."""
    try:
        from corporation.cli.app import main as run_command
    except KeyboardInterrupt:
        sys.exit(130)
    run_command()

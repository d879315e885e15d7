"""PostgreSQL in a folder: what it keeps, what it refuses, and as whom it runs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from corporation.embedded.binaries import find_postgres
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.server_process import Server, ServerError

Start = Callable[..., Server]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose as whom the server runs")


@pytest.fixture
def start(cluster_template: Path) -> Iterator[Start]:
    """`start_postgres` on a copy of an initialised cluster; at the end nothing that it started or made is left."""
    started: list[Server] = []
    folders: set[Path] = set()

    def starting(folder: Path, **changes: Any) -> Server:
        folders.add(folder)
        options: dict[str, Any] = {"template": cluster_template, "durable": False} | changes
        started.append(start_postgres(folder, **options))
        return started[-1]

    yield starting
    for server in started:
        server.stop()
    for folder in folders:
        if folder.exists():
            shutil.rmtree(home_of(folder))


def rows_of(server: Server) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT count(*) FROM missions").fetchone()
    return row[0] if row else 0


def fill(server: Server, rows: int) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE missions AS SELECT generate_series(1, %s::int)", [rows])


def test_data_survives_a_restart(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "p")
    fill(first, 7)
    first.stop()

    again = start(tmp_path / "p", port=first.port)

    assert again.url == first.url
    assert rows_of(again) == 7


def test_what_was_committed_survives_kill_9_and_nothing_else_does(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p", durable=True)
    fill(server, 1000)
    with psycopg.connect(server.url) as connection:
        connection.execute("INSERT INTO missions VALUES (0)")
        os.kill(server.pid, signal.SIGKILL)
        again = start(tmp_path / "p", durable=True)
        connection.close()

    assert rows_of(again) == 1000


def test_a_first_start_without_a_template_makes_the_database(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p", template=None, database='the "ledger"')

    with psycopg.connect(server.url.rpartition("/")[0] + "/postgres") as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = %s", ['the "ledger"']
        ).fetchone()
    assert row == ("UTF8", "C")


def test_a_half_made_cluster_is_thrown_away(start: Start, tmp_path: Path) -> None:
    (tmp_path / "p" / "data.init").mkdir(parents=True)
    (tmp_path / "p" / "data.init" / "PG_VERSION").write_text("18")

    server = start(tmp_path / "p")

    fill(server, 3)
    assert rows_of(server) == 3


def test_the_lock_file_of_another_program_is_no_obstacle(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "p").stop()
    (home_of(tmp_path / "p") / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/p/data\n")

    assert start(tmp_path / "p").pid


def test_a_server_that_somebody_started_by_hand_is_left_alone(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p")
    (tmp_path / "p" / "lock").unlink()

    with pytest.raises(ServerError, match=f"process {server.pid} uses"):
        start(tmp_path / "p")

    fill(server, 2)
    assert rows_of(server) == 2


def test_a_second_start_in_the_same_folder_names_the_first_and_harms_nothing(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p")

    with pytest.raises(ServerError, match=f"already running.*process {server.pid}"):
        start(tmp_path / "p")

    fill(server, 2)
    assert rows_of(server) == 2


def test_a_taken_port_is_refused_with_the_reason(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p")

    with pytest.raises(ServerError, match=r"(?s)its port is taken.*Address already in use"):
        start(tmp_path / "other", port=server.port)


def test_stopping_does_not_wait_for_clients_and_may_be_done_twice(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "p")
    client = psycopg.connect(server.url)

    server.stop()
    server.stop()

    assert server.process.returncode == 0
    client.close()


def test_the_password_is_in_no_command_line_log_or_representation_and_for_the_owner_only(
    start: Start, tmp_path: Path
) -> None:
    server = start(tmp_path / "p", template=None)
    password = (tmp_path / "p" / "password").read_text().strip()
    with psycopg.connect(server.url, autocommit=True) as connection, pytest.raises(psycopg.errors.DuplicateObject):
        connection.execute("CREATE ROLE corporation PASSWORD 'another-secret'")

    log = server.log.read_text()
    assert password in server.url
    assert password not in " ".join(psutil.Process(server.pid).cmdline()) + log + repr(server)
    assert "another-secret" not in log
    assert not (tmp_path / "p" / "initial-password").exists()
    for name in ("password", "postgres.log"):
        assert (tmp_path / "p" / name).stat().st_mode & 0o077 == 0, name


def test_a_wrong_password_file_is_named(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "p").stop()
    (tmp_path / "p" / "password").write_text("not-the-one")

    with pytest.raises(ServerError, match=r"password replaced.*password authentication failed"):
        start(tmp_path / "p")


def test_data_without_its_password_is_refused(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "p").stop()
    (tmp_path / "p" / "password").unlink()

    with pytest.raises(ServerError, match="password is missing"):
        start(tmp_path / "p")


def test_a_running_server_is_no_template(start: Start, tmp_path: Path) -> None:
    start(tmp_path / "p")

    with pytest.raises(ServerError, match="holds no stopped PostgreSQL"):
        start(tmp_path / "other", template=tmp_path / "p")


def test_a_missing_program_is_refused_with_the_way_out(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="holds no `postgres` and `initdb`"):
        start(tmp_path / "p", bin_folder=tmp_path)


def test_an_unknown_mode_is_refused_with_the_known_ones(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="userns, drop, direct"):
        start(tmp_path / "p", mode="container")


@needs_root
@pytest.mark.parametrize("template", [None, "copied"])
def test_root_can_run_it_as_another_user_below_a_closed_folder(
    start: Start, tmp_path: Path, template: str | None
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    options: dict[str, Any] = {} if template else {"template": None}
    first = start(closed / "p", mode="drop", **options)
    fill(first, 5)
    assert psutil.Process(first.pid).uids().effective != 0
    first.stop()

    again = start(closed / "p", mode="drop", **options)

    assert rows_of(again) == 5
    assert closed.stat().st_mode & 0o777 == 0o700


@needs_root
def test_root_can_run_it_in_a_user_namespace_below_a_closed_folder(start: Start, tmp_path: Path) -> None:
    probe = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine forbids user namespaces")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    server = start(closed / "p", mode="userns")

    fill(server, 5)
    assert rows_of(server) == 5
    assert (closed / "p" / "data").stat().st_uid == 0


@needs_root
def test_programs_that_the_other_user_cannot_reach_are_copied(start: Start, tmp_path: Path) -> None:
    package = find_postgres().parent.parent
    if not package.with_name(f"{package.name}.libs").is_dir():
        pytest.skip("PostgreSQL does not come from the wheel here")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(package, closed / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")

    server = start(tmp_path / "p", mode="drop", bin_folder=closed / package.name / "pginstall" / "bin")

    fill(server, 5)
    assert rows_of(server) == 5
    assert str(closed) not in " ".join(psutil.Process(server.pid).cmdline())


AS_NOBODY = """
import os, sys
from pathlib import Path
import encodings.ascii, encodings.idna, psycopg
from corporation.embedded.binaries import find_postgres
from corporation.embedded.postgres import start_postgres
from corporation.embedded.valkey import start_valkey
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = Path(sys.argv[1])
servers = [start_valkey(folder / "v"), start_postgres(folder / "p", durable=False)]
with psycopg.connect(servers[1].url) as connection:
    print(connection.execute("SELECT 'it works'").fetchone()[0])
for server in servers:
    server.stop()
"""


@needs_root
@pytest.mark.usefixtures("cluster_template")  # which skips where PostgreSQL is missing
def test_an_ordinary_user_can_run_both_servers() -> None:
    # Below /tmp itself: pytest's own folders are closed to other users.
    folder = Path("/tmp") / f"corporation-nobody-{os.getpid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    try:
        # Imported as root and then dropped, since the interpreter itself may lie where nobody may go.
        run = subprocess.run([sys.executable, "-c", AS_NOBODY, str(folder)], capture_output=True, text=True, timeout=60)
    finally:
        shutil.rmtree(folder)

    assert (run.stdout, run.returncode) == ("it works\n", 0), run.stderr

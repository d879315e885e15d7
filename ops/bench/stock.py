"""Stock Celery, as its own guide sets it up, for comparison: Redis broker, PostgreSQL result backend, defaults.

`python -m ops.bench.stock MISSIONS WORKERS` sends to running workers and prints tasks a second.
"""

import os
import sys
import time
from collections.abc import Callable

import psycopg
from celery import Celery

app = Celery(
    "ops.bench.stock",
    broker=os.environ.get("BENCH_BROKER"),
    backend=os.environ.get("BENCH_BACKEND"),
)
app.conf.task_default_queue = "bench-stock"


@app.task
def noop(task: str) -> dict[str, str]:
    """Answer with what was asked, as our `noop` does."""
    return {"echo": task}


def main() -> None:
    """Wait for the workers, warm them up, then time from the first `delay()` to the last result row."""
    missions, workers = int(sys.argv[1]), int(sys.argv[2])
    until(lambda: len(app.control.ping(timeout=1.0)) == workers)
    with psycopg.connect(os.environ["BENCH_RESULTS"], autocommit=True) as db:
        _round(db, 50 * workers)
        print(_round(db, missions))


def until(condition: Callable[[], bool], limit_seconds: float = 120.0) -> None:
    """Return once `condition` holds; exits with a message when it does not within the limit."""
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"nothing happened for {limit_seconds:.0f} s")
        time.sleep(0.02)


def _round(db: psycopg.Connection, missions: int) -> float:
    before = _done(db)
    began = time.monotonic()
    for index in range(missions):
        noop.delay(f"mission {index}")
    until(lambda: _done(db) >= before + missions)
    return missions / (time.monotonic() - began)


def _done(db: psycopg.Connection) -> int:
    try:
        row = db.execute("SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'").fetchone()
    except psycopg.errors.UndefinedTable:
        return 0  # the first worker to store a result makes the table
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main()

"""The ledger of a large fleet: factories that registered, what they hold, and a long history behind them."""

import json
import time
from typing import Any

import psycopg
from sqlalchemy import Engine

from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.factories.sweep import sweep

OLD = """
    WITH made AS (
      INSERT INTO corporation.missions
        (job_id, idempotency_key, mission_kind, requested_kind, source, priority, broker_priority, timeout_seconds,
         max_retries, attempts_total, envelope, body_digest, state, state_reason, attempt, attempt_id, factory_id,
         event_seq, result, created_at, finished_at)
      SELECT 'old-' || n, 'old-' || n, 'general_task', 'general_task', 'rest', 1, 1, 60, 1, 1, '{}', ''::bytea,
             'succeeded', NULL, 1, gen_random_uuid(), 'factory-' || n %% %(factories)s, 2, '{}',
             now() - n * interval '1 second', now()
        FROM generate_series(1, %(missions)s) AS n
      RETURNING id, attempt_id, factory_id, created_at
    )
    INSERT INTO corporation.attempts
      (id, mission_id, number, factory_id, queue, state, lease_expires_at, created_at, finished_at)
    SELECT attempt_id, id, 1, factory_id, 'q', 'succeeded', now(), created_at, now() FROM made
"""

RUNNING = """
    WITH made AS (
      INSERT INTO corporation.missions
        (job_id, idempotency_key, mission_kind, requested_kind, source, priority, broker_priority, timeout_seconds,
         max_retries, attempts_total, envelope, body_digest, state, state_reason, attempt, attempt_id, factory_id,
         event_seq, started_at)
      SELECT 'live-' || n, 'live-' || n, 'general_task', 'general_task', 'rest', 1, 1, 60, 1, 1, '{}', ''::bytea,
             'running', NULL, 1, gen_random_uuid(), 'factory-' || (n / 2) * 10, 2, now()
        FROM generate_series(0, %(missions)s - 1) AS n
      RETURNING id, attempt_id, factory_id, job_id
    ), tried AS (
      INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, state, lease_expires_at, started_at)
      SELECT attempt_id, id, 1, factory_id, 'q', 'running', now() + interval '1 hour', now() FROM made
    )
    SELECT factory_id, attempt_id::text, job_id FROM made
"""


def add_history(db: psycopg.Connection[Any], missions: int, factories: int) -> None:
    """So many missions have ended, spread over the factories."""
    db.execute(OLD, {"missions": missions, "factories": factories})
    db.execute("VACUUM ANALYZE corporation.missions, corporation.attempts")


def add_running(db: psycopg.Connection[Any], factories: int) -> dict[str, list[dict[str, Any]]]:
    """Every tenth factory runs two missions; what each names in its beats."""
    named: dict[str, list[dict[str, Any]]] = {}
    for factory_id, attempt_id, job_id in db.execute(RUNNING, {"missions": factories // 10 * 2}):
        one = {"attempt_id": attempt_id, "job_id": job_id, "progress": {"percent": 40, "message": "reading"}}
        named.setdefault(factory_id, []).append(one)
    return named


def time_sweeps(ledger: Engine, db: psycopg.Connection[Any]) -> dict[str, float]:
    """Milliseconds of a sweep in which nothing, and of one in which everything has changed."""
    times = {}
    for name, change in (
        ("first", "SELECT 1"),
        ("nothing_changed", "SELECT 1"),
        ("all_changed", "UPDATE corporation.factories SET last_seen_at = last_seen_at - interval '6 minutes'"),
    ):
        db.execute(change.encode())
        began = time.monotonic()
        with transaction(ledger) as connection:
            sweep(connection, Thresholds())
        times[name] = round((time.monotonic() - began) * 1000, 1)
    return times


def blocks_of(db: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> int:
    """How many blocks of the database one run of `statement` looks at."""
    [[plan]] = db.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}".encode(), values).fetchall()
    top = (plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]
    return int(top["Shared Hit Blocks"]) + int(top["Shared Read Blocks"])

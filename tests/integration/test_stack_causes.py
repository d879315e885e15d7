"""Why a server cannot be used is said in our words: those of a driver may repeat a part of the password."""

import socket

import psycopg
import pytest
import redis.exceptions
from canary import secret, shows
from sqlalchemy.exc import ArgumentError, OperationalError

from corporation.embedded.connection_causes import cause_of

PART = secret("cause")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (psycopg.OperationalError(f'FATAL:  password authentication failed for user "{PART}"'), "refuses the password"),
        (psycopg.OperationalError(f'FATAL:  database "{PART}@host/x" does not exist'), "database does not exist"),
        (psycopg.OperationalError(f'FATAL:  role "{PART}" does not exist'), "does not know this user"),
        (psycopg.OperationalError(f"failed to resolve host '{PART}@h': [Errno -2] Name or"), "host is not found"),
        (psycopg.OperationalError("port 1 failed: Connection refused"), "connection was refused"),
        (psycopg.errors.ConnectionTimeout(f"connection timeout expired {PART}"), "did not answer in time"),
        (psycopg.OperationalError("FATAL:  sorry, too many clients already"), "no more connections"),
        (psycopg.OperationalError("FATAL:  the database system is starting up"), "starting or stopping"),
        (psycopg.ProgrammingError(f'invalid percent-encoded token: "{PART}%zz"'), "cannot be read"),
        (psycopg.ProgrammingError(f'unexpected spaces found in "{PART} x", use percent-encoded'), "cannot be read"),
        (ArgumentError(f"Could not parse SQLAlchemy URL from string '{PART}'"), "cannot be read"),
        (ValueError(f"invalid literal for int() with base 10: '{PART}'"), "cannot be read"),
        (psycopg.errors.InsufficientPrivilege(f"permission denied {PART}"), "does not give this user the right"),
        (psycopg.errors.LockNotAvailable(f"canceling {PART}"), "LockNotAvailable"),
        (redis.exceptions.AuthenticationError(f"WRONGPASS {PART}"), "refuses the password"),
        (redis.exceptions.NoPermissionError(f"NOPERM {PART}"), "does not give this user the right"),
        (redis.exceptions.ResponseError("DB index is out of range"), "no database of this number"),
        (redis.exceptions.TimeoutError("Timeout reading from socket"), "did not answer in time"),
        (socket.gaierror(-2, "Name or service not known"), "host is not found"),
        (RuntimeError(PART), "RuntimeError"),
    ],
)
def test_a_cause_is_told_without_a_word_of_the_driver(error: Exception, cause: str) -> None:
    """E-4"""
    assert cause in cause_of(error)
    assert not shows(cause_of(error))


def test_the_drivers_error_inside_another_is_found() -> None:
    driver = psycopg.OperationalError('FATAL:  database "x" does not exist')

    assert cause_of(OperationalError(f"SELECT '{PART}'", None, driver)) == "the database does not exist"

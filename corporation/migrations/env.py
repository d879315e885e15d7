"""How Alembic runs our migrations: on the connection it is given, in one transaction, never waiting long for a lock."""

from alembic import context
from sqlalchemy import text

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None, transaction_per_migration=False)
with context.begin_transaction():
    # A migration that cannot get its lock must fail and be tried again, not stop the whole ledger behind it.
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    connection.execute(text("SET LOCAL statement_timeout = '60s'"))
    context.run_migrations()

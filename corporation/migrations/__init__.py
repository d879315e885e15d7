"""The schema of the ledger and of the mailbox, as SQL, one file per step (ops/decisions/0001-schema-is-sql.md)."""

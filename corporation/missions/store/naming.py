"""Which mission a job_id names: every look-up by job_id asks it the same way (contract streams S-18)."""

from typing import Final

# A ledger from before `submitting.HOLD_NAMES` may know one name as both; then it is the mission's own.
NAMED: Final = """
    SELECT coalesce((SELECT n.id FROM corporation.missions n WHERE n.job_id = :job_id),
                    (SELECT a.mission_id FROM corporation.mission_aliases a WHERE a.job_id = :job_id))
"""
"""The ledger's number of the mission that has `:job_id`, else of the one that it is an alias of, else null."""

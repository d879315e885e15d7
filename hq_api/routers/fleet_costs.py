"""What the fleet spent (contract http §10)."""

from fastapi import APIRouter

router = APIRouter(tags=["fleet_costs"])

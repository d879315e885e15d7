"""What became of missions, and who works on what (contract http §10)."""

from fastapi import APIRouter

router = APIRouter(tags=["delegation"])

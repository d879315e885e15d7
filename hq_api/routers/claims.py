"""Missions are handed out over HTTPS (contract http §8)."""

from fastapi import APIRouter

router = APIRouter(tags=["claims"])

"""Pause, drain and resume a factory (contract http §6)."""

from fastapi import APIRouter

router = APIRouter(tags=["factory_control"])

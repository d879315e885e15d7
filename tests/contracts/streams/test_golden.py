"""The contract's own entries, byte for byte: our reader takes them, and our writers write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from corporation.delegation.codec import (
    DeadLetter,
    Readable,
    dead_letter_fields,
    mission_fields,
    read_entry,
    result_envelope,
    result_fields,
)
from corporation.envelope import MissionResultEnvelope, wire_result

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> str:
    """The envelope's text, without the newline that ends the file."""
    return (GOLDEN / f"{name}.json").read_text(encoding="ascii").removesuffix("\n")


def test_the_mission_is_read_as_it_was_meant_and_written_again_to_the_byte() -> None:
    """S-7, S-23."""
    read = read_entry("1780300800000-0", {b"envelope": golden("mission").encode()})

    assert isinstance(read, Readable)
    assert read.raw == golden("mission")
    assert (read.envelope.job_id, read.envelope.timeout_seconds) == ("7d0f3c52-6a0e-4c1e-9a57-1f6f0f1f0a11", 1800)
    assert read.envelope.payload.context == {"mission_kind": "coding_task", "target_factory_id": "desk-7"}
    assert mission_fields(json.loads(golden("mission")))["envelope"] == golden("mission")


def test_the_success_is_written_to_the_byte() -> None:
    """S-7, S-9, §7."""
    result = {
        "mission_id": "7d0f3c52-6a0e-4c1e-9a57-1f6f0f1f0a11",
        "mission_kind": "coding_task",
        "factory_id": "desk-7",
        "attempts": 1,
        "result_ref": "workspace://desk-7/7d0f3c52",
    }
    fields = result_fields(result_envelope(result["mission_id"], "succeeded", result, None))

    assert list(fields) == ["job_id", "status", "envelope"]
    assert fields["status"] == "SUCCESS"
    assert fields["envelope"] == golden("result_succeeded")


def test_the_cancellation_is_written_to_the_byte() -> None:
    """§7: a mission that was cancelled while it waited has no result of its own."""
    fields = result_fields(result_envelope("pause-0a1b2c3d4e5f", "cancelled", None, "stopped by operator"))

    assert fields["envelope"] == golden("result_cancelled")


@pytest.mark.parametrize("name", ["result_succeeded", "result_cancelled"])
def test_the_results_are_read_back_unchanged(name: str) -> None:
    read = MissionResultEnvelope.model_validate_json(golden(name))

    assert wire_result(read) == json.loads(golden(name))


@pytest.mark.parametrize("stored", ["raw", "envelope"])
def test_the_failure_is_written_to_the_byte(stored: str) -> None:
    """S-36, whether the mission came by the stream or not."""
    arrived: dict[str, Any] = json.loads(golden("dead_letter_failed"))
    error, count = arrived.pop("failure_error"), arrived.pop("retry_count")
    how: dict[str, Any] = (
        {"raw": json.dumps(arrived).encode()} if stored == "raw" else {"raw": None, "envelope": arrived}
    )
    fields = dead_letter_fields(DeadLetter(arrived["job_id"], error, count, "failed", **how))

    assert list(fields) == ["job_id", "envelope"]
    assert fields["envelope"] == golden("dead_letter_failed")


def test_the_malformed_entry_is_refused_and_written_to_the_byte() -> None:
    """S-37."""
    raw: str = json.loads(golden("dead_letter_malformed"))["raw"]
    read = read_entry("1-1", {b"envelope": raw.encode()})

    assert not isinstance(read, Readable)
    letter = DeadLetter(read.job_id, read.failure_error, 0, "malformed", read.raw)
    assert dead_letter_fields(letter) == {"job_id": "j-88", "envelope": golden("dead_letter_malformed")}

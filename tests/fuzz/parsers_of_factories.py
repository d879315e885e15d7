"""Parsers on a factory and at the command line: what HQ answers, what a mission orders, what people type."""

import gzip
import io
import os
import tarfile
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from hypothesis import strategies as st
from parsers import Parser
from parsers_of_messages import CLAIMED, KEYS, SECONDS, SIGNER, WHOLE
from strange_input import ANYTHING, data, documents, texts, written

from corporation.bootstrap_jobs import names
from corporation.cli import answers, audit, factories_control, reading, server_events, time_words
from corporation.cli.exits import Refusal
from corporation.errors import CorporationError
from corporation.federation import hq, hq_token
from corporation.trust import claimed_orders
from factory_tasks import heartbeat, mission_task, queue_look, redis_password, stop_orders, taken_messages
from factory_tasks.bootstrap_repo import bundle
from factory_tasks.bootstrap_repo.order import OrderRefusedError, read_order
from factory_tasks.pull import orders

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
INSTRUCTIONS: Final = {
    "cancel": [{"attempt_id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11", "job_id": "j", "reason": "no more"}],
    **{"desired_version": {"commit": "4f2a9c1"}, "paused": True, "draining": False, "shared_config_version": 7},
    **{"restart_workers": ["w1"], "rotate_redis_password": True},
}
CONTEXT: Final = {
    **{"git_url": "https://host/repo.git", "git_ref": "main", "repo_name": "tool", "python_version": "3.12"},
    **{"verify": ["python3", "-m", "unittest"], "template_variables": {"name": "x"}, "tutorial_title": "A title"},
}
BY_PATH: Final = {"tutorial_run_path": "youtube-tutorial-creation/run-5", "target_root": "repos"}


def _answer(status: int, content: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=content, headers=headers, request=httpx.Request("GET", "https://hq/"))


def _objects(*good: Any) -> st.SearchStrategy[Any]:
    """Documents that are objects, as every reader of an answer is given."""
    return documents(*good).filter(lambda value: isinstance(value, dict))


def _wishes(answer: Any) -> None:
    for name, value in heartbeat.wishes_in(answer).items():
        assert isinstance(value, str)
        (name + value).encode()  # the spool holds UTF-8


def _stops(answer: Any) -> None:
    for order in stop_orders.orders_in(answer):
        assert (order.attempt_id + order.why).isprintable()
        assert len(order.why) <= stop_orders.LONGEST_REASON
    why = stop_orders.why_to_stop(answer)
    assert why is None or why.isprintable()


def _claimed(answer: Any) -> None:
    trusted = orders.Trust(KEYS, NOW)
    for one in orders.read_claimed(answer, "desk-7", trusted):
        assert one.attempt_id == CLAIMED["attempt_id"]
    for one in orders.read_claimed(answer, "desk-7"):
        assert one.order.factory_id == "desk-7"


def _order(context: Any) -> None:
    order = read_order("j-1", "Make it", context)

    assert order.repo_name == names.clean_name(order.repo_name)


def _token(content: bytes) -> None:
    token, life = hq_token._read(_answer(200, content))  # pyright: ignore[reportPrivateUsage]
    assert token.isascii()
    assert 0 < life <= hq_token.LONGEST_LIFE_SECONDS


def _ends_in(folder: Path, path: Path) -> bool:
    """Whether everything that opens `path` stays below `folder`; links may lead in circles there."""
    return os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)


def _unpacked(packed: bytes) -> None:
    with TemporaryDirectory() as below:
        inside = Path(below) / "inside"
        inside.mkdir()
        try:
            bundle.unpack(packed, inside)
        finally:
            assert [path.name for path in Path(below).iterdir()] == ["inside"]
            assert all(_ends_in(inside, path) for path in inside.rglob("*"))


KINDS: Final = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)


@st.composite
def _bundles(draw: st.DrawFn) -> bytes:
    """Archives of files, folders, links and devices with all kinds of names, whole or not."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for _ in range(draw(st.integers(0, 4))):
            member = tarfile.TarInfo(draw(texts(bundle.SCRIPT, "implementation/x", "../x", "/etc/x")).replace("\0", ""))
            kinds = [
                tarfile.REGTYPE,
                tarfile.REGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.CHRTYPE,
            ]
            member.type = draw(st.sampled_from(kinds))
            member.linkname = draw(texts("..", "/etc", bundle.SCRIPT)).replace("\0", "")
            member.mode = draw(st.sampled_from([0o644, 0o755, 0o4755, 0, -1 & 0o7777]))
            content = draw(st.binary(max_size=20)) if member.isreg() else b""
            member.size = len(content)
            try:
                archive.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError):
                continue
    raw = plain.getvalue()
    if draw(st.booleans()):
        raw = draw(data(raw[:2048]))
    packed = gzip.compress(raw, compresslevel=1, mtime=0)
    return draw(data(packed)) if draw(st.booleans()) and len(packed) < 4096 else packed


def _events(lines: list[str]) -> None:
    for event in server_events.read_events(lines):
        assert isinstance(event.data, dict)


def _refusal(given: tuple[int, bytes]) -> None:
    answers.refusal_about("desk-7", _answer(*given), "https://hq", "UA_OPS_TOKEN")


def _waiting(header: str) -> None:
    answer = _answer(
        429, b"", **{"retry-after": header.encode("ascii", "replace").decode().replace("\n", "").replace("\r", "")}
    )

    assert 0 <= answers.seconds_to_wait(answer, 1, NOW) <= answers.LONGEST_WAIT_SECONDS


def _name(name: str) -> None:
    clean = names.clean_name(name)
    assert names.clean_name(clean) == clean
    assert "/" not in clean
    assert len(names.default_name(name, NOW)) <= names.LONGEST_NAME


def _given(read: Callable[[bytes, str], object]) -> Callable[[bytes], object]:
    return lambda raw: read(raw, "the file")


SIGNED_CLAIM: Final = {
    **CLAIMED,
    claimed_orders.FIELD: claimed_orders.signature_of(SIGNER, CLAIMED, "desk-7", SECONDS),
}
ORDER: Final = {
    **{"job_id": "m-1", "attempt": 1, "factory_id": "desk-7", "timeout_seconds": 60},
    "envelope": {"payload": {"task": "t", "context": {}}},
}

OF_FACTORIES: Final = [
    Parser("factory_tasks.heartbeat:wishes_in", _objects({"ok": True, "instructions": INSTRUCTIONS}), _wishes),
    Parser(
        "factory_tasks.stop_orders:orders_in",
        _objects({"instructions": INSTRUCTIONS}, {"cancel_requested": True, "cancel_reason": "x"}),
        _stops,
    ),
    Parser(
        "factory_tasks.stop_orders:read_order",
        st.tuples(st.one_of(ANYTHING, texts("5f2b6c1e")), ANYTHING),
        lambda said: stop_orders.read_order(*said),
    ),
    Parser(
        "factory_tasks.pull.orders:read_claimed",
        _objects({"attempts": [SIGNED_CLAIM], "paused": False}, {"attempts": [CLAIMED]}),
        _claimed,
    ),
    Parser(
        "factory_tasks.mission_task:read_order",
        _objects(ORDER),
        mission_task.read_order,
        (KeyError, TypeError, ValueError),
        echoes="whoever asks catches it and tells the class alone",
    ),
    Parser(
        "factory_tasks.bootstrap_repo.order:read_order",
        _objects(CONTEXT, BY_PATH, {"bundle_base64": b64encode(b"x").decode()}),
        _order,
        (OrderRefusedError,),
    ),
    Parser(
        "factory_tasks.bootstrap_repo.bundle:unpack",
        _bundles(),
        _unpacked,
        (OrderRefusedError, bundle.BundleUnreadableError),
        echoes="names the member of the bundle",
    ),
    Parser("factory_tasks.taken_messages:_attempt_of", written([WHOLE, "", "q"]), taken_messages._attempt_of),  # pyright: ignore[reportPrivateUsage]
    Parser("factory_tasks.queue_look:read_entry", written(WHOLE), queue_look.read_entry),
    Parser(
        "factory_tasks.redis_password:_password_in",
        _objects({"redis_user": "f_desk-7", "redis_password": "x" * 43}),
        redis_password._password_in,  # pyright: ignore[reportPrivateUsage]
        (CorporationError,),
    ),
    Parser(
        "corporation.federation.hq_token:_read",
        written({"token": "a.b.c", "ttl_seconds": 3600}),
        _token,
        (CorporationError,),
    ),
    Parser(
        "corporation.federation.hq:_cause_of",
        written({"detail": "not_current: the attempt is over"}),
        lambda content: hq._cause_of(_answer(409, content)),  # pyright: ignore[reportPrivateUsage]
    ),
    Parser("corporation.bootstrap_jobs.names:clean_name", texts("my repo", "..", "a/b"), _name),
    Parser(
        "corporation.cli.factories_control:seconds_of",
        texts("90s", "2h", "31d", "٣h"),
        factories_control.seconds_of,
        (Refusal,),
    ),
    Parser(
        "corporation.cli.audit:_moment", texts("1h", "2026-06-01", "90s"), audit._moment, (Refusal,), "what was typed"
    ),  # pyright: ignore[reportPrivateUsage]
    Parser("corporation.cli.time_words:how_long", ANYTHING, time_words.how_long),
    Parser("corporation.cli.reading:decoded", data(b"text"), _given(reading.decoded), (Refusal,)),
    Parser("corporation.cli.reading:json_object", written({"a": 1}), _given(reading.json_object), (Refusal,)),
    Parser(
        "corporation.cli.server_events:read_events",
        st.lists(texts("id: 1", "event: log", 'data: {"line": "x"}', ": still here", ""), max_size=8),
        _events,
    ),
    Parser(
        "corporation.cli.answers:refusal_about",
        st.tuples(
            st.sampled_from([400, 401, 403, 404, 409, 422, 500]),
            written(
                {"detail": "unknown_factory: x"}, {"detail": [{"loc": ["body", "a"], "msg": "m", "type": "missing"}]}
            ),
        ),
        _refusal,
    ),
    Parser("corporation.cli.answers:seconds_to_wait", texts("5", "Mon, 01 Jun 2026 00:00:05 GMT", "1e400"), _waiting),
]

"""Telegram's Bot API over real HTTP on loopback, for one bot: what a poller needs, and faults on demand.

As in the real one, an update is given again until a higher `offset` confirms it, a poll waits until there is something
to give, a newer poll ends an older one with 409, and a wrong token is 401.
"""

import json
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

HANG_UP: Final = 0
"""In place of a status: the connection ends without an answer."""

DESCRIPTIONS: Final = {
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    409: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    429: "Too Many Requests: retry later",
}


@dataclass(frozen=True)
class Fault:
    """What is answered instead of the truth."""

    status: int
    retry_after: int | None = None

    def body(self) -> dict[str, Any]:
        """The error as the Bot API writes it."""
        description = DESCRIPTIONS.get(self.status, "Internal Server Error")
        parameters = {"parameters": {"retry_after": self.retry_after}} if self.retry_after else {}
        return {"ok": False, "error_code": self.status, "description": description, **parameters}


class FakeTelegram:
    """A Bot API for the bot with `token`; use it with `with`, and then everything it waited for has ended."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.bot_id = int(token.partition(":")[0])
        self.sent: list[dict[str, str]] = []
        """The fields of every message that the bot sent and that was accepted, in order."""
        self.calls: Counter[str] = Counter()
        """How often each method was called, faults included."""
        self.offset = 0
        """All updates below it are confirmed."""
        self._updates: list[dict[str, Any]] = []
        self._again: list[dict[str, Any]] = []
        self._faults: dict[str, deque[Fault]] = {}
        self._next_update = 5000
        self._polls = 0
        self._closed = False
        self._changed = threading.Condition()
        self._server = _server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        """What belongs into UA_TELEGRAM_API_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, text: str, sender: int, chat: dict[str, Any] | None = None, **more: Any) -> int:
        """Somebody writes `text` in a private chat, or in `chat`; the id of the update."""
        message = self.message(text, sender, chat, **more)
        return self.deliver({"message": message})

    def message(self, text: str, sender: int, chat: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """A message as the Bot API describes it, with a command marked as one."""
        command = text.split(maxsplit=1)[0] if text.startswith("/") else ""
        entities = [{"type": "bot_command", "offset": 0, "length": len(command)}] if command else []
        person = {"id": sender, "is_bot": False, "first_name": f"Person {sender}"}
        private = {"id": sender, "type": "private", "first_name": f"Person {sender}"}
        fields = {"message_id": 1, "date": 1780300800, "chat": chat or private, "from": person}
        return {**fields, "text": text, "entities": entities, **more}

    def deliver(self, content: dict[str, Any], update_id: int | None = None) -> int:
        """An update with this content, to be given until it is confirmed; its id."""
        with self._changed:
            number = self._next_update if update_id is None else update_id
            self._next_update = max(self._next_update, number) + 1
            self._updates.append({"update_id": number, **content})
            self._changed.notify_all()
        return number

    def deliver_again(self, update_id: int, content: dict[str, Any]) -> None:
        """Give an update once more, confirmed or not, as a fault on Telegram's side would."""
        with self._changed:
            self._again.append({"update_id": update_id, **content})
            self._changed.notify_all()

    def fail(self, method: str, status: int, times: int = 1, retry_after: int | None = None) -> None:
        """The next `times` calls of `method` are answered with `status` (or HANG_UP); an open poll is, at once."""
        with self._changed:
            self._faults.setdefault(method, deque()).extend([Fault(status, retry_after)] * times)
            self._changed.notify_all()

    def said(self) -> list[str]:
        """The texts of all messages that the bot sent."""
        with self._changed:
            return [message["text"] for message in self.sent]

    def answer(self, token: str, method: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The status and the body for one call."""
        with self._changed:
            self.calls[method] += 1
            if token != self.token:
                return 401, Fault(401).body()
            if fault := self._fault(method):
                return fault.status, fault.body()
            return self._answers().get(method, self._unknown)(fields)

    def _answers(self) -> dict[str, Callable[[dict[str, str]], tuple[int, dict[str, Any]]]]:
        return {
            "getMe": lambda _: _ok({"id": self.bot_id, "is_bot": True, "first_name": "Bot", "username": "the_bot"}),
            "deleteWebhook": lambda _: _ok(True),
            "getUpdates": self._get_updates,
            "sendMessage": self._send_message,
        }

    def _unknown(self, _: dict[str, str]) -> tuple[int, dict[str, Any]]:
        return 404, {"ok": False, "error_code": 404, "description": "Not Found: method not found"}

    def _send_message(self, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.sent.append(fields)
        chat = {"id": int(fields["chat_id"]), "type": "private"}
        return _ok({"message_id": len(self.sent), "date": 1780300800, "chat": chat, "text": fields["text"]})

    def _get_updates(self, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self._polls += 1
        own, seconds = self._polls, int(fields.get("timeout", "0"))
        self.offset = max(self.offset, int(fields.get("offset", "0")))
        self._updates = [update for update in self._updates if update["update_id"] >= self.offset]
        self._changed.notify_all()

        def over() -> bool:
            return bool(self._updates or self._again or self._closed or self._polls > own or self._faults_of_polls())

        if seconds:
            self._changed.wait_for(over, timeout=seconds)
        if self._polls > own:
            return 409, Fault(409).body()
        if seconds and (fault := self._fault("getUpdates")):
            return fault.status, fault.body()
        given, self._again = [*self._again, *self._updates[: int(fields.get("limit", "100"))]], []
        return _ok(given)

    def _faults_of_polls(self) -> bool:
        return bool(self._faults.get("getUpdates"))

    def _fault(self, method: str) -> Fault | None:
        waiting = self._faults.get(method)
        return waiting.popleft() if waiting else None


def _ok(result: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"ok": True, "result": result}


def _server(telegram: FakeTelegram) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            fields = dict(parse_qsl(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()))
            bot, _, method = self.path.removeprefix("/bot").partition("/")
            status, body = telegram.answer(bot, method, fields)
            if status == HANG_UP:
                return
            content = json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:
                pass  # the bot hung up meanwhile, as it may

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the address holds the token."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # then closing waits for every answer under way
    return server

"""Which model provider every agent of this node uses, and what keeps it from being used (contract env §3, E-5, E-9).

Pure: values in, values out. No text that leaves here repeats a value, since an address or a slip may hold a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from corporation.errors import SettingsError

OVERRIDE: Final = "LLM_PROVIDER_OVERRIDE"
ZAI_WIRE: Final = "ZAI_WIRE"


class ProviderName(StrEnum):
    """The words that `LLM_PROVIDER_OVERRIDE` may say."""

    ZAI = "ZAI"
    ANTHROPIC = "ANTHROPIC"
    OPENAI = "OPENAI"
    OLLAMA = "OLLAMA"


class Wire(StrEnum):
    """How a provider is spoken to."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


@dataclass(frozen=True)
class LlmProvider:
    """A provider that can be used: nothing in it is secret, the key is read from the variable `key_name`."""

    name: ProviderName
    wire: Wire
    base_url: str
    """Without a slash at its end."""
    model: str
    key_name: str

    @property
    def needs_key(self) -> bool:
        """Whether it refuses requests without a key; a model on this machine asks for none."""
        return self.name is not ProviderName.OLLAMA


@dataclass(frozen=True)
class _Row:
    """The defaults of one provider on one wire, and the variable that moves its address."""

    wire: Wire
    base_url: str
    base_url_name: str
    model: str


_ROWS: Final[Mapping[ProviderName, tuple[_Row, ...]]] = {
    ProviderName.ZAI: (
        _Row(Wire.ANTHROPIC, "https://api.z.ai/api/anthropic", "ZAI_BASE_URL", "glm-4.6"),
        _Row(Wire.OPENAI, "https://api.z.ai/api/paas/v4", "ZAI_OPENAI_BASE_URL", "glm-4.6"),
    ),
    ProviderName.ANTHROPIC: (
        _Row(Wire.ANTHROPIC, "https://api.anthropic.com", "ANTHROPIC_BASE_URL", "claude-sonnet-4-5"),
    ),
    ProviderName.OPENAI: (_Row(Wire.OPENAI, "https://api.openai.com/v1", "OPENAI_BASE_URL", "gpt-5-mini"),),
    ProviderName.OLLAMA: (_Row(Wire.OPENAI, "http://127.0.0.1:11434/v1", "OLLAMA_BASE_URL", "qwen2.5-coder:7b"),),
}

_PRIVATE: Final = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def normalise(word: str | None) -> ProviderName | None:
    """The provider that `word` names, trimmed and in any case; None when it names none."""
    text = (word or "").strip()
    # Only ASCII: a dotless i would become a plain I, and a look-alike must name nothing.
    return ProviderName.__members__.get(text.upper()) if text.isascii() else None


def without_invalid_override(environ: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """`environ` with the override in its normal form, or without it and with a warning when it names no provider (D19).

    Doing it again changes nothing.
    """
    rest = {name: value for name, value in environ.items() if name != OVERRIDE}
    word = environ.get(OVERRIDE, "").strip()
    if not word:
        return rest, None
    if chosen := normalise(word):
        return rest | {OVERRIDE: str(chosen)}, None
    return rest, f"{OVERRIDE} names no provider and is ignored; allowed: {', '.join(ProviderName)}"


def with_key_aliases(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with the empty ones of each pair of key names filled from the other (E-5); a set one is never changed.

    `GROK_API_KEY` and `XAI_API_KEY` fill each other, `ZAI_API_KEY` fills `Z_AI_API_KEY`.
    """
    filled = dict(environ)
    for source, target in (
        ("GROK_API_KEY", "XAI_API_KEY"),
        ("XAI_API_KEY", "GROK_API_KEY"),
        ("ZAI_API_KEY", "Z_AI_API_KEY"),
    ):
        if filled.get(source, "").strip() and not filled.get(target, "").strip():
            filled[target] = filled[source]
    return filled


def choose(environ: Mapping[str, str]) -> LlmProvider | None:
    """The provider that every agent of this node uses, or None when no override is set.

    Raises SettingsError with `problem_of(environ)`, so that nobody holds a provider that must not be used.
    """
    if problem := problem_of(environ):
        raise SettingsError([problem])
    name = normalise(environ.get(OVERRIDE))
    if name is None:
        return None
    row = _row(name, environ)
    base_url = (_word(environ, row.base_url_name) or row.base_url).rstrip("/")
    return LlmProvider(name, row.wire, base_url, _word(environ, f"{name}_MODEL") or row.model, f"{name}_API_KEY")


def problem_of(environ: Mapping[str, str]) -> str | None:
    """Why the chosen provider cannot be used, on one line that names variables and no value; None when it can (E-9)."""
    name = normalise(environ.get(OVERRIDE))
    if name is None:
        return None
    problems = [_wrong_wire(name, environ), _wrong_address(name, environ), _wrong_model(name, environ)]
    return "; ".join(problem for problem in (_wrong_key(name, environ), *problems) if problem) or None


def _word(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _row(name: ProviderName, environ: Mapping[str, str]) -> _Row:
    wire = _word(environ, ZAI_WIRE).lower() or Wire.ANTHROPIC
    rows = _ROWS[name]
    return next((row for row in rows if row.wire == wire), rows[0])


def _wrong_wire(name: ProviderName, environ: Mapping[str, str]) -> str | None:
    word = _word(environ, ZAI_WIRE).lower()
    if name is not ProviderName.ZAI or not word or word in list(Wire):
        return None
    return f"{ZAI_WIRE} must be one of: {', '.join(Wire)}"


def _wrong_key(name: ProviderName, environ: Mapping[str, str]) -> str | None:
    key = environ.get(f"{name}_API_KEY", "")
    if not key.strip():
        if name is ProviderName.OLLAMA:
            return None
        return f"{name}_API_KEY is missing: {OVERRIDE} chooses {name}; set the key, or remove the override"
    # Such a key fails at the first request, and the HTTP client then repeats it in its error.
    fit = key.isascii() and key.isprintable() and " " not in key
    return None if fit else f"{name}_API_KEY holds a blank, a line break or a letter that no key has; copy it again"


def _wrong_model(name: ProviderName, environ: Mapping[str, str]) -> str | None:
    model = _word(environ, f"{name}_MODEL")
    if model.isascii() and model.isprintable() and " " not in model and len(model) <= 200:
        return None
    return f"{name}_MODEL must be a model's name without blanks, at most 200 characters long"


def _wrong_address(name: ProviderName, environ: Mapping[str, str]) -> str | None:
    variable = _row(name, environ).base_url_name
    url = _word(environ, variable)
    wrong = _wrong_with(url) if url else None
    return f"{variable} {wrong}" if wrong else None


def _wrong_with(url: str) -> str | None:
    """What is wrong with a base address; parsers disagree about backslashes and blanks, so neither may be there."""
    if not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        return "is no address: it holds a blank, a backslash, a control or a special letter"
    try:
        parts = urlsplit(url)
        _ = parts.port  # only reading it shows that it is no number
    except ValueError:
        return "is no address: its host or its port cannot be read"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must start with https:// or http:// and name a host"
    if "@" in parts.netloc:
        return "must hold neither user nor password; the key has a variable of its own"
    if "?" in url or "#" in url:
        return "must end with its path: nothing from ? or # on belongs to it"
    if parts.scheme == "http" and not _stays_near(parts.hostname):
        return "must start with https://; plain http is for localhost and private addresses like 10.8.0.1 only"
    return None


def _stays_near(host: str) -> bool:
    """Whether plain text to `host` leaves this machine or network; a name may point anywhere, so it is judged far."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return any(address in network for network in _PRIVATE)

"""Parsers of files and variables: what a person, another program or an older version of ours wrote."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final

from canary import secret
from hypothesis import strategies as st
from parsers import Parser
from pydantic import SecretStr
from strange_input import data, documents, texts, written

from corporation import roles, secret_values, variables
from corporation.agents.front_matter import FrontMatterError, read_front_matter
from corporation.agents.personas import personas_of
from corporation.agents.requirements import Surroundings, read_requirements
from corporation.agents.roster import read_roster
from corporation.bootstrap_jobs.runs import RunRefused, find
from corporation.broker_link import PasswordFile, PasswordFileError
from corporation.cli import membership
from corporation.cli.exits import Refusal
from corporation.embedded import stack_facts, valkey
from corporation.embedded.stack_state import StateFolder, StateFolderError
from corporation.errors import SettingsError
from corporation.factories.signs_of_life import WorkerSign
from corporation.masking import SHORTEST_IN_LOGS, Mask, secrets_of
from corporation.settings import Settings, load_settings, may_be_secret
from corporation.shown_address import shown, without_password
from corporation.trust import redis_address
from factory_tasks.bootstrap_repo import templates

NAMES: Final = sorted(
    {name for field in Settings.model_fields.values() for name in getattr(field.validation_alias, "choices", ())}
)
SKILL: Final = (
    b"---\nname: coder\ndescription: Writes code\ndomain: coding\nrequires:\n  programs: [git]\n---\nBe kind.\n"
)
DOTENV: Final = b'UA_OPS_TOKEN="abc"\nexport A=1\n# note\nB=\'x\n'
JOINED: Final = {
    **{"factory_id": "desk-7", "hq_base_url": "https://hq", "factory_credential": "fc_x", "factory_queue": "q"},
    **{"redis_url": "redis://f_desk-7@h:6379/0", "heartbeat_interval_seconds": 15, "mission_keys": ["k"]},
}
FACTS: Final = {
    **dict.fromkeys(("python", "host", "redis_url", "database_url", "ops_token", "jwt_secret", "flower_password"), "x"),
    **{"gateway_port": 8002, "flower_port": 5555, "shape": "whole", "redis_passwords": {"u": "p"}},
}
PASSWORD: Final = secret("in-an-address")
HERE: Final = Surroundings("/usr/bin", frozenset(), frozenset())


def _in_a_file(read: Callable[[Path], object], name: str = "file", mode: int = 0o600) -> Callable[[bytes], None]:
    """`read` is given a file that holds the bytes, in a folder of its own."""

    def held(content: bytes) -> None:
        with TemporaryDirectory() as below:
            path = Path(below) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
            read(path)

    return held


def _roster(path: Path) -> None:
    roster = read_roster(HERE, path.parent, path.parent)

    assert all(note.isprintable() for note in roster.notes)


def _settings(environ: dict[str, str]) -> None:
    load_settings(environ)


def _masked(text: str) -> None:
    """Every process masks its logs with what its settings hold, whatever that is."""
    own = Settings.model_construct(ops_token=SecretStr(text), redis_url_given=SecretStr(f"redis://{text}"))
    mask = Mask(secrets_of(own))
    assert text not in mask.text(f"<{text}>") or len(text.strip()) < SHORTEST_IN_LOGS or "://" in text


def _address(address: str) -> None:
    if f":{PASSWORD}@" in address:
        for of_it in (shown(address), without_password(address)):
            assert PASSWORD not in of_it
    assert without_password(without_password(address)) == without_password(address)


def _addresses() -> st.SearchStrategy[str]:
    """Addresses with a password between the colon and the at, among anything."""
    of_redis, of_postgres = f"redis://f_x:{PASSWORD}@h:6379/0", f"postgresql://u:{PASSWORD}@[::1]:5432/db?x=1"
    return texts(of_redis, of_postgres, f"https://:{PASSWORD}@h/p")


def _tried(url: str) -> None:
    """As enrolment does it with an address that the settings took."""
    try:
        settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_FACTORY_REDIS_URL": url})
    except SettingsError:
        return
    if settings.factory_redis_url and not redis_address.names_somebody(settings.factory_redis_url.get_secret_value()):
        told = redis_address.with_user(settings.factory_redis_url.get_secret_value(), "f_desk-7", "p/@:")
        assert redis_address.names_somebody(told)


def _slug(name: str) -> None:
    slug = roles.slug_of(name)

    assert roles.slug_of(slug) == slug
    assert not set(slug) & set("*?[]\\ \n\0")


def _joined(path: Path) -> None:
    membership.kept(StateFolder(path.parent))


def _facts(facts: Any) -> None:
    if isinstance(facts, dict):
        stack_facts.from_facts(Path("/nowhere"), facts, {})


def _read_facts(path: Path) -> None:
    StateFolder(path.parent).read_facts()


def _rendered(path: Path) -> None:
    templates.render_folder(path.parent, {"name": "tool", "other": 7})


def _persona(name: str) -> None:
    policy = roles.build_factory_runtime_policy(roles.FactoryRole.HEADQUARTERS)

    assert personas_of(policy, name).coder.isprintable()


def _run(path: str) -> None:
    with TemporaryDirectory() as below:
        found = find(Path(below), path)
        assert found.folder.is_relative_to(below)


def _environments() -> st.SearchStrategy[dict[str, str]]:
    values = texts("1", "redis://:x@h:6379/0", "postgresql://u:p@h/d", "HEADQUARTERS", "0.5", "https://a.example", "10")
    return st.dictionaries(st.sampled_from(NAMES), values.map(_as_the_system_gives_it), max_size=8)


def _as_the_system_gives_it(text: str) -> str:
    """`text` as a variable of a process: bytes without a NUL, of which those that are no UTF-8 become half pairs."""
    return text.replace("\0", "").encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


def _quiet(error: BaseException) -> str:
    """What would be printed of variables that may hold a secret; of others a short word is shown on purpose (E-3)."""
    assert isinstance(error, SettingsError)
    return "\n".join(problem for problem in error.problems if may_be_secret(problem.partition(":")[0]))


OF_FILES: Final = [
    Parser("corporation.settings:load_settings", _environments(), _settings, (SettingsError,), words=_quiet),
    Parser("corporation.shown_address:shown", _addresses(), _address),
    Parser(
        "corporation.masking:secrets_of",
        texts("redis://f_x:a long password@h", "https://[x").map(_as_the_system_gives_it),
        _masked,
    ),
    Parser("corporation.trust.redis_address:names_somebody", texts("redis://10.8.0.1:6379/0"), _tried),
    Parser("corporation.roles:slug_of", texts("desk-7", "Müller's PC"), _slug),
    Parser("corporation.roles:read_role", texts("headquarters", "LOCAL_WORKER"), roles.read_role),
    Parser("corporation.variables:read_flag", texts("yes", "0"), lambda word: variables.read_flag(word, True)),
    Parser("corporation.variables:read_optional_flag", texts("yes", "0"), variables.read_optional_flag),
    Parser("corporation.secret_values:read_dotenv", data(DOTENV), _in_a_file(secret_values.read_dotenv, ".env")),
    Parser(
        "corporation.agents.front_matter:read_front_matter",
        data(SKILL),
        _in_a_file(read_front_matter, "x.md"),
        (FrontMatterError,),
    ),
    Parser("corporation.agents.roster:read_roster", data(SKILL), _in_a_file(_roster, "x.md")),
    Parser(
        "corporation.agents.requirements:read_requirements",
        documents({"programs": ["git"], "environment": ["HOME"], "tools": []}),
        read_requirements,
        (FrontMatterError,),
    ),
    Parser("corporation.agents.personas:personas_of", texts("Codie", "\u202eevil"), _persona),
    Parser("corporation.cli.membership:kept", written(JOINED), _in_a_file(_joined, "factory.json"), (Refusal,)),
    Parser("corporation.embedded.stack_facts:from_facts", documents(FACTS), _facts),
    Parser(
        "corporation.embedded.stack_state:read_facts",
        written(FACTS),
        _in_a_file(_read_facts, "stack.json"),
        (StateFolderError,),
    ),
    Parser(
        "corporation.embedded.valkey:passwords_of",
        written({"f_x": "p"}),
        _in_a_file(lambda path: valkey.passwords_of(path.parent), valkey.PASSWORDS),
    ),
    Parser(
        "corporation.broker_link:get_credentials",
        data(b"a password\n"),
        _in_a_file(lambda path: PasswordFile("f_x", path).get_credentials()),
        (PasswordFileError,),
    ),
    Parser(
        "corporation.bootstrap_jobs.runs:find", texts("youtube-tutorial-creation/x", "../..", "~"), _run, (RunRefused,)
    ),
    Parser(
        "corporation.factories.signs_of_life:from_stored",
        st.just(WorkerSign("w", 1, 0, ("q",), 0.5, True).stored()),
        lambda kept: SimpleNamespace(same=WorkerSign.from_stored(kept)),
    ),
    Parser(
        "factory_tasks.bootstrap_repo.templates:render_folder",
        data(b"{{ name }} {% for x in range(3) %}{{ x }}{% endfor %}", b"{{ ''.__class__.__mro__ }}", b"{{ 'x' * 9 }}"),
        _in_a_file(_rendered, "{{ name }}.txt.jinja"),
        (templates.TemplateRefusedError,),
        echoes="a template's own words are what its author needs",
    ),
]

"""Which provider a node's agents use, and what refuses the start (contract env §3: D19, E-5, E-9; notes, agents §2)."""

import pytest
from canary import MARK, secret
from hypothesis import given
from hypothesis import strategies as st

from corporation.errors import SettingsError
from corporation.llm_provider import (
    LlmProvider,
    ProviderName,
    Wire,
    choose,
    normalise,
    problem_of,
    with_key_aliases,
    without_invalid_override,
)

KEY = secret("model-key")


def environment(name: str, **more: str) -> dict[str, str]:
    return {"LLM_PROVIDER_OVERRIDE": name, f"{name}_API_KEY": KEY, **more}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("ZAI", ProviderName.ZAI),
        (" anthropic\n", ProviderName.ANTHROPIC),
        ("OpenAi", ProviderName.OPENAI),
        ("ollama", ProviderName.OLLAMA),
        ("", None),
        (None, None),
        ("  ", None),
        ("GROK", None),
        ("ZAI,OPENAI", None),
        ("za\u0131", None),
        ("\ufeffZAI", None),
        ("__class__", None),
    ],
)
def test_a_word_names_a_provider_in_any_case_or_none(word: str | None, name: ProviderName | None) -> None:
    assert normalise(word) is name


def test_an_override_that_names_no_provider_is_a_warning_and_is_removed() -> None:
    """D19."""
    environ, warning = without_invalid_override({"LLM_PROVIDER_OVERRIDE": KEY, "PATH": "/bin"})

    assert environ == {"PATH": "/bin"}
    assert warning is not None
    assert all(name in warning for name in ("LLM_PROVIDER_OVERRIDE", *ProviderName))
    assert MARK not in warning


@pytest.mark.parametrize("word", ["", "  "])
def test_an_empty_override_is_no_override_and_no_warning(word: str) -> None:
    assert without_invalid_override({"LLM_PROVIDER_OVERRIDE": word}) == ({}, None)


def test_an_override_is_handed_on_in_its_normal_form() -> None:
    assert without_invalid_override({"LLM_PROVIDER_OVERRIDE": " zai "}) == ({"LLM_PROVIDER_OVERRIDE": "ZAI"}, None)


@pytest.mark.parametrize(
    ("environ", "wire", "base_url", "model"),
    [
        (environment("ZAI"), Wire.ANTHROPIC, "https://api.z.ai/api/anthropic", "glm-4.6"),
        (environment("ZAI", ZAI_WIRE=" OpenAI "), Wire.OPENAI, "https://api.z.ai/api/paas/v4", "glm-4.6"),
        (environment("ANTHROPIC"), Wire.ANTHROPIC, "https://api.anthropic.com", "claude-sonnet-4-5"),
        (environment("OPENAI"), Wire.OPENAI, "https://api.openai.com/v1", "gpt-5-mini"),
        (environment("OLLAMA"), Wire.OPENAI, "http://127.0.0.1:11434/v1", "qwen2.5-coder:7b"),
        (
            environment("OPENAI", OPENAI_BASE_URL="https://models.example/v1/", OPENAI_MODEL="house-1", ZAI_WIRE="x"),
            Wire.OPENAI,
            "https://models.example/v1",
            "house-1",
        ),
        (
            environment("ZAI", ZAI_WIRE="openai", ZAI_OPENAI_BASE_URL="https://a.example", ZAI_BASE_URL="ftp://b"),
            Wire.OPENAI,
            "https://a.example",
            "glm-4.6",
        ),
    ],
)
def test_the_provider_is_the_row_of_its_name_with_what_the_environment_moves(
    environ: dict[str, str], wire: Wire, base_url: str, model: str
) -> None:
    name = ProviderName(environ["LLM_PROVIDER_OVERRIDE"])

    assert choose(environ) == LlmProvider(name, wire, base_url, model, f"{name}_API_KEY")


def test_without_an_override_nothing_is_chosen_and_nothing_is_missing() -> None:
    assert choose({"ZAI_API_KEY": KEY, "ZAI_BASE_URL": "junk"}) is None
    assert problem_of({}) is None


@pytest.mark.parametrize("name", ["ZAI", "ANTHROPIC", "OPENAI"])
@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_a_chosen_provider_without_its_key_refuses_and_names_the_variable(name: str, key: str | None) -> None:
    """E-9."""
    environ = {"LLM_PROVIDER_OVERRIDE": name} | ({} if key is None else {f"{name}_API_KEY": key})

    assert f"{name}_API_KEY is missing" in (problem_of(environ) or "")
    with pytest.raises(SettingsError, match=f"{name}_API_KEY"):
        choose(environ)


def test_a_model_on_this_machine_needs_no_key() -> None:
    """E-9."""
    chosen = choose({"LLM_PROVIDER_OVERRIDE": "OLLAMA"})

    assert chosen is not None
    assert not chosen.needs_key


@pytest.mark.parametrize("spoilt", ["\n", " tail", "\x00", "\u00e9"])
def test_a_key_that_no_request_could_carry_refuses_the_start_unseen(spoilt: str) -> None:
    """E-4: the HTTP client would put it into the text of its error."""
    problem = problem_of(environment("OPENAI") | {"OPENAI_API_KEY": KEY + spoilt})

    assert problem is not None
    assert "OPENAI_API_KEY" in problem
    assert MARK not in problem


@pytest.mark.parametrize(
    "url",
    [
        "https://models.example/v1",
        "https://models.example:8443",
        "HTTPS://models.example",
        "http://localhost:11434/v1",
        "http://127.0.0.1:1",
        "http://127.8.0.1",
        "http://[::1]:11434/v1",
        "http://10.8.0.1:8000",
        "http://172.31.0.9",
        "http://192.168.1.20/v1",
        "http://[fd00::1]/v1",
        "  https://models.example  ",
    ],
)
def test_an_address_may_be_https_or_stay_on_this_machine_or_network(url: str) -> None:
    assert problem_of(environment("OPENAI", OPENAI_BASE_URL=url)) is None


@pytest.mark.parametrize(
    "url",
    [
        "models.example/v1",
        "ftp://models.example",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://:443/v1",
        "https://user@models.example",
        f"https://user:{KEY}@models.example",
        f"https://models.example/v1?key={KEY}",
        "https://models.example/v1#x",
        "https://models.example:x",
        "https://models.example:70000",
        "https://[::1",
        "https://models.example\\@127.0.0.1",
        "https://models.example/a b",
        "https://models.ex\nample",
        "https://mod\u00e8les.example",
        "http://models.example/v1",
        "http://localhost.models.example",
        "http://8.8.8.8",
        "http://172.32.0.1",
        "http://169.254.169.254/latest",
        "http://0.0.0.0:11434",
        "http://2130706433",
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://[::ffff:8.8.8.8]",
        "http://[fe80::1%25eth0]",
    ],
)
def test_an_address_that_could_leak_the_key_refuses_the_start_unseen(url: str) -> None:
    environ = environment("OPENAI", OPENAI_BASE_URL=url)
    problem = problem_of(environ)

    assert problem is not None
    assert problem.startswith("OPENAI_BASE_URL ")
    assert MARK not in problem
    with pytest.raises(SettingsError):
        choose(environ)


def test_all_problems_are_told_at_once() -> None:
    """E-3."""
    wrong = {"ZAI_WIRE": "smoke", "ZAI_BASE_URL": "ftp://x", "ZAI_MODEL": "two words"}
    problem = problem_of({"LLM_PROVIDER_OVERRIDE": "ZAI", **wrong})

    assert problem is not None
    assert all(name in problem for name in ("ZAI_API_KEY", *wrong))
    assert "\n" not in problem
    assert "anthropic, openai" in problem


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"GROK_API_KEY": KEY}, {"GROK_API_KEY": KEY, "XAI_API_KEY": KEY}),
        ({"XAI_API_KEY": KEY, "GROK_API_KEY": " "}, {"XAI_API_KEY": KEY, "GROK_API_KEY": KEY}),
        ({"GROK_API_KEY": "a", "XAI_API_KEY": "b"}, {"GROK_API_KEY": "a", "XAI_API_KEY": "b"}),
        ({"ZAI_API_KEY": KEY}, {"ZAI_API_KEY": KEY, "Z_AI_API_KEY": KEY}),
        ({"ZAI_API_KEY": "a", "Z_AI_API_KEY": "b"}, {"ZAI_API_KEY": "a", "Z_AI_API_KEY": "b"}),
        ({"Z_AI_API_KEY": KEY}, {"Z_AI_API_KEY": KEY}),
        ({"GROK_API_KEY": ""}, {"GROK_API_KEY": ""}),
        ({}, {}),
    ],
)
def test_a_key_fills_the_empty_name_beside_it(before: dict[str, str], after: dict[str, str]) -> None:
    """E-5."""
    given_first = dict(before)

    assert with_key_aliases(before) == after
    assert before == given_first
    assert with_key_aliases(after) == after


@given(st.text())
def test_no_word_makes_an_override_that_nobody_allowed(word: str) -> None:
    environ, warning = without_invalid_override({"LLM_PROVIDER_OVERRIDE": word})

    assert environ.get("LLM_PROVIDER_OVERRIDE") in (None, *ProviderName)
    assert (warning is not None) == (bool(word.strip()) and "LLM_PROVIDER_OVERRIDE" not in environ)
    assert without_invalid_override(environ) == (environ, None)


@given(st.text())
def test_no_address_is_repeated_or_breaks_the_judge(url: str) -> None:
    problem = problem_of(environment("OPENAI", OPENAI_BASE_URL=f"{url}{MARK}"))

    assert problem is None or MARK not in problem

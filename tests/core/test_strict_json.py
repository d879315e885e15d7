"""JSON from strangers is either one plain document or a refusal with a code, never a crash and never a guess."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corporation.strict_json import JsonRefused, Limits, dump, parse


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


REFUSALS = [
    (b"", "invalid_json"),
    (b" \n\t", "invalid_json"),
    (b'{"a": "b', "invalid_json"),
    (b'{"a": 1} x', "invalid_json"),
    (b"{}{}", "invalid_json"),
    (b"\xef\xbb\xbf{}", "invalid_json"),
    (b'{"a": "\n"}', "invalid_json"),
    (b"{'a': 1}", "invalid_json"),
    (b'{"a": 01}', "invalid_json"),
    (b'{"a": 1,}', "invalid_json"),
    ('{"a": 1}'.encode("utf-16"), "invalid_utf8"),
    ('{"a": 1}'.encode("utf-16-le"), "invalid_utf8"),
    ('{"a": 1}'.encode("utf-32"), "invalid_utf8"),
    (b'{"a": "\xff"}', "invalid_utf8"),
    (b'{"a": "\xed\xa0\x80"}', "invalid_utf8"),
    (b'{"a": 1, "a": 1}', "duplicate_key"),
    (b'{"a": 1, "\\u0061": 1}', "duplicate_key"),
    (b'{"a": NaN}', "non_finite_number"),
    (b"[Infinity]", "non_finite_number"),
    (b"[-Infinity]", "non_finite_number"),
    (b"[1e999]", "non_finite_number"),
    (b"[-1e999]", "non_finite_number"),
    (str(2**53).encode(), "integer_out_of_range"),
    (str(-(2**53)).encode(), "integer_out_of_range"),
    (b"9" * 5000, "integer_out_of_range"),
    (nested(17), "json_too_deep"),
    (nested(100_000), "json_too_deep"),
    (b"[" * 100_000, "json_too_deep"),
    (b'{"a":' * 100_000, "json_too_deep"),
]


@pytest.mark.parametrize(("text", "code"), REFUSALS, ids=[f"{n}-{code}" for n, (_, code) in enumerate(REFUSALS)])
def test_what_is_not_one_plain_document_is_refused_with_its_cause(text: bytes, code: str) -> None:
    with pytest.raises(JsonRefused) as refusal:
        parse(text)

    assert refusal.value.code == code


def test_a_document_at_every_limit_is_read() -> None:
    assert parse(nested(16)) is not None
    assert parse(f"[{2**53 - 1}, {-(2**53 - 1)}]".encode()) == [2**53 - 1, -(2**53 - 1)]
    assert parse(nested(3), Limits(depth=3)) == [[[]]]


def test_brackets_inside_strings_count_as_text() -> None:
    text = json.dumps({"a": "[{" * 100 + '"\\"' + "[" * 100}).encode()

    assert parse(text) == json.loads(text)


def test_a_refusal_does_not_repeat_what_it_refuses() -> None:
    with pytest.raises(JsonRefused) as refusal:
        parse(b'{"token": "hunter2-very-secret" oops}')

    assert "hunter2" not in str(refusal.value)
    assert "oops" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a"', "Expecting ':' delimiter (line 1 column 5)"),
        (b'{"a": 1', "Expecting ',' delimiter (line 1 column 8)"),
        (b'{"hunter2\\q": 1}', "Invalid \\escape (line 1 column 10)"),
        (b"[1] 2", "unexpected text after the document (line 1 column 5)"),
    ],
)
def test_a_refusal_says_what_was_expected_and_where(text: bytes, said: str) -> None:
    with pytest.raises(JsonRefused) as caught:
        parse(text)
    assert caught.value.message == said


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_a_refusal(data: bytes) -> None:
    with contextlib.suppress(JsonRefused):
        parse(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_what_we_write_reads_back_as_the_same_value(value: object) -> None:
    text = dump(value)

    assert text.isascii()
    assert parse(text.encode(), Limits(depth=64)) == value


def test_the_text_has_sorted_keys_and_spaces_as_the_wire_contract_says() -> None:
    assert dump({"b": [1, None], "a": {"d": "é", "c": True}}) == '{"a": {"c": true, "d": "\\u00e9"}, "b": [1, null]}'


def test_a_number_that_is_none_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(float("nan"))

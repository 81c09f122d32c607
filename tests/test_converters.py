from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.converters import (
    group_id,
    octal_mode,
    one_of,
    text_with_escapes,
    user_id,
    whole_number,
    yes_or_no,
)

ANY_TEXT = st.text(st.characters())  # also what is not valid Unicode, as os.fsdecode gives it
DIGITS = st.text("0123456789abo-+_ xX.", max_size=8)
BACKSLASHES = st.text("\\nrt0xX1fq\n ", max_size=12)

CONVERTERS = [
    whole_number(),
    whole_number(least=3),
    whole_number(0, 65535),
    octal_mode,
    yes_or_no,
    one_of("plain", "json"),
    text_with_escapes,
]


@given(converter=st.sampled_from(CONVERTERS), text=ANY_TEXT | DIGITS | BACKSLASHES)
def test_a_converter_raises_nothing_but_a_value_error_of_one_line(
    converter: Callable[[str], Any], text: str
) -> None:
    said = ""
    try:
        converter(text)
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@given(
    converter=st.sampled_from(CONVERTERS[:5]),
    text=ANY_TEXT | DIGITS | st.sampled_from(["yes", "OFF", "0o644", "12"]),
)
def test_a_converter_takes_the_value_that_it_returns(
    converter: Callable[[Any], Any], text: str
) -> None:
    try:
        value = converter(text)
    except ValueError:
        return
    assert converter(value) == value


@given(st.integers(), st.integers(), st.integers())
def test_a_whole_number_is_taken_exactly_within_its_range(
    number: int, least: int, most: int
) -> None:
    convert = whole_number(least, most)
    if least <= number <= most:
        assert convert(str(number)) == convert(number) == number
    else:
        with pytest.raises(ValueError, match=f"^{number} is not a whole number from {least} to"):
            convert(str(number))


def test_a_whole_number_has_a_lower_bound_alone() -> None:
    convert = whole_number(least=1)
    assert convert("1") == 1
    with pytest.raises(ValueError, match=r"^0 is not a whole number, 1 or more$"):
        convert("0")


@pytest.mark.parametrize("text", ["", "1.5", "eighty", "0x10", "1 2"])
def test_what_is_no_number_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is not a whole number")):
        whole_number()(text)


@given(st.integers(0, 0o777))
def test_every_file_mode_is_read_in_octal(mode: int) -> None:
    assert octal_mode(f"{mode:o}") == mode
    assert octal_mode(f"{mode:04o}") == mode
    assert octal_mode(f"0o{mode:03o}") == mode
    assert octal_mode(mode) == mode


@pytest.mark.parametrize("value", ["999", "1777", "8", "", "-1", "0x1", " 600", "6_0", "rw-"])
def test_what_is_no_file_mode_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a file mode"):
        octal_mode(value)


@pytest.mark.parametrize("value", [-1, 0o1000])
def test_a_number_that_is_no_file_mode_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="is not a file mode"):
        octal_mode(value)


@pytest.mark.parametrize(
    ("words", "value"),
    [(["yes", "Yes", "TRUE", "on", "1"], True), (["no", "No", "false", "OFF", "0"], False)],
)
def test_yes_and_no_have_their_words(words: list[str], value: bool) -> None:
    assert [yes_or_no(word) for word in words] == [value] * len(words)


@pytest.mark.parametrize("text", ["", "y", "2", " yes", "maybe"])
def test_other_words_are_neither_yes_nor_no(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} is neither yes nor no")):
        yes_or_no(text)


def test_one_of_names_the_words_that_there_are() -> None:
    convert = one_of("plain", "json")
    assert convert("json") == "json"
    with pytest.raises(ValueError, match=r"^'xml' is not one of plain, json$"):
        convert("xml")


@given(ANY_TEXT)
def test_text_without_a_backslash_stays_as_it_is(text: str) -> None:
    text = text.replace("\\", "/")
    assert text_with_escapes(text) == text


@given(st.text(st.characters(max_codepoint=255)))
def test_characters_written_as_escapes_come_back(text: str) -> None:
    assert text_with_escapes("".join(f"\\x{ord(each):02x}" for each in text)) == text


@given(ANY_TEXT)
def test_text_with_its_backslashes_doubled_comes_back(text: str) -> None:
    assert text_with_escapes(text.replace("\\", "\\\\")) == text


def test_every_named_escape_stands_for_its_character() -> None:
    assert text_with_escapes(r"a\n\r\t\0\\n\x4ab") == "a\n\r\t\0\\nJb"


@pytest.mark.parametrize("text", ["\\", "a\\", "\\q", "\\x", "\\x4", "\\xg0", "\\\n"])
def test_any_other_escape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an escape"):
        text_with_escapes(text)


def test_users_and_groups_have_names_and_numbers() -> None:
    assert user_id("root") == user_id("0") == 0
    assert group_id("root") == group_id("0") == 0
    assert user_id("12345") == 12345


@pytest.mark.parametrize(
    "text", ["4294967295", "9" * 20, "no such one", "", "-1", "x\0y", "\u0663"]
)
def test_a_user_or_group_that_is_not_there(text: str) -> None:
    with pytest.raises(ValueError, match="there is no user"):
        user_id(text)
    with pytest.raises(ValueError, match="there is no group"):
        group_id(text)

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Optional

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.converters import whole_number
from sockservices.options import DeclaredOption, OptionError, build, declared_options, option


@attrs.define
class Attrs:
    word: str = option(help="A word.")
    max_size: int = option(default=8, converter=whole_number(least=1), help="In bytes.")
    loud: bool = option(default=False, help="Say it loudly.")
    where: Path | None = option(default=None, help="A file.")  # noqa: RUF009
    hidden: int = attrs.field(init=False, default=0)


@dataclasses.dataclass
class Data:
    word: str
    times: int = 2
    loud: bool = False
    parts: list[str] = dataclasses.field(default_factory=list)


class Plain:
    def __init__(
        self,
        word: str,
        times: int = 2,
        pace: float = 1.5,
        raw: bytes = b"",
        where: Optional[Path] = None,  # noqa: UP045 - the older spelling is read as well
        quiet: bool = True,
        **_others: Any,
    ) -> None:
        self.all = (word, times, pace, raw, where, quiet)


def _by_name(factory: Any) -> dict[str, DeclaredOption]:
    return {each.name: each for each in declared_options(factory)}


def test_the_fields_of_an_attrs_class_are_options_in_their_order() -> None:
    assert list(_by_name(Attrs)) == ["word", "max-size", "loud", "where"]


def test_an_attrs_field_has_its_help_default_and_type() -> None:
    declared = _by_name(Attrs)["max-size"]
    assert declared.argument == "max_size"
    assert declared.help == "In bytes."
    assert declared.default == 8
    assert declared.type is int
    assert _by_name(Attrs)["where"].type is Path


def test_a_bool_that_is_off_is_a_flag_and_one_that_is_on_is_none() -> None:
    assert _by_name(Attrs)["loud"].is_flag
    assert _by_name(Data)["loud"].is_flag
    assert not _by_name(Plain)["quiet"].is_flag


def test_an_option_without_a_default_is_required() -> None:
    for factory in (Attrs, Data, Plain):
        assert _by_name(factory)["word"].default is attrs.NOTHING
        with pytest.raises(OptionError, match="needs --word"):
            build(factory, {})


def test_an_attrs_class_is_built_from_text() -> None:
    built = build(Attrs, {"word": "a", "max-size": "9", "loud": "yes", "where": "/x"})
    assert built == Attrs(word="a", max_size=9, loud=True, where=Path("/x"))


def test_a_dataclass_is_built_from_text() -> None:
    assert build(Data, {"word": "a", "times": "3", "loud": "on"}) == Data("a", 3, True)


def test_a_plain_class_is_built_from_text_by_its_annotations() -> None:
    texts = {"word": "a", "times": "3", "pace": ".5", "raw": "é", "where": "x", "quiet": "no"}
    assert build(Plain, texts).all == ("a", 3, 0.5, "é".encode(), Path("x"), False)


def test_a_plain_class_has_no_option_for_what_it_takes_beside() -> None:
    assert list(_by_name(Plain)) == ["word", "times", "pace", "raw", "where", "quiet"]


def test_a_function_is_a_factory() -> None:
    def make(word: str, times: int = 1) -> str:
        return word * times

    assert build(make, {"word": "a", "times": "3"}) == "aaa"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("times", "three", "--times: 'three' is not a whole number"),
        ("pace", "fast", "--pace: 'fast' is not a number"),
        ("quiet", "perhaps", "--quiet: 'perhaps' is neither yes nor no"),
    ],
)
def test_a_value_that_cannot_be_taken_is_named(name: str, text: str, line: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(Plain, {"word": "a", name: text})
    assert str(caught.value) == line


def test_a_converter_of_a_field_refuses_with_its_own_words() -> None:
    with pytest.raises(OptionError, match=r"^--max-size: 0 is not a whole number, 1 or more$"):
        _by_name(Attrs)["max-size"].value("0")


def test_a_name_that_is_not_declared_is_refused_with_those_that_are() -> None:
    with pytest.raises(OptionError, match=r"^Attrs has no option 'size'; it has: word, max-size, "):
        build(Attrs, {"size": "1"})


class Raises:
    def __init__(self, what: str = "") -> None:
        if what == "missing":
            open("/nowhere/at/all").close()
        if what == "empty":
            raise RuntimeError
        raise RuntimeError("first\nsecond")


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("missing", "Raises could not be built: /nowhere/at/all: No such file or directory"),
        ("empty", "Raises could not be built: RuntimeError: no reason given"),
        ("else", "Raises could not be built: RuntimeError: first"),
    ],
)
def test_what_a_factory_raises_is_one_line(what: str, line: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(Raises, {"what": what})
    assert str(caught.value) == line


@given(st.dictionaries(st.sampled_from(sorted(_by_name(Plain))), st.text(st.characters())))
def test_building_raises_nothing_but_an_option_error(texts: dict[str, str]) -> None:
    try:
        built = build(Plain, texts)
    except OptionError:
        return
    assert built.all[0] == texts["word"]


def test_types_that_only_a_checker_sees_leave_the_text_as_it_is() -> None:
    def make(word: OnlyForCheckers) -> Any:  # type: ignore[name-defined] # noqa: F821
        return word

    assert build(make, {"word": "7"}) == "7"


def test_what_has_no_signature_declares_nothing() -> None:
    assert declared_options(object()) == []  # type: ignore[arg-type]

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Optional

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockservices.converters import octal_mode, whole_number
from sockservices.errors import SettingError
from sockservices.settings import (
    Setting,
    Source,
    build,
    from_environment,
    setting,
    settings_of,
    spelled_as_option,
)


@attrs.define
class Attrs:
    word: str = setting(help="A word.")
    max_size: int = setting(default=8, converter=whole_number(least=1), help="In bytes.")
    loud: bool = setting(default=False, help="Say it loudly.")
    where: Path | None = setting(default=None, help="A file.")
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


def _built(factory: Any, given: dict[str, str]) -> Any:
    return build(factory, Source(given, spelled_as_option))


def _by_name(factory: Any) -> dict[str, Setting]:
    return {each.name: each for each in settings_of(factory)}


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
        with pytest.raises(SettingError, match="needs --word"):
            _built(factory, {})


def test_an_attrs_class_is_built_from_text() -> None:
    built = _built(Attrs, {"word": "a", "max_size": "9", "loud": "yes", "where": "/x"})
    assert built == Attrs(word="a", max_size=9, loud=True, where=Path("/x"))


def test_a_dataclass_is_built_from_text() -> None:
    assert _built(Data, {"word": "a", "times": "3", "loud": "on"}) == Data("a", 3, True)


def test_a_plain_class_is_built_from_text_by_its_annotations() -> None:
    texts = {"word": "a", "times": "3", "pace": ".5", "raw": "é", "where": "x", "quiet": "no"}
    assert _built(Plain, texts).all == ("a", 3, 0.5, "é".encode(), Path("x"), False)


def test_a_plain_class_has_no_option_for_what_it_takes_beside() -> None:
    assert list(_by_name(Plain)) == ["word", "times", "pace", "raw", "where", "quiet"]


def test_a_function_is_a_factory() -> None:
    def make(word: str, times: int = 1) -> str:
        return word * times

    assert _built(make, {"word": "a", "times": "3"}) == "aaa"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("times", "three", "--times: 'three' is not a whole number"),
        ("pace", "fast", "--pace: 'fast' is not a number"),
        ("quiet", "perhaps", "--quiet: 'perhaps' is neither yes nor no"),
    ],
)
def test_a_value_that_cannot_be_taken_is_named(name: str, text: str, line: str) -> None:
    with pytest.raises(SettingError) as caught:
        _built(Plain, {"word": "a", name: text})
    assert str(caught.value) == line


def test_a_converter_of_a_field_refuses_with_its_own_words() -> None:
    with pytest.raises(SettingError, match=r"^--max-size: 0 is not a whole number, 1 or more$"):
        _built(Attrs, {"word": "", "max_size": "0"})


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
        ("empty", r"Raises could not be built: RuntimeError \(.*test_settings.py:\d+\)"),
        ("else", r"Raises could not be built: RuntimeError: first \(.*test_settings.py:\d+\)"),
    ],
)
def test_what_a_factory_raises_is_one_line(what: str, line: str) -> None:
    with pytest.raises(SettingError) as caught:
        _built(Raises, {"what": what})
    assert re.fullmatch(line, str(caught.value))


@given(st.dictionaries(st.sampled_from(sorted(_by_name(Plain))), st.text(st.characters())))
def test_building_raises_nothing_but_an_option_error(texts: dict[str, str]) -> None:
    try:
        built = _built(Plain, texts)
    except SettingError:
        return
    assert built.all[0] == texts["word"]


def test_types_that_only_a_checker_sees_leave_the_text_as_it_is() -> None:
    def make(word: OnlyForCheckers) -> Any:  # type: ignore[name-defined] # noqa: F821
        return word

    assert _built(make, {"word": "7"}) == "7"


def test_what_has_no_signature_declares_nothing() -> None:
    assert settings_of(object()) == []  # type: ignore[arg-type]


# What it means to declare one


@attrs.frozen
class Declared:
    many: tuple[int, ...] = setting(
        help="Several.", repeated=True, converter=whole_number(1), unit="things"
    )
    most: int | None = setting(default=None, help="A limit.", converter=whole_number(1))
    how: str = setting(default="refuse", help="What then.", needs=("most", "many"))
    mode: int = setting(default="600", help="In octal.", converter=octal_mode, changeable=False)


_Declared: Any = Declared  # takes text where a checker wants the value


def test_a_value_is_held_to_the_same_rules_as_a_text() -> None:
    assert _Declared(many=["1", 2], most="3") == _Declared(many=(1, 2), most=3)
    assert _Declared().mode == 0o600
    for wrong, line in (
        ({"many": [1, 0]}, "many: 0 is not a whole number, 1 or more"),
        ({"most": "x"}, "most: 'x' is not a whole number, 1 or more"),
        ({"most": object}, "most: "),
        ({"how": "wait"}, "how goes with most or many"),
    ):
        with pytest.raises(SettingError) as caught:
            _Declared(**wrong)
        assert str(caught.value).startswith(line)


def test_one_that_goes_with_others_needs_one_of_them() -> None:
    assert _Declared(how="wait", many=[1]).how == _Declared(how="wait", most=1).how == "wait"
    assert _Declared(how="refuse").how == "refuse"  # as it is anyway


def test_one_text_for_a_repeated_setting_is_one_value() -> None:
    assert _Declared(many="7").many == (7,)


def test_a_setting_shows_its_unit_and_what_else_there_is_to_know() -> None:
    shown = {each.option: each.described() for each in settings_of(Declared)}
    assert shown["--most=NUMBER"] == "A limit."
    assert shown["--many=THINGS"] == "Several. Can be repeated."
    assert shown["--mode=NUMBER"] == "In octal. [default: 600]"


def test_what_can_change_while_a_service_runs_is_declared() -> None:
    assert {each.name for each in settings_of(Declared) if not each.is_changeable} == {"mode"}


# The environment


def _environment(prefix: str, **variables: str) -> Source:
    return from_environment(settings_of(Declared), prefix, variables)


def test_a_variable_is_named_after_its_service_and_the_setting() -> None:
    found = _environment("sock-echo", SOCK_ECHO_MOST="5", SOCK_ECHO_MANY="1 2", OTHER_MOST="9")
    assert found.given == {"most": "5", "many": ["1", "2"]}
    assert build(Declared, found) == _Declared(most=5, many=(1, 2))


def test_the_first_source_wins() -> None:
    command_line = Source({"most": "1"}, spelled_as_option)
    own = _environment("sock-echo", SOCK_ECHO_MOST="2", SOCK_ECHO_HOW="own")
    every = _environment("sockservices", SOCKSERVICES_HOW="every", SOCKSERVICES_MANY="3")
    assert build(Declared, command_line, own, every) == _Declared(most=1, how="own", many=(3,))


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"X_MOST": "many"}, "X_MOST: 'many' is not a whole number, 1 or more"),
        ({"X_MANY": "1 0"}, "X_MANY: 0 is not a whole number, 1 or more"),
        ({"X_MANY": "1 '2"}, 'X_MANY: "1 \'2" has a quote that is not closed'),
        ({"X_HOW": "wait"}, "X_HOW goes with --most or --many"),
    ],
)
def test_a_bad_value_names_its_variable(variables: dict[str, str], line: str) -> None:
    with pytest.raises(SettingError) as caught:
        build(Declared, _environment("x", **variables))
    assert str(caught.value) == line


def test_an_empty_variable_is_none() -> None:
    assert _environment("x", X_MOST="", X_MANY="").given == {}


@given(st.lists(st.text(st.characters(exclude_characters="'\0"), min_size=1), min_size=1))
def test_any_values_can_stand_in_one_variable(values: list[str]) -> None:
    quoted = " ".join(f"'{each}'" for each in values)
    [each] = [each for each in settings_of(Declared) if each.is_repeated]
    assert from_environment([each], "x", {"X_MANY": quoted}).given == {"many": values}


@pytest.mark.parametrize(
    "wrong",
    [
        {"most": 2.7},
        {"most": float("inf")},
        {"most": b"7"},
        {"many": 1.5},
        {"many": b"12"},
        {"mode": 1.0},
    ],
)
def test_a_value_of_a_wrong_type_is_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=rf"^{next(iter(wrong))}: "):
        _Declared(**wrong)


def test_a_repeated_setting_takes_any_collection_and_one_value() -> None:
    for many in ((1, 2), [1, 2], iter([1, 2]), (each for each in (1, 2))):
        assert _Declared(many=many).many == (1, 2)
    assert _Declared(many=7).many == (7,)

from __future__ import annotations

import functools
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol

from sockservices.errors import SettingError
from sockservices.service import (
    IDatagramFactory,
    Served,
    builder,
    datagram_builder,
    is_datagram_protocol,
    name_of,
)
from sockservices.services.echo import EchoFactory
from sockservices.settings import Source, spelled_as_option
from tests.served import (
    Bare,
    DatagramFactory,
    Datagrams,
    Streams,
    built,
    built_datagram_factory,
    built_datagrams,
)


@pytest.mark.parametrize(
    ("found", "streams", "datagrams"),
    [
        (Streams, True, False),
        (Bare, True, False),
        (Datagrams, False, True),
        (DatagramFactory, False, True),
        (EchoFactory, True, True),
        (built, True, False),
        (EchoFactory(), True, True),
        (built_datagrams, False, True),
        (built_datagram_factory, False, True),
    ],
)
def test_what_an_object_serves_is_found_out(found: Any, streams: bool, datagrams: bool) -> None:
    kinds = Served.of("x", found)
    assert (kinds.stream is not None, kinds.datagram is not None) == (streams, datagrams)
    assert kinds.first == ("stream" if streams else "datagram")


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (object, "the class object"),
        (object(), "an object"),
        ("text", "a str"),
        (None, "None"),
        (Bare(), "a Bare"),
    ],
)
def test_what_serves_nothing_is_refused(found: Any, what: str) -> None:
    with pytest.raises(SettingError, match=f"^x is {what}; expected a protocol factory, a "):
        Served.of("x", found)
    for kind in ("stream", "datagram"):
        with pytest.raises(SettingError, match=f"^x is {what}; expected a (protocol|datagram) "):
            builder(kind, "x", found)


@pytest.mark.parametrize(
    ("kind", "found", "line"),
    [
        ("stream", Datagrams, "x is a datagram protocol; declare it as datagram="),
        ("stream", built_datagrams, "x is a datagram protocol; declare it as datagram="),
        ("stream", DatagramFactory, "x is the class DatagramFactory; declare it as datagram="),
        ("datagram", Streams, "x is a protocol factory; declare it as stream="),
        ("datagram", Bare, "x is the class Bare; declare it as stream="),
    ],
)
def test_what_serves_the_other_kind_is_refused(kind: Any, found: Any, line: str) -> None:
    with pytest.raises(SettingError) as caught:
        builder(kind, "x", found)
    assert str(caught.value) == line


def make(mark: str = "?"):  # type: ignore[no-untyped-def]
    return Streams(mark)


def make_streams() -> Streams:
    return Streams()


def make_datagrams(mark: str = "?") -> Datagrams:
    return Datagrams(mark)


def make_by_interface() -> IDatagramFactory:
    return DatagramFactory()


def make_both() -> EchoFactory:
    return EchoFactory()


def make_none(what: str = "") -> Any:
    return {"class": Streams, "other": built_datagrams}.get(what)


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (make, {"stream"}),
        (make_streams, {"stream"}),
        (functools.partial(make, "!"), {"stream"}),
        (make_datagrams, {"datagram"}),
        (make_by_interface, {"datagram"}),
        (make_both, {"stream", "datagram"}),
        (make_none, {"stream"}),
        (dict.fromkeys, {"stream"}),
    ],
)
def test_a_function_serves_what_it_says_that_it_returns(function: Any, kinds: set[str]) -> None:
    served = Served.of("x", function)
    assert {kind for kind in ("stream", "datagram") if getattr(served, kind) is function} == kinds


def test_a_function_is_called_with_its_arguments() -> None:
    stream, _ = Served.of("x", make).build(_given(mark="."))
    assert (type(stream), stream.mark) == (Streams, ".")
    _, datagram = Served.of("x", make_datagrams).build(_given(mark="."))
    assert datagram().mark == "."
    stream, datagram = Served.of("x", make_both).build()
    assert stream is datagram


@pytest.mark.parametrize(
    ("kind", "what", "line"),
    [
        ("stream", "", "make_none returned None; expected a protocol factory"),
        ("stream", "class", "make_none returned a protocol factory; expected a protocol factory"),
        ("stream", "other", "make_none returned a datagram protocol; expected a protocol factory"),
        (
            "datagram",
            "",
            "make_none returned None; expected a datagram protocol or an IDatagramFactory",
        ),
    ],
)
def test_what_a_function_returns_is_looked_at(kind: Any, what: str, line: str) -> None:
    named = {"stream": None, "datagram": None, kind: make_none}
    with pytest.raises(SettingError) as caught:
        Served("x", named["stream"], named["datagram"], kind).build(_given(what=what))
    assert str(caught.value) == line


def test_an_object_that_is_built_takes_no_options() -> None:
    stream: Any = Streams()
    protocol: Any = Datagrams()
    factory: Any = DatagramFactory()
    for served in (
        Served("tried", stream, None, "stream"),
        Served("tried", None, protocol, "datagram"),
        Served("tried", None, factory, "datagram"),
    ):
        assert {stream, protocol, factory}.issuperset({*served.build()} - {None})
        with pytest.raises(SettingError, match="already built: it takes no options"):
            served.build(Source({"word": "x"}, spelled_as_option))


class Marked(DatagramProtocol):
    def __init__(self, mark: str, size: int = 1) -> None:
        self.mark = mark * size


def test_settings_of_both_kinds_come_once_each() -> None:
    served = Served("tried", Streams, Marked, "stream")
    assert sorted(each.argument for each in served.settings()) == ["how_often", "mark", "size"]
    assert Served("tried", None, DatagramFactory, "datagram").settings() == []


def test_an_argument_that_it_does_not_take_is_named_with_those_that_it_does() -> None:
    served = Served("tried", Streams, None, "stream")
    served.check_names(["mark", "how_often"])
    with pytest.raises(SettingError, match=r"tried .*'door'.* mark, how_often$"):
        served.check_names(["mark", "door"])
    with pytest.raises(SettingError, match=r" mark, how_often; did you mean how_often\?$"):
        served.check_names(["howoften"])
    with pytest.raises(SettingError, match=r"'door'.* none$"):
        Served("tried", None, DatagramFactory, "datagram").check_names(["door"])


def _given(**values: str) -> Source:
    return Source(values, spelled_as_option)


def test_each_kind_is_built_from_the_first_source_that_has_a_value() -> None:
    served = Served("tried", Streams, Marked, "stream")
    stream, datagram = served.build(_given(mark="a"), _given(mark="b", how_often="2", size="3"))
    assert stream.mark == "aa"
    assert datagram().mark == "aaa"


def test_one_factory_of_both_kinds_is_built_once() -> None:
    stream, datagram = Served("tried", EchoFactory, EchoFactory, "stream").build()
    assert isinstance(stream, EchoFactory)
    assert datagram is stream


def test_a_datagram_protocol_is_built_at_once_and_anew_for_each_further_listener() -> None:
    built: list[Marked] = []

    class Noted(Marked):
        def __init__(self, mark: str) -> None:
            super().__init__(mark)
            built.append(self)

    served = Served("tried", None, Noted, "datagram")
    with pytest.raises(SettingError, match="mark"):
        served.build()
    stream, datagram = served.build(_given(mark="x"))
    assert stream is None
    assert len(built) == 1
    assert [datagram(), datagram()] == built
    assert built[0] is not built[1]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Datagrams, True),
        (built_datagrams, True),
        (built_datagram_factory, False),
        (Streams, False),
        (Bare(), False),
        (None, False),
    ],
)
def test_a_datagram_protocol_is_known_by_its_class(found: Any, expected: bool) -> None:
    assert is_datagram_protocol(found) is expected


@pytest.mark.parametrize(
    ("service", "datagram"), [(built_datagram_factory, None), (built, built_datagram_factory)]
)
def test_a_datagram_factory_builds_a_protocol_for_each_listener(
    service: Any, datagram: Any
) -> None:
    builder = datagram_builder(service, datagram)
    assert builder is not None
    assert isinstance(builder(), Datagrams)
    assert builder() is not builder()


@pytest.mark.parametrize(
    ("service", "datagram"), [(built_datagrams, None), (built, built_datagrams)]
)
def test_a_datagram_protocol_that_is_built_is_used_itself(service: Any, datagram: Any) -> None:
    builder = datagram_builder(service, datagram)
    assert builder is not None
    assert builder() is builder() is built_datagrams


def test_what_builds_datagram_protocols_is_used_as_it_is_or_is_not_there() -> None:
    assert datagram_builder(Datagrams, None) is Datagrams
    assert datagram_builder(built, Datagrams) is Datagrams
    assert datagram_builder(built, None) is None


def test_a_service_without_a_name_has_that_of_its_class_or_function() -> None:
    def make_streams() -> Streams:
        return Streams()

    assert name_of(Streams) == name_of(built) == "Streams"
    assert name_of(make_streams) == "make_streams"


def test_the_kinds_that_are_served_are_known_once_it_is_found() -> None:
    assert Served("tried", None, None, "stream").kinds == ()
    assert Served("tried", Streams, None, "stream").kinds == ("stream",)
    assert Served("tried", EchoFactory, EchoFactory, "datagram").kinds == ("stream", "datagram")

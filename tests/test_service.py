from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from zope.interface import implementer

from sockservices.errors import SettingError
from sockservices.service import (
    IDatagramFactory,
    Served,
    datagram_builder,
    is_datagram_protocol,
    name_of,
)
from sockservices.services.echo import EchoFactory
from sockservices.settings import Source, spelled_as_option


class Streams(Factory):
    def __init__(self, mark: str = "!", how_often: int = 1) -> None:
        self.mark = mark * how_often


class Bare(Protocol):
    pass


class Datagrams(DatagramProtocol):
    def __init__(self, mark: str = "!") -> None:
        self.mark = mark


@implementer(IDatagramFactory)
class DatagramFactory:
    def build_datagram_protocol(self) -> Datagrams:
        return Datagrams()


built = Streams("built")
built_datagrams = Datagrams("built")
built_datagram_factory = DatagramFactory()


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


@pytest.mark.parametrize("found", [object, object(), "text", Bare(), len])
def test_what_serves_nothing_is_refused(found: Any) -> None:
    with pytest.raises(SettingError, match="x is neither a protocol factory nor a datagram"):
        Served.of("x", found)


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

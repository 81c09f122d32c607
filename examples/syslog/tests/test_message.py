import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syslog_collector.message import FACILITIES, SEVERITIES, NotSyslogError, parse


# The examples of RFC 5424, section 6.5, and what they mean.
def test_a_message_with_a_byte_order_mark_and_no_data():
    text = (
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
        "\ufeff'su root' failed for lonvick on /dev/pts/8"
    )
    assert parse(text) == {
        "facility": "auth",
        "severity": "crit",
        "version": "1",
        "timestamp": "2003-10-11T22:14:15.003Z",
        "hostname": "mymachine.example.com",
        "appname": "su",
        "procid": None,
        "msgid": "ID47",
        "data": {},
        "message": "'su root' failed for lonvick on /dev/pts/8",
    }


def test_a_message_with_an_offset_and_a_process():
    text = (
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - "
        "%% It's time to make the do-nuts."
    )
    found = parse(text)
    assert (found["facility"], found["severity"], found["procid"]) == ("local4", "notice", "8710")
    assert found["message"] == "%% It's time to make the do-nuts."


def test_data_without_a_message():
    text = (
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
        '[exampleSDID@32473 iut="3" eventID="1011"][examplePriority@32473 class="high"][empty]'
    )
    found = parse(text)
    assert found["data"] == {
        "exampleSDID@32473": {"iut": ["3"], "eventID": ["1011"]},
        "examplePriority@32473": {"class": ["high"]},
        "empty": {},
    }
    assert found["message"] is None


def test_what_is_escaped_in_a_value_and_what_is_not():
    found = parse(r'<0>1 - - - - - [a b="\"\\\]\n" b="2"]')
    assert found["data"] == {"a": {"b": ['"\\]\\n', "2"]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<13>Nov 21 22:00:00 host program: as syslog(3) sends it",
        "<192>1 - - - - - -",
        "<05>1 - - - - - -",
        "<5>1 - - - - -",
        "<5>1 - - - - - [a]no space",
        '<5>1 - - - - - [a b="]"]',
        "<5>1 today - - - - -",
        f"<5>1 - {'h' * 256} - - - -",
    ],
)
def test_what_is_no_message(text):
    with pytest.raises(NotSyslogError):
        parse(text)


@given(st.text())
def test_any_text_is_a_message_or_is_not(text):
    with contextlib.suppress(NotSyslogError):
        parse(text)


_printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=32)


@given(
    st.integers(0, 191), _printable, _printable, st.text(), st.dictionaries(st.just("k"), st.text())
)
def test_what_is_written_is_read(priority, host, program, message, values):
    escaped = {
        key: value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
        for key, value in values.items()
    }
    data = "".join(f' {key}="{value}"' for key, value in escaped.items())
    found = parse(f"<{priority}>1 - {host} {program} - - [id{data}] {message}")
    assert FACILITIES.index(found["facility"]) * 8 + SEVERITIES.index(found["severity"]) == priority
    assert found["hostname"] == (None if host == "-" else host)
    assert found["appname"] == (None if program == "-" else program)
    assert found["data"] == {"id": {key: [value] for key, value in values.items()}}
    assert found["message"] == message.removeprefix("\ufeff")

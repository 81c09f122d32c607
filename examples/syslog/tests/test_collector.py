import json
import socket
import subprocess

from syslog_collector import SyslogFactory

from sockservices.testing import DatagramServiceContract

MESSAGE = b"<13>1 - host program - - - hello"


class TestContract(DatagramServiceContract):
    examples = (
        MESSAGE,
        b"<13>1 - - - - - " + b"[a]" * 2000,
        b"<13>Nov 21 22:00:00 program: hello",
        b"",
    )

    def factory(self):
        return SyslogFactory(to="/dev/null")


def test_logger_is_heard(twistd, tmp_path):
    path = tmp_path / "log.sock"
    collector = twistd("example-syslog", "--socket", str(path), "--to", str(tmp_path / "log"))
    said = ["first", "two\nlines", "ü"]
    for text in said:
        command = ["logger", "--rfc5424", "--socket", path, "--tag", "me", "--", text]
        subprocess.run(command, check=True, timeout=60)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.connect(str(path))
        peer.send(b"\xff")
    assert collector.stop() == 0
    *found, last = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert [each["message"] for each in found] == said
    assert {(each["appname"], each["facility"], each["severity"]) for each in found} == {
        ("me", "user", "notice")
    }
    assert last == {"unparsed": "\udcff"}  # PEP 383


def test_what_is_not_grave_enough_is_left_out(tmp_path):
    factory = SyslogFactory(least_severity="notice", to=str(tmp_path / "log"))
    assert json.loads(factory.line(MESSAGE))["message"] == "hello"
    assert factory.line(MESSAGE.replace(b"<13>", b"<14>")) == ""
    assert "unparsed" in json.loads(factory.line(b"hello"))


def test_what_was_cut_is_told_so(tmp_path):
    factory = SyslogFactory(to=str(tmp_path / "log"))
    found = json.loads(factory.line(MESSAGE[:-2], cut_of=len(MESSAGE)))
    assert (found["message"], found["cut_of"]) == ("hel", len(MESSAGE))

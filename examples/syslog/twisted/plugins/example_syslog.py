"""The twistd plugin of the collector."""

from sockservices import SocketServiceMaker

syslog = SocketServiceMaker(
    "example-syslog",
    "Collects syslog messages (RFC 5424), as JSON.",
    datagram="syslog_collector.SyslogFactory",
)

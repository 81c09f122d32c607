"""One running service: its parts, ports and shutdown, but not signals or processes."""

"""One running service: its parts, its ports and its stop. Never signals or processes."""

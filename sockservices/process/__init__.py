"""Process management: signals, the service manager, the background, the supervisor."""

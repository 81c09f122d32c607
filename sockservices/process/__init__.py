"""The life of one process and of several: signals, the service manager, the supervisor."""

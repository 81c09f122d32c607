"""The programs that are compared, each complete in its file."""

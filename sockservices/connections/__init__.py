"""The life of a connection, and the parts that plug into it."""

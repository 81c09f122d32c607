"""The life of a connection, and the parts that plug in to it."""

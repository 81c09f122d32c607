"""The twistd side of a service: its declaration, its options, and how it runs."""

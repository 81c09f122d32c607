"""What twistd sees of a service: its declaration, its options, and how it is run."""

"""Run the command ``sockservices`` as ``python -m sockservices``."""

from sockservices.cli import main

if __name__ == "__main__":
    main()

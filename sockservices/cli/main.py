"""The command itself: its subcommands, and how it ends.

Exit statuses: 0 done, 1 could not (one line on standard error), 2 usage.
"""

from __future__ import annotations

import click

from sockservices.cli.connect import connect
from sockservices.cli.listing import list_services
from sockservices.cli.refresh import refresh
from sockservices.cli.send import send


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sockservices")
def main() -> None:
    """Find socket services, and talk to them.

    The services themselves are run by twistd: twistd -n sock-echo --port 7
    """


for command in (list_services, send, connect, refresh):
    main.add_command(command)

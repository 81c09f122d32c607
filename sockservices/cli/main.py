"""The command itself: its subcommands, and its exit status.

Exit statuses: 0 success, 1 failure, 2 usage error. An error is one line on standard error.
"""

from __future__ import annotations

import errno
import sys

import click

from sockservices.cli.check import check
from sockservices.cli.connect import connect
from sockservices.cli.listing import list_services
from sockservices.cli.new import new
from sockservices.cli.refresh import refresh
from sockservices.cli.send import send
from sockservices.exit import drop_standard_output
from sockservices.printable import escaped, system_reason
from sockservices.process.file_descriptors import open_standard_ones

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sockservices")
def command() -> None:
    """Find socket services, and talk to them.

    twistd runs the services themselves: twistd -n sock-echo --port 7
    """


for subcommand in (list_services, send, connect, new, check, refresh):
    command.add_command(subcommand)


def main() -> None:
    """Run the command, and exit with its status."""
    sys.exit(_status())


def _status() -> int:
    open_standard_ones()
    try:
        return command.main(prog_name="sockservices", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "sockservices"
        print(f"{where}: {_one_line(error.format_message())}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130  # what a shell reports for SIGINT
    except BrokenPipeError:
        drop_standard_output()
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        drop_standard_output()
        reason = system_reason(error)
        print(f"sockservices: cannot write to standard output: {reason}", file=sys.stderr)
        return 1


def _one_line(message: str) -> str:
    return escaped(" ".join(message.splitlines())).replace("\\\\", "\\")

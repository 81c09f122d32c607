"""A systemd as process 1 of namespaces of its own, in the folder of a Debian."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep

from tests.system.processes import PATIENCE, Running, run

_BOOT = """
mount --make-rprivate /
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs var/log
mount --rbind /dev dev
ip link set lo up
exec chroot . /usr/bin/env -i container=unshare PATH=/usr/sbin:/usr/bin \
    /lib/systemd/systemd --system
"""
_NAMESPACES = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")


class Systemd(Running):
    """A system that has booted. It ends with all its processes when the context is left.

    ``root`` is a folder with a Debian. What is written below /run, /tmp and /var/log there is gone
    afterwards.
    """

    python = "/opt/sockservices/bin/python"

    def __init__(self, root: Path) -> None:
        unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "bash", "-ec", _BOOT]
        super().__init__([*unshare, root], root)
        try:
            self._first = self._wait_for_the_first()
            self("systemctl", "is-system-running", "--wait")
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _wait_for_the_first(self) -> int:
        until = monotonic() + PATIENCE
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while monotonic() < until and self.process.poll() is None:
            for first in children.read_text().split():
                booted = Path(f"/proc/{first}/comm").read_text() == "systemd\n"
                if booted and Path(f"/proc/{first}/root/run/dbus/system_bus_socket").exists():
                    return int(first)
            sleep(0.05)
        raise RuntimeError(f"systemd has not booted: {self.err.text}")

    def inside(self, *command: str | Path) -> list[str | Path]:
        """Return a command that runs another one inside."""
        all_of_it = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
        return ["nsenter", f"--target={self._first}", *all_of_it, *command]

    def __call__(self, *command: str | Path) -> str:
        """Run a command inside to its end, and return its output. It must succeed."""
        done = run(*self.inside(*command), cwd=Path("/"))
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {(done.stdout + done.stderr).decode()}")
        return done.stdout.decode()

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit: systemctl(1)."""
        return self("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """Return the messages of a unit's processes, and of systemd about it."""
        self("journalctl", "--sync")
        return self("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def outside(self, process: str) -> int:
        """Return the process ID here of a process inside."""
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                [ids] = [each for each in status.read_text().splitlines() if each[:6] == "NSpid:"]
            except (OSError, ValueError):  # it has ended meanwhile
                continue
            if ids.split()[-1] == process and self._is_inside(status.parent):
                return int(status.parent.name)
        raise RuntimeError(f"no process {process}")

    def _is_inside(self, process: Path) -> bool:
        return (process / "ns/pid").readlink() == Path(f"/proc/{self._first}/ns/pid").readlink()

    def path(self, inside: str) -> str:
        """Return the path here of a file inside."""
        return f"/proc/{self._first}/root{inside}"

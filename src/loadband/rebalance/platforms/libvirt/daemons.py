"""Libvirt daemons of this run on one machine, without root's rights and apart from the system's libvirt.

Each stands for a host. A daemon has its own folders for all that it writes, its own identity (without one, libvirt
refuses to migrate to "the same host"), and doesn't outlive this process. If this process is killed, the guests do:
after 30 s they burn nothing, and after 2 minutes they end.
"""

from __future__ import annotations

import os
import pwd
import shutil
import uuid
from pathlib import Path

from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.libvirt.binding import Connection, Library
from loadband.rebalance.programs import MissingError, Program, ProgramError, find, wait_for

READY_SECONDS = 20.0
"""For a daemon to answer."""
NOBODY = "nobody"
"""The user that daemons run as if this process is root's: root's libvirtd is the system's, of which there is one."""
SYSTEM_FOLDERS = "/usr/sbin", "/usr/local/sbin"
"""An ordinary user's PATH needn't have them."""
_FOLDERS = {
    "HOME": ".",
    "XDG_RUNTIME_DIR": "r",
    "XDG_CONFIG_HOME": "c",
    "XDG_CACHE_HOME": "k",
    "XDG_DATA_HOME": "d",
}
"""Short: libvirt makes sockets deep in them, and a socket's path has at most 107 characters."""


class Daemon:
    """A libvirtd.

    Args:
        folder: for all that it writes; the daemon's own is made in it.
        name: of the host that it stands for.

    Raises:
        PlatformError: it can't be started.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._folder = folder / name
        self._settings = self._folder / "c" / "libvirt"
        try:
            command = _as_nobody() + self._command()
            self._configure()
            self._program = Program(command, log=self._folder / "libvirtd.log")
        except (MissingError, ProgramError, OSError) as error:
            raise PlatformError(f"the libvirtd of {name} can't be started: {error}") from error

    @property
    def uri(self) -> str:
        """How it is reached."""
        return f"qemu+unix:///session?socket={self._folder}/r/libvirt/libvirt-sock"

    @property
    def pid(self) -> int:
        """Its process's id."""
        return self._program.pid

    @property
    def ended(self) -> str:
        """How it ended, for people; empty while it runs."""
        return self._program.ended

    def connect(self, library: Library) -> Connection:
        """Connect to it, once it is ready.

        Raises:
            PlatformError: it isn't ready in time, or ended.
        """

        def connection() -> Connection | None:
            if not Path(self.uri.partition("=")[2]).exists():
                return None
            try:
                return library.open(self.uri)
            except library.libvirtError as error:
                raise OSError(str(error)) from error

        try:
            return wait_for(connection, READY_SECONDS, f"the libvirtd of {self._name}", self._program)
        except (TimeoutError, ProgramError) as error:
            raise PlatformError(str(error)) from error

    def pid_of(self, guest: str) -> int | None:
        """The process of a guest, by the domain's name; None if it has none."""
        try:
            return int((self._folder / "r" / "libvirt" / "qemu" / "run" / f"{guest}.pid").read_text())
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        """End it; its guests stay if it has any."""
        self._program.stop()

    def _command(self) -> list[str]:
        places = [f"{variable}={self._folder / place}" for variable, place in _FOLDERS.items()]
        # Named, so that its command line says whose it is.
        return [find("coreutils", "env"), *places, find_daemon(), "--config", str(self._settings / "libvirtd.conf")]

    def _configure(self) -> None:
        for place in _FOLDERS.values():
            (self._folder / place).mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = self._settings
        settings.mkdir()
        (settings / "libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        # Without a virtlogd, and without a profile of AppArmor or SELinux for folders like these.
        (settings / "qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\n')
        give(self._folder)


def find_daemon() -> str:
    """Where libvirt's daemon is, if there is also what it takes to run a guest.

    Raises:
        MissingError: a program isn't installed.
    """
    find("qemu-system-x86", "qemu-system-x86_64")
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    if found := shutil.which("libvirtd", path=places):
        return found
    raise MissingError(
        "libvirtd can't be found: on Debian and Ubuntu, apt install libvirt-daemon libvirt-daemon-driver-qemu"
    )


def give(folder: Path) -> None:
    """Give a folder and all that is in it to the user that the daemons run as.

    Raises:
        OSError: it can't be given.
    """
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, NOBODY)


def _as_nobody() -> list[str]:
    """What a daemon's command begins with.

    When a process changes its user, the kernel forgets that it is to be killed with its parent: setpriv asks again.
    """
    if os.geteuid() != 0:
        return []
    group = str(pwd.getpwnam(NOBODY).pw_gid)
    ids = ["--reuid", NOBODY, "--regid", group, "--clear-groups", "--pdeathsig", "KILL"]
    return [find("util-linux", "setpriv"), *ids]

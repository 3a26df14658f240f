"""The program: takes over the signals before anything else, then runs the command line."""

from __future__ import annotations

import os
import sys

from loadband.ending import Ending
from loadband.exits import Exit


def main() -> int:
    """Run `loadband` with the arguments and the environment of this process; returns the exit code."""
    if sys.platform != "linux":
        print("loadband reads Linux's /proc and cgroups; it runs on Linux only.", file=sys.stderr)  # noqa: T201 - nothing else is imported yet
        return Exit.BAD_INPUT
    _fill_standard_streams()
    ending = Ending()
    ending.install()
    try:
        # Not at the top: the imports take some tenths of a second, in which PID 1 would lose a signal.
        from loadband import cli  # noqa: PLC0415

        return cli.main(ending)
    except Exception as error:  # noqa: BLE001 - 1, the interpreter's code for it, has another meaning here
        ending.fail("the program", error)
        return Exit.FAILED


def _fill_standard_streams() -> None:
    """Open /dev/null in place of a closed one: otherwise the next file that is opened would take its place."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        pass
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())

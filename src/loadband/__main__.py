"""The program: takes over the signals before all else, then runs the command line."""

from __future__ import annotations

import sys

from loadband.ending import Ending


def main() -> int:
    """Run `loadband` with the arguments and the environment of this process; returns the exit code."""
    if sys.platform != "linux":
        print("loadband reads Linux' /proc and cgroups: it runs on Linux only.", file=sys.stderr)  # noqa: T201 - no log yet
        return 2
    ending = Ending()
    ending.install()
    # Only now: the imports take some tenths of a second, in which PID 1 would lose a signal.
    from loadband import cli  # noqa: PLC0415

    return cli.main(ending)


if __name__ == "__main__":
    sys.exit(main())

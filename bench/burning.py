"""Runs loadband and measures what it costs apart from burning: `python -m bench.burning FILE`, with the usual settings.

Its own cost is the CPU time of the process minus that of the burn calls, which only the process itself can separate. So
`hashlib.pbkdf2_hmac`, which does all the burning, is wrapped in two reads of the thread's CPU clock; the reads
themselves count as cost. Twice a second a line goes to the file: monotonic seconds, CPU-seconds of the process,
CPU-seconds of burn calls. Those that are going on are part of it: two of 27 ms would be a whole point of six seconds.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

STEP = 0.5
"""Seconds between two lines."""

burnt: defaultdict[int, float] = defaultdict(float)
"""CPU-seconds of burn calls by thread; each thread changes only its own entry."""
begun: dict[int, float] = {}
"""What the CPU clock of a thread was when its burn call began, of those that are burning."""
original = hashlib.pbkdf2_hmac


def counted(*arguments: Any) -> bytes:
    """Burn as asked, and add the CPU time that it took to what this thread has burnt."""
    thread = threading.get_ident()
    begun[thread] = before = time.thread_time()
    result = original(*arguments)
    burnt[thread] += time.thread_time() - before
    del begun[thread]
    return result


def going_on() -> float:
    """CPU-seconds of the burn calls that haven't ended yet."""
    return sum(time.clock_gettime(time.pthread_getcpuclockid(thread)) - since for thread, since in begun.copy().items())


def write(path: Path) -> None:
    """Append a line every STEP seconds, for ever."""
    with path.open("w", buffering=1) as file:
        while True:
            print(time.monotonic(), time.process_time(), sum(list(burnt.values())) + going_on(), file=file)
            time.sleep(STEP)


if __name__ == "__main__":
    hashlib.pbkdf2_hmac = counted  # type: ignore[assignment] # the burners use positional arguments only
    threading.Thread(target=write, args=(Path(sys.argv.pop(1)),), name="burnt", daemon=True).start()

    from loadband.__main__ import main

    sys.exit(main())

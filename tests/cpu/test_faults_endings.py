"""However the program ends, and whatever it is doing then, nothing burns afterwards."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from faulty import BREAK, Run, each_phase, faulty, running
from program import LOADBAND, cpu_seconds, wait_until

from loadband.regulator import lease_of

pytestmark = pytest.mark.cpu

CPUS = os.cpu_count() or 1


@each_phase
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 0), (signal.SIGKILL, -9)],
    ids=["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"],
)
def test_a_signal_ends_it_within_two_seconds(phase: str, number: signal.Signals, code: int) -> None:
    with running(phase) as run:
        run.process.send_signal(number)
        assert run.wait_until_gone() == code


@each_phase
def test_while_the_end_hangs_nothing_burns_and_a_second_signal_is_obeyed_at_once(phase: str) -> None:
    with running(phase, faulty("end")) as run:
        run.process.send_signal(signal.SIGTERM)
        time.sleep(lease_of(0.1) + 0.2)  # and the last bursts
        assert run.used(1.0) < 0.05
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_until_gone(0.5) == 128 + signal.SIGTERM


@each_phase
@pytest.mark.parametrize("fault", ["loop", "server", "log"])
def test_an_exception_in_any_thread_ends_it_with_3_and_is_told(phase: str, fault: str) -> None:
    with running(phase, faulty(fault)) as run:
        run.process.send_signal(BREAK)
        code = run.wait_until_gone(4)
        assert run.process.stderr
        told = run.process.stderr.read().decode()
    assert code == 3
    assert "RuntimeError: sabotaged" in told


@each_phase
def test_workers_that_die_are_replaced_and_told_of_once_and_burn_nothing(phase: str) -> None:
    with running(phase, faulty("worker")) as run:
        run.process.send_signal(BREAK)
        wait_until(lambda: run.metric("loadband_worker_restarts_total") > 20)
        assert run.used(1.0) < 0.15
        assert run.process.poll() is None
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_until_gone() == 0
        assert run.process.stdout
        told = run.process.stdout.read().decode()
    assert 1 <= told.count("died: RuntimeError('sabotaged')") <= 3  # several at once may each be the first


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end of a pipe that takes nothing more, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@each_phase
def test_stdout_and_stderr_that_nobody_reads_stop_no_end(phase: str) -> None:
    with full_pipe() as blocked, running(phase, stdout=blocked, stderr=blocked) as run:
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_until_gone() == 0


@pytest.mark.parametrize("fault", ["loop", "server"])
def test_stdout_and_stderr_that_nobody_reads_stop_no_end_by_a_failure(fault: str) -> None:
    with full_pipe() as blocked, running("holding", faulty(fault), stdout=blocked, stderr=blocked) as run:
        run.process.send_signal(BREAK)
        assert run.wait_until_gone(6) == 3


class Terminal:
    """A terminal that somebody looks at, until it is closed."""

    def __init__(self) -> None:
        self._controller, self.terminal = pty.openpty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        self.shown = b""

    def _look(self) -> None:
        while not self._stop.is_set():
            if select.select([self._controller], [], [], 0.05)[0]:
                with suppress(OSError):  # nobody has it open any more
                    self.shown += os.read(self._controller, 65536)

    def close(self) -> None:
        """Hang up; the second time nothing."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            os.close(self._controller)
            os.close(self.terminal)


@contextmanager
def in_terminal(phase: str, command: list[str]) -> Iterator[tuple[Run, Terminal]]:
    """Run it as the leader of a session whose terminal this is."""
    terminal = Terminal()
    try:
        with running(
            phase,
            ["setsid", "--ctty", *command],
            stdin=terminal.terminal,
            stdout=terminal.terminal,
            stderr=terminal.terminal,
        ) as run:
            yield run, terminal
    finally:
        terminal.close()


@each_phase
def test_a_terminal_that_hangs_up_ends_it(phase: str) -> None:
    with in_terminal(phase, [LOADBAND]) as (run, terminal):
        terminal.close()
        assert run.wait_until_gone() == 0


@each_phase
def test_an_exception_in_the_view_ends_it_with_3_and_leaves_a_clean_screen(phase: str) -> None:
    with in_terminal(phase, faulty("view")) as (run, terminal):
        run.process.send_signal(BREAK)
        assert run.wait_until_gone(4) == 3
        wait_until(lambda: b"RuntimeError: sabotaged" in terminal.shown, 2)
        left, told = terminal.shown.rindex(b"\x1b[?1049l"), terminal.shown.rindex(b"RuntimeError: sabotaged")
    assert left < told  # on the first screen, not on that which is gone


@pytest.fixture(scope="session")
def as_pid_1() -> list[str]:
    """The command before a command that runs it as PID 1 of its own namespace."""
    for rights in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *rights, "--pid", "--fork", "--mount-proc"]
        try:
            if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            pytest.skip("needs unshare (util-linux)")
    pytest.skip("this system lets us make no PID namespace, nor a user namespace for it")


@each_phase
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_as_pid_1_it_obeys_signals_too(phase: str, number: signal.Signals, as_pid_1: list[str]) -> None:
    with running(phase, [*as_pid_1, LOADBAND], below=True) as run:
        os.kill(run.pid, number)
        assert run.wait_until_gone() == 0


def test_as_pid_1_it_obeys_a_second_signal_and_a_failure(as_pid_1: list[str]) -> None:
    with running("holding", [*as_pid_1, *faulty("end")], below=True) as run:
        os.kill(run.pid, signal.SIGTERM)
        time.sleep(0.2)
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait_until_gone(0.5) == 128 + signal.SIGTERM
    with running("holding", [*as_pid_1, *faulty("loop")], below=True) as run:
        os.kill(run.pid, BREAK)
        assert run.wait_until_gone() == 3


@pytest.mark.parametrize(
    ("phase", "most", "seconds"),
    [("settling", 0.7 * CPUS, 2), ("holding 60..70", 0.7 * CPUS, 10), ("saturated", 0.3, 2)],
)
def test_stopped_it_burns_nothing_and_continued_it_does_not_catch_up(phase: str, most: float, seconds: float) -> None:
    with running(phase) as run:
        run.process.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        assert run.used(seconds) == 0
        run.process.send_signal(signal.SIGCONT)
        continued = time.monotonic()
        marks = []
        while time.monotonic() < continued + 4:
            marks.append((time.monotonic(), cpu_seconds(run.pid)))
            time.sleep(0.1)
        assert run.metric('loadband_cycle_failures_total{reason="gap"}') == 1
    # What it burns itself: what others do at that moment is no fault of it.
    own = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(marks, marks[10:], strict=False)]
    print(f"continued: {own[0]:.2f} CPUs in the first window, at most {max(own[1:]):.2f} in those after, of {most:.2f}")
    assert max(own[1:]) <= most + 0.02  # two steps of the counter

"""The composition root of a run: wires the loop and all that looks at it, runs and ends them; no other logic."""

from __future__ import annotations

import math
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadband import __version__, notify, output
from loadband.commands import say
from loadband.controller import Adaptive, Controller, Latch, Step
from loadband.ending import Ending
from loadband.exits import Exit
from loadband.neighbours import Neighbours
from loadband.page import Minute
from loadband.quantities import Sample, Setpoint, Snapshot, State
from loadband.regulator import WINDOW, Decider, Regulator, lease_of
from loadband.sensor import Sensor
from loadband.setpoint import SetpointCell
from loadband.settings import REVISION, LawName, Loaded, LogLevel, OnEnd, Settings
from loadband.sources import SettingsError
from loadband.units import Listen
from loadband.workers import Burner, Workers, choose_burn

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from loadband.playback import ProfileFile
    from loadband.profile import Profile

OUTPUT_SECONDS = 1.0
"""How long the view or the log has for its last words; a blocked terminal or pipe gets no more."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured, and what is known of it before the loop runs."""

    sensor: Sensor
    reach: float
    """The most CPUs that this process can burn."""
    first: Sample | None
    """The sample with which the first interval began; None: it begins with the loop."""


_Played = tuple["ProfileFile", "Profile"] | None


def run(loaded: Loaded, played: _Played, measured: Measured, ending: Ending) -> int:
    """Regulate until the end; returns the exit code.

    Args:
        loaded: the settings.
        played: the profile, and its file; None without one.
        measured: the sensor.
        ending: says when to end.

    Raises:
        SettingsError: if an address can't be had.
    """
    settings, sensor, reach = loaded.settings, measured.sensor, measured.reach
    window = max(WINDOW, settings.interval)
    # Before anything can be seen: who sees the view may send a SIGHUP.
    ending.rereads = played is not None or settings.control_token is not None
    cell = SetpointCell(_played(played, window) or settings.setpoint)
    controller, period = _controller(settings, reach)
    burn, warning = choose_burn()
    if warning:
        say(f"loadband: {warning}")
    workers = Workers(lease_of(settings.interval), settings.nice, period, lambda: Burner(burst=burn))
    regulator = Regulator(
        sensor,
        controller,
        workers,
        cell,
        interval=settings.interval,
        scope=settings.scope,
        steal=settings.steal,
        duration=settings.duration,
        exit_at_end=settings.on_end is OnEnd.EXIT,
        first=measured.first,
    )

    neighbours = Neighbours(lambda: regulator.snapshot, sensor.members)
    source = neighbours.snapshot
    minute = Minute(source)
    with (
        _server(settings, minute, ending) as address,
        _in_background("neighbours", neighbours.run) if _is_seen(settings) else nullcontext(),
        _in_background("minute", minute.run),
        _output(loaded, source, address, ending, str(played[1] if played else settings.setpoint)) as writing,
        _control(settings, cell, regulator),
        _following(played, cell, window, ending),
        notify.feeding(source),
    ):
        try:
            regulator.run(ending.wait)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported and ends the run
            ending.fail("the loop", error)
        code = _exit_code(settings, ending, regulator.snapshot)
        # From here on readiness probes fail, while the rest ends.
        ending.ask()
    if ending.failed:
        code = Exit.FAILED
    if writing.is_alive():
        # It is blocked for ever by a terminal or pipe that nobody reads, and the interpreter's own end would be, too.
        os._exit(code)
    return code


def _is_seen(settings: Settings) -> bool:
    """Whether it can be seen anywhere who the others are: to find out costs milliseconds, which spoil a small load."""
    logged = settings.log_level in {LogLevel.DEBUG, LogLevel.INFO}
    return settings.listen is not None or logged or os.isatty(1)


def _controller(settings: Settings, reach: float) -> tuple[Decider, float | None]:
    """The law with its memory, and the period of the workers' turns (seconds) if the law sets it."""
    after, steal, workers = settings.latch, settings.steal, settings.workers
    if settings.controller is LawName.ADAPTIVE:
        return Controller(Latch(Adaptive(steal, workers), after, steal, workers)), None
    law = Step(steal, workers or max(math.ceil(reach), 1), settings.step, settings.sleep)
    return Controller(Latch(law, after, steal)), law.turn  # WORKERS is only how many it begins with


def _exit_code(settings: Settings, ending: Ending, snapshot: Snapshot | None) -> int:
    if ending.reader_left:
        return Exit.READER_LEFT
    # A signal is the normal end of a service. But a run that is to end by itself, such as a Job, was cut short: it
    # proves nothing, and must not count as complete.
    if settings.duration == 0 or settings.on_end is OnEnd.IDLE:
        return Exit.OK
    if snapshot is not None and snapshot.verdict.state is State.EXPIRED:
        return Exit.OK if snapshot.held else Exit.NOT_ACHIEVED
    return 128 + ending.signal if ending.signal else Exit.OK


@contextmanager
def _server(settings: Settings, minute: Minute, ending: Ending) -> Iterator[str | None]:
    """Serve the metrics, unless LISTEN is off; yields the URL.

    Raises:
        SettingsError: if the address can't be had.
    """
    if settings.listen is None:
        yield None
        return
    from loadband.metrics import Info, registry  # noqa: PLC0415 - costs memory and time that only a server is worth
    from loadband.server import Application  # noqa: PLC0415 - likewise

    info = Info(
        settings.scope,
        settings.controller,
        settings.steal,
        __version__,
        os.environ.get(REVISION, ""),
        platform.python_version(),
    )
    application = Application(registry(minute.latest, info), minute, version=__version__, stopping=lambda: ending.asked)
    with _served("LISTEN", settings.listen, application) as address:
        yield address


@contextmanager
def _control(settings: Settings, cell: SetpointCell, regulator: Regulator) -> Iterator[None]:
    """Let clients change the band, if there is a token and an address.

    Raises:
        SettingsError: if the address can't be had.
    """
    if settings.control_token is None or settings.control_listen is None:
        yield
        return
    from loadband.control import Control  # noqa: PLC0415 - costs memory and time that only a client is worth

    def over() -> bool:
        return regulator.snapshot is not None and regulator.snapshot.verdict.state is State.EXPIRED

    with _served("CONTROL_LISTEN", settings.control_listen, Control(cell, settings.control_token, over)):
        yield


@contextmanager
def _served(name: str, listen: Listen, application: WSGIApplication) -> Iterator[str]:
    """Serve an application at the address of the setting of that name; yields the URL.

    Raises:
        SettingsError: if the address can't be had.
    """
    from loadband.serving import ListenError, Server  # noqa: PLC0415 - only a server is worth it

    try:
        server = Server.open(application, listen.host, listen.port)
    except ListenError as error:
        raise SettingsError([f"LOADBAND_{name}={str(listen)!r}: {error}"]) from error
    server.start()
    try:
        yield server.address
    finally:
        server.close()


def _played(played: _Played, window: float) -> Callable[[], Setpoint] | None:
    """The setpoint over time, if there is a profile."""
    if played is None:
        return None
    from loadband.playback import play  # noqa: PLC0415 - costs memory and time that only a profile is worth

    return play(played[1], window)


@contextmanager
def _following(played: _Played, cell: SetpointCell, window: float, ending: Ending) -> Iterator[None]:
    """Read the configuration again when it changes and on SIGHUP, if there is a profile or a token for clients."""
    if not ending.rereads:
        yield
        return
    from loadband.playback import Follower  # noqa: PLC0415 - likewise

    file, profile = played or (None, None)
    follower = Follower(cell, file, profile, window, lambda: ending.rereads_asked)
    with _in_background("follower", follower.run):
        yield


@contextmanager
def _in_background(name: str, run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run something in a thread of its own until the context ends. Nothing waits for it: a file system may hang."""
    stop = threading.Event()
    threading.Thread(target=run, args=(stop,), name=name, daemon=True).start()
    try:
        yield
    finally:
        stop.set()


@contextmanager
def _output(
    loaded: Loaded, source: Callable[[], Snapshot | None], address: str | None, ending: Ending, asked: str
) -> Iterator[threading.Thread]:
    """Show or log what happens, from a thread of its own; yields it: in a blocked write, it may outlive the context."""
    metrics = f"{address}/metrics" if address else None
    stop = threading.Event()
    file = output.stdout()
    if file.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from loadband import view  # noqa: PLC0415 - costs memory and time that only a terminal is worth

        def tell() -> None:
            view.run(source, stop, metrics, file)
    else:
        from loadband import log  # noqa: PLC0415 - likewise

        log.load()
        settings = loaded.settings
        fields: dict[str, str | float] = {
            "version": __version__,
            "asked": asked,
            "scope": settings.scope,
            "controller": settings.controller,
            "metrics": metrics or "off",
        }

        def tell() -> None:
            log.run(source, stop, file, level=settings.log_level, style=settings.log_format.value, settings=fields)

    def run() -> None:
        try:
            tell()
        except BrokenPipeError:
            ending.leave()

    thread = threading.Thread(target=run, name="output", daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(OUTPUT_SECONDS)

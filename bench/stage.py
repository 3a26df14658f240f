"""Plays a scene with a tool: starts what it needs, makes the events happen, records, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from bench.groups import limited
from bench.helpers import Helper
from bench.meter import Meter
from bench.probes import Cost, Subject
from bench.recording import Recording
from bench.scenes import Scene
from bench.tools import Launch, Task, Tool, environment
from bench.usage import UsageMeter, family
from loadband.rebalance.programs import free_port

END_SECONDS = 5.0
"""Seconds that a tool has to end before it is killed."""
BURN_LOOK = 0.01
"""Seconds between two checks for the first burn."""
BURN_SECONDS = 10.0
"""Seconds to wait for the first burn."""

Tick = Callable[[float], None]
"""Receives the seconds that have passed since the previous call."""


class ToolFailedError(Exception):
    """A tool ended when it should have run; the message is its last output."""


def task_of(scene: Scene, port: int = 0, burnt: Path | None = None, profile: Path = Path("profile.toml")) -> Task:
    """Return what a scene asks of a tool."""
    return Task(
        band=scene.band,
        cpus=1 if scene.cpu is not None else os.cpu_count() or 1,
        quota=scene.quota,
        pinned=scene.cpu is not None,
        workers=scene.workers,
        port=port,
        burnt=burnt,
        slices=scene.slices,
        latch=scene.latch,
        profile=profile if scene.track else None,
    )


def play(scene: Scene, tool: Tool, seconds: float, tick: Tick) -> Recording:
    """Play a scene with a tool.

    Args:
        scene: the scene.
        tool: the tool.
        seconds: minimum duration of measured acts.
        tick: receives the progress.

    Raises:
        CannotError: if the scene can't be played here, or not with this tool.
        ToolFailedError: if the tool ended.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadband-bench-")))
        burnt = directory / "burnt"
        task = task_of(scene, free_port(), burnt if scene.probe is Cost else None, directory / "profile.toml")
        launch = tool.launch(task)
        group = stack.enter_context(limited(scene.quota)) if scene.quota else None
        # An interruption may come while a process starts, before anything could end it.
        stack.callback(lambda: _kill(family(os.getpid())[1:]))
        cpu = None if scene.cpu is None else scene.cpu % (os.cpu_count() or 1)
        command = list(launch.command)
        if cpu is not None:
            command = ["taskset", "--cpu-list", str(cpu), *command]
        if group:
            command = group.entered(command)
        share = max((act.neighbour or 0.0 for act in scene.acts), default=0.0)
        neighbour = stack.enter_context(Helper(scene.company, str(share * task.capacity))) if share else None
        meter = stack.enter_context(Meter(cpu, group=group))
        begins = time.monotonic()
        if scene.track:
            scene.track.write(directory, begins=time.time())
        running = stack.enter_context(_running(Launch(command, launch.environment), directory / "stderr"))
        usage = stack.enter_context(UsageMeter(running.pid, neighbour.pid if neighbour else None))
        run = _Run(running, directory / "stderr", tick)
        if scene.acts[0].event == "start" and len(scene.acts) == 1:
            run.watch_first_burn()
        # The tool's server may still be starting: probes don't ask it before the first measured act.
        probe = scene.probe(Subject(running.pid, scene.slices, meter, task.port, burnt))
        stack.callback(probe.close)
        for act in scene.acts:
            run.happens(act.event)
            if act.neighbour is not None and neighbour:
                neighbour.go() if act.neighbour else neighbour.leave()
            probe.at(act.event)
            usage.look_around()
            usage.take()
            run.wait(act.lasts(seconds))
        usage.take()
        run.happens("until")
        probe.at("until")
        if track := scene.track:
            # The exact times; the acts begin some milliseconds late.
            run.events |= {event: begins + at for event, at in track.events.items()}
        memory = _memory(running.pid)
    return Recording(
        marks=tuple(meter.marks),
        step=meter.step,
        capacity=meter.capacity,
        of_group=group is not None,
        cpus=os.cpu_count() or 1,
        band=(scene.band[0] / 100, scene.band[1] / 100),
        events=run.events,
        usage=tuple(usage.taken),
        facts={**probe.facts, "memory": memory},
        shares=probe.curves,
        asked=(lambda at: track.target(at - begins)) if track else None,
    )


class _Run:
    """A running tool, and the events since its start."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path, tick: Tick) -> None:
        self._process = process
        self._stderr = stderr
        self._tick = tick
        self.events = {"start": time.monotonic()}

    def happens(self, event: str) -> None:
        """Record that an event happens now; the start is recorded already."""
        self.events.setdefault(event, time.monotonic())

    def wait(self, seconds: float) -> None:
        """Wait while the tool runs.

        Raises:
            ToolFailedError: if the tool ended.
        """
        deadline = time.monotonic() + seconds
        if "burn" in self.events:
            deadline = self.events["start"] + seconds
        while (rest := deadline - time.monotonic()) > 0:
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(min(rest, 0.5))
                said = self._stderr.read_text(errors="replace").strip().splitlines()
                raise ToolFailedError(f"it ended with {code}: {said[-1] if said else 'it said nothing'}")
            self._tick(time.monotonic() - began)

    def watch_first_burn(self) -> None:
        """Wait until a thread or process that the tool started has used CPU time, and record that as an event."""
        tool = psutil.Process(self._process.pid)
        deadline = time.monotonic() + BURN_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess):
                threads = [thread for thread in tool.threads() if thread.id != tool.pid]
                used = [thread.user_time + thread.system_time for thread in threads]
                used += [sum(child.cpu_times()[:2]) for child in tool.children(recursive=True)]
                if any(used):
                    self.events["burn"] = time.monotonic()
                    return
            time.sleep(BURN_LOOK)


@contextmanager
def _running(launch: Launch, stderr: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a tool; whatever happens, end it and all its children afterwards."""
    with stderr.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - the tool under test
            launch.command,
            env=environment(launch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        members = family(process.pid)
        process.terminate()
        _, alive = psutil.wait_procs(members, END_SECONDS)
        _kill(alive)
        process.wait()


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, END_SECONDS)


def _memory(pid: int) -> float:
    """Return a tool's memory in MiB: resident for one process, proportional (PSS) for several."""
    members = family(pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        if len(members) == 1:
            return float(members[0].memory_info().rss) / 2**20
        return float(sum(member.memory_full_info().pss for member in members)) / 2**20
    return math.nan

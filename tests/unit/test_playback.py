"""A profile that is played, and its file followed; on a simulated machine, how closely utilization follows."""

from __future__ import annotations

import logging
import math
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from plant import Plant, regulator, run

from loadband.document import DocumentError
from loadband.playback import Follower, Playback, ProfileFile, play
from loadband.profile import Profile, parse
from loadband.quantities import Band, Progress, Setpoint, Snapshot
from loadband.setpoint import SetpointCell

RAMP = """\
name = "{name}"
[[phase]]
name = "up"
kind = "ramp"
from = 20
to = 60
duration = "40s"
[[phase]]
name = "top"
kind = "constant"
target = 60
duration = "10s"
"""
PERIOD = 60.0


def profile(text: str, **files: str) -> Profile:
    return parse(text, "day.toml", lambda name: files[name.replace(".", "_")])


def test_it_asks_for_the_band_of_the_moment_and_says_where_it_is() -> None:
    now = 100.0
    played = Playback(profile(RAMP.format(name="day")), began=90.0, clock=lambda: now)
    setpoint = played()
    assert (setpoint.band, setpoint.source) == (Band(0.25, 0.35), "profile")
    assert setpoint.progress is not None
    assert (setpoint.progress.profile, setpoint.progress.phase) == ("day", "up")
    assert setpoint.progress.phases == ("up", "top")
    now = 135.0
    assert played().progress == Progress("day", "top", ("up", "top"))


@pytest.mark.parametrize("window", [1.0, 5.0])
def test_the_last_second_is_held_against_the_mean_of_the_band_over_it(window: float) -> None:
    now = 110.0
    played = Playback(profile(RAMP.format(name="day")), began=90.0, window=window, clock=lambda: now)
    judged = played().judged
    assert judged is not None
    assert judged.target == pytest.approx(0.4 - 0.01 * window / 2)
    assert judged.high - judged.low == pytest.approx(0.1)
    now = 200.0
    assert played().judged == played().band == Band(0.55, 0.65)


def test_before_its_begin_it_waits_and_after_its_end_it_stays() -> None:
    now = 0.0
    played = Playback(profile(RAMP.format(name="day")), began=90.0, clock=lambda: now)
    assert played().band == Band(0.15, 0.25)
    now = 1000.0
    assert (played().band, played().judged) == (Band(0.55, 0.65), Band(0.55, 0.65))


def test_a_start_on_the_wall_clock_puts_it_where_it_would_be() -> None:
    begun = profile("start = 2000-01-01T00:00:07Z\nat_end = 'loop'\n" + RAMP.format(name="day"))
    assert begun.start is not None
    elapsed = (time.time() - begun.start) % 50
    target = 0.2 + 0.4 * min(elapsed / 40, 1)
    asked = play(begun, 1.0)().band
    assert asked is not None
    # A hundredth of a second between the two looks at the clock; at the very end of a pass it may be the next one.
    assert asked.target == pytest.approx(target, abs=0.01) or elapsed > 49.9


# Tracking


def follow(text: str, seconds: float, others: Callable[[float], float] = lambda _: 0.06, **files: str) -> Plant:
    """A plant whose regulator has played a profile from second 10 on, with the noise of a real machine."""
    plant = Plant(2, others=others, noise=0.02)
    played = Playback(profile(text, **files), began=1010.0, clock=plant.clock.monotonic)
    loop, _ = regulator(plant, SetpointCell(played))
    seen: list[Snapshot] = []
    run(plant, loop, 10 + seconds, seen)
    observed = [snapshot for snapshot in seen if snapshot.at > 1012]
    plant.in_band = statistics.fmean(snapshot.in_band for snapshot in observed)  # type: ignore[attr-defined] # for the tests here
    return plant


def mean_target(target: Callable[[float], float], start: float) -> float:
    return statistics.fmean(target(start - 10 + (index + 0.5) / 20) for index in range(20))


def errors(plant: Plant, target: Callable[[float], float], since: float, until: float) -> list[float]:
    return [utilization - mean_target(target, start) for start, utilization in plant.windows(since, until)]


def sine(seconds: float) -> float:
    return 0.5 - 0.3 * math.cos(2 * math.pi * seconds / PERIOD)


SINE = 'at_end = "loop"\nwidth = {width}\n[[phase]]\nkind = "sine"\nlow = 20\nhigh = 80\nperiod = 60\n'


def test_a_sine_is_followed_within_three_quarters_of_a_point_and_counts_as_held() -> None:
    plant = follow(SINE.format(width=3), 120)
    mean = statistics.fmean(map(abs, errors(plant, sine, 11, 130)))
    print(f"sine: {100 * mean:.2f} points mean abs. error, in a band of 3 points for {plant.in_band:.1%}")  # type: ignore[attr-defined] # set by follow
    assert mean <= 0.0075
    assert plant.in_band > 0.95  # type: ignore[attr-defined] # likewise


def test_a_sine_is_followed_beside_a_neighbour_who_comes_and_goes() -> None:
    plant = follow(SINE.format(width=10), 120, others=lambda t: 0.06 if int(t / 20) % 2 else 0.3)
    mean = statistics.fmean(map(abs, errors(plant, sine, 11, 130)))
    print(f"sine beside a neighbour: {100 * mean:.2f} points mean abs. error")
    assert mean <= 0.015


@pytest.mark.parametrize(("before", "after"), [(30, 70), (70, 30)])
def test_a_step_of_forty_points_is_reached_within_a_second(before: int, after: int) -> None:
    text = "".join(f'[[phase]]\nkind = "constant"\ntarget = {target}\nduration = 20\n' for target in (before, after))
    plant = follow(text, 40)
    band = Band(after / 100 - 0.05, after / 100 + 0.05)
    assert plant.settled(band, 30.0) <= 1.0


def day() -> list[tuple[int, float]]:
    """A day of a host, a sample a minute: hills, a night, and jobs that begin and end at once; minutes and percent."""
    chance = random.Random(5)
    job, found = 0.0, []
    for minute in range(24 * 60):
        if chance.random() < 0.02:
            job = chance.choice([0.0, 5.0, 15.0])
        hill = 45 - 30 * math.cos(2 * math.pi * minute / 1440) + 8 * math.sin(2 * math.pi * minute / 180)
        found.append((minute, min(max(hill + job + chance.gauss(0, 1), 1), 95)))
    return found


def test_a_replayed_day_at_600_times_its_speed_correlates_with_its_source() -> None:
    recorded = day()
    text = '[[phase]]\nkind = "replay"\nfile = "load.csv"\nunit = "percent"\nspeed = 600\n'
    plant = follow(text, 144, load_csv="".join(f"{60 * minute},{percent}\n" for minute, percent in recorded))
    windows = plant.windows(10, 153)
    # A second is ten minutes of the source.
    source = [
        statistics.fmean(percent for minute, percent in recorded if 0 <= minute - 10 * (start - 10) < 10)
        for start, _ in windows
    ]
    correlation = statistics.correlation(source, [utilization for _, utilization in windows])
    print(f"replayed day: correlation {correlation:.4f}")
    assert correlation >= 0.99


# The file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "day.toml"
    file.write_text(RAMP.format(name="first"))
    return file


class Following:
    """A follower whose looks are made by hand."""

    def __init__(self, path: Path | None) -> None:
        self.demands = 0
        file = ProfileFile(path) if path else None
        first = file.load() if file else None
        self.cell = SetpointCell(play(first, 1.0) if first else Setpoint(Band(0.6, 0.7)))
        self._follower = Follower(self.cell, file, first, 1.0, lambda: self.demands)

    def look(self) -> str:
        """Look once; the name of what is played then, or who else asks."""
        self._follower.look()
        setpoint = self.cell.read()
        return setpoint.progress.profile if setpoint.progress else setpoint.source


def write(path: Path, text: str) -> None:
    """As editors do it, and a mounted ConfigMap: another file in the place of the first."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def test_a_changed_file_is_followed(path: Path) -> None:
    following = Following(path)
    assert following.look() == "first"
    write(path, RAMP.format(name="second"))
    assert following.look() == "second"
    assert following.cell.changes["profile"] == 1


def test_a_bad_file_changes_nothing_and_is_told_once_until_it_is_good(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    following = Following(path)
    for text in ("nonsense", RAMP.format(name="x").replace("60", "600"), ""):
        caplog.clear()
        write(path, text)
        assert following.look() == following.look() == "first"
        assert caplog.records
        assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)
        assert all(record.getMessage().endswith("; the old profile goes on") for record in caplog.records)
    path.unlink()
    assert following.look() == "first"
    write(path, RAMP.format(name="second"))
    assert following.look() == "second"


def test_what_is_equal_goes_on_where_it_is(path: Path) -> None:
    following = Following(path)
    following.look()
    before = following.cell.read()
    write(path, "# a remark\n" + RAMP.format(name="first"))
    following.demands += 1
    following.look()
    after = following.cell.read()
    assert before.band
    assert after.band
    assert 0 <= after.band.low - before.band.low < 0.05
    assert set(following.cell.changes.values()) == {0}


def test_a_changed_series_is_followed_too_even_one_that_was_bad(path: Path) -> None:
    path.write_text('[[phase]]\nkind = "replay"\nfile = "load.csv"\nunit = "percent"\n')
    series = path.with_name("load.csv")
    series.write_text("0,10\n60,10\n")
    following = Following(path)
    series.write_text("0,10\n60,")
    following.look()
    write(series, "0,80\n60,80\n")
    following.look()
    band = following.cell.read().band
    assert band is not None
    assert band.target == pytest.approx(0.8)


def test_a_link_that_turns_to_another_file_is_a_change(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "day.toml").write_text(RAMP.format(name=name))
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "day.toml").symlink_to("..data/day.toml")
    following = Following(tmp_path / "day.toml")
    (tmp_path / "..new").symlink_to("second")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert following.look() == "second"


def test_on_demand_a_client_is_done_with(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    following = Following(path)
    following.cell.replace(Setpoint(Band(0.1, 0.2), "control"))
    assert following.look() == "control"
    following.demands += 1
    assert following.look() == "first"
    following.demands += 1
    assert following.look() == "first"
    assert [record.getMessage() for record in caplog.records] == [
        "read again: back to the configured setpoint",
        "read again: nothing was overridden",
    ]
    assert following.cell.changes == {"settings": 0, "profile": 1, "control": 1}


def test_on_demand_with_a_bad_file_nothing_changes(path: Path) -> None:
    following = Following(path)
    following.cell.replace(Setpoint(Band(0.1, 0.2), "control"))
    write(path, "nonsense")
    following.demands += 1
    assert following.look() == "control"


def test_a_changed_file_waits_behind_a_client(path: Path) -> None:
    following = Following(path)
    following.cell.replace(Setpoint(Band(0.1, 0.2), "control"))
    write(path, RAMP.format(name="second"))
    assert following.look() == "control"
    following.cell.restore("control")
    assert following.look() == "second"


def test_without_a_profile_a_demand_goes_back_to_the_settings() -> None:
    following = Following(None)
    following.cell.replace(Setpoint(Band(0.1, 0.2), "control"))
    following.demands += 1
    assert following.look() == "settings"
    assert following.cell.changes == {"settings": 1, "profile": 0, "control": 1}


def told(path: Path) -> tuple[str, ...]:
    with pytest.raises(DocumentError) as caught:
        ProfileFile(path).load()
    return caught.value.problems


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    assert told(path) == (f"{path}: cannot be read: No such file or directory",)
    path.mkdir()
    assert told(path) == (f"{path}: cannot be read: it isn't a regular file",)
    path.rmdir()
    os.mkfifo(path)
    assert told(path) == (f"{path}: cannot be read: it isn't a regular file",)
    path.unlink()
    path.write_bytes(b"width = 10\n# \xff\n")
    assert told(path) == (f"{path}: cannot be read: line 2 isn't UTF-8",)
    path.write_text("#" * 70_000)
    assert told(path) == (f"{path}: cannot be read: it has more than 65536 bytes",)


def test_a_long_series_is_read_and_one_that_is_too_long_is_refused(path: Path) -> None:
    path.write_text('[[phase]]\nkind = "replay"\nfile = "load.csv"\nunit = "percent"\n')
    series = path.with_name("load.csv")
    text = "0,10\n60,10\n"
    series.write_text(text + "\n" * (8 * 1024**2 - len(text)))
    assert ProfileFile(path).load().phases
    series.write_text(text + "\n" * (8 * 1024**2 - len(text) + 1))
    assert "more than 8388608 bytes" in told(path)[0]


def test_its_thread_looks_twice_a_second_until_it_is_told_to_stop(path: Path) -> None:
    following = Following(path)
    write(path, RAMP.format(name="second"))
    stop = Mock(spec=threading.Event)
    stop.wait.side_effect = [False, True]
    following._follower.run(stop)
    assert [call.args for call in stop.wait.call_args_list] == [(0.5,), (0.5,)]
    progress = following.cell.read().progress
    assert progress
    assert progress.profile == "second"


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield

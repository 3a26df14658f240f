"""The regulator in real containers under the limits that platforms set: gates, not goals. Each prints what it found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from containers import Container, UsageMeter, podman, running
from program import wait_until

from bench.meter import Meter, settled

pytestmark = [pytest.mark.container, pytest.mark.timeout(180)]

LOW, HIGH, MIDDLE = 0.60, 0.70, 0.65


def pause(seconds: float) -> float:
    """Let the load be measured for a while: that takes time, whatever else is true."""
    time.sleep(seconds)
    return time.monotonic()


def errors(windows: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean and largest distance from the band's middle, in points."""
    assert windows
    off = [100 * abs(used - MIDDLE) for _, used in windows]
    return sum(off) / len(off), max(off)


def inside(windows: list[tuple[float, float]]) -> float:
    return sum(LOW <= used <= HIGH for _, used in windows) / len(windows)


@pytest.mark.parametrize(("cpus", "namespace"), [(0.5, "private"), (1.5, "host")])
def test_under_a_quota_the_band_is_that_of_the_limit(cpus: float, namespace: str) -> None:
    flags = (f"--cpus={cpus}", f"--cgroupns={namespace}")
    with running(flags=flags, SCOPE="container") as container, UsageMeter(container) as meter:
        container.wait_for_band()
        since = pause(1)
        before = container.throttling()
        until = pause(10)
        windows = meter.windows(since, until, cpus)
        mean, worst = errors(windows)
        throttled, periods = (now - then for now, then in zip(container.throttling(), before, strict=True))
        print(
            f"quota {cpus}: mean error {mean:.2f} points of the limit, worst window {worst:.2f}, "
            f"{100 * inside(windows):.0f} % of the windows in the band, {throttled} of {periods} periods throttled"
        )
        assert container.metric("loadband_reach_cpus") == pytest.approx(cpus)
        assert container.metric('loadband_capacity_cpus{scope="container"}') == pytest.approx(cpus)
        assert mean <= 1
        assert inside(windows) >= 0.95
        assert periods > 50
        assert throttled <= 0.03 * periods


def test_the_host_is_held_while_a_second_container_takes_30_percent() -> None:
    cpus = os.cpu_count() or 1
    with Meter() as meter, running() as container:
        container.wait_for_band()
        pause(2)
        with running(MIN="98", MAX="100", MAX_EFFORT=f"{0.3 * cpus:g}", LISTEN="off") as neighbour:
            wait_until(lambda: neighbour.usage() > 0.5)
            came, had = time.monotonic(), neighbour.usage()
            until = pause(8)
            taken = (neighbour.usage() - had) / (until - came) / cpus
    back = settled(meter.windows(came, until), LOW, HIGH, came, hold=3)
    windows = meter.windows(came + 2, until)
    mean, worst = errors(windows)
    print(
        f"a second container takes {100 * taken:.1f} %: back in the band after {back:.1f} s, "
        f"then mean error {mean:.2f} points, worst window {worst:.2f}, {100 * inside(windows):.0f} % in the band"
    )
    assert taken == pytest.approx(0.3, abs=0.03)
    assert back <= 3
    assert mean <= 1.8


def test_of_two_cpus_only_the_one_in_the_cpuset_is_loaded() -> None:
    if not {0, 1} <= os.sched_getaffinity(0):
        pytest.skip("needs CPUs 0 and 1")

    def used_on_1(container: Container) -> float:
        return int((container.group("cpuacct") / "cpuacct.usage_percpu").read_text().split()[1]) / 1e9

    with Meter(0) as meter, Meter(1) as other, running(flags=("--cpuset-cpus=0",), SCOPE="cpuset") as container:
        container.wait_for_band()
        since, had = pause(1), used_on_1(container)
        until = pause(8)
        spilt = used_on_1(container) - had
        capacity = container.metric('loadband_capacity_cpus{scope="cpuset"}')
        reach = container.metric("loadband_reach_cpus")
    windows = meter.windows(since, until)
    mean, worst = errors(windows)
    rest = [used for _, used in other.windows(since, until)]
    print(
        f"CPU 0: mean error {mean:.2f} points, worst window {worst:.2f}; on CPU 1 the container used {spilt:.3f} s, "
        f"and that CPU was at {100 * sum(rest) / len(rest):.1f} %"
    )
    assert (capacity, reach) == (1, 1)
    assert mean <= 1.5
    assert spilt == 0


def by_file(container: Container, cpus: float) -> None:
    """As the kubelet does it for an in-place resize."""
    (container.group("cpu") / "cpu.cfs_quota_us").write_text(f"{round(100_000 * cpus)}")


def by_podman(container: Container, cpus: float) -> None:
    podman("update", f"--cpus={cpus}", container.name)


def cycles_to_reach(container: Container, change: Callable[[Container, float], None], cpus: float) -> float:
    """Change the quota, and count the cycles that end before the reach has followed."""
    before = container.metric("loadband_cycles_total")
    change(container, cpus)
    wait_until(lambda: container.metric("loadband_reach_cpus") == pytest.approx(cpus), 5, "the new reach")
    return container.metric("loadband_cycles_total") - before


def test_a_quota_that_changes_live_is_followed() -> None:
    with running(flags=("--cpus=1.5",), SCOPE="container") as container, UsageMeter(container) as meter:
        container.wait_for_band()
        pause(1)
        for change, cpus in (by_file, 0.5), (by_file, 1.5), (by_podman, 0.75):
            asked = time.monotonic()
            cycles = cycles_to_reach(container, change, cpus)
            until = pause(5)
            back = settled(meter.windows(asked, until, cpus), LOW, HIGH, asked, hold=3)
            print(
                f"quota to {cpus} {change.__name__}: reach after {cycles:g} cycles, back in the band after {back:.1f} s"
            )
            # Two cycles; and one more that may end between two of our looks, or while podman is at it.
            assert cycles <= 3
            assert back <= 3


def test_after_a_pause_of_10_s_it_does_not_catch_up() -> None:
    with Meter() as meter, running() as container:
        container.wait_for_band()
        pause(2)
        podman("pause", container.name)
        had = container.usage()
        pause(10)
        burnt = container.usage() - had
        podman("unpause", container.name)
        resumed = time.monotonic()
        until = pause(6)
    windows = meter.windows(resumed, until)
    apart = [used for _, used in windows[::10]]
    above = sum(used > HIGH for used in apart)
    late = [used for start, used in windows if start > resumed + 1 and used > HIGH]
    print(
        f"paused it burnt {burnt:.3f} s; then {above} of {len(apart)} seconds were above the band, "
        f"highest window {100 * max(used for _, used in windows):.1f} %; "
        f"in the band {settled(windows, LOW, HIGH, resumed, hold=2):.1f} s after it went on"
    )
    assert burnt < 0.05
    assert above <= 1
    assert not late

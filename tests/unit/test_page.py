"""The page at `/`: what it says of the last minute, for browsers and as plain text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

from full_snapshot import SNAPSHOT

from loadband.page import SPAN, Minute, figures, html_text, text
from loadband.quantities import Counts, CpuSeconds, Setpoint, Snapshot, State, Verdict


def at(second: float, **more: object) -> Snapshot:
    """A snapshot of a machine of 2 CPUs: 1.0 own, 0.3 other; in the band in three seconds of four."""
    counts = Counts(
        observed_seconds=second,
        in_band_seconds=0.75 * second,
        cpu=CpuSeconds(own=second, other=0.3 * second, idle=0.7 * second),
    )
    return replace(SNAPSHOT, at=second, counts=counts, utilization=0.6 + second / 1000, **more)  # type: ignore[arg-type] # fields by name


def test_the_figures_are_differences_over_what_was_kept() -> None:
    told = figures((at(100.0), at(110.0), at(120.0)))
    assert told["over the last"] == "20 s"
    assert told["utilization, mean"] == "65.0 % (1-second windows: 71.0 %..72.0 %)"
    assert (told["own"], told["other"], told["steal"], told["idle"]) == ("50.0 %", "15.0 %", "0.0 %", "35.0 %")
    assert told["in the band"] == "75.0 % of the time"


def test_one_snapshot_has_no_figures_and_a_fixed_effort_no_band() -> None:
    assert figures(()) == figures((at(1.0),)) == {}
    fixed = Setpoint(None, effort=0.25)
    assert "in the band" not in figures((at(1.0, setpoint=fixed), at(2.0, setpoint=fixed)))


def test_it_keeps_one_minute_and_each_snapshot_once() -> None:
    second = [0.0]
    minute = Minute(lambda: at(second[0]))
    for step in range(200):
        second[0] = float(step)
        minute.look()
        minute.look()
    kept = minute.snapshots()
    assert kept[-1].at - kept[0].at == SPAN
    assert len(kept) == 61
    assert Minute(lambda: None).snapshots() == ()


def test_what_others_are_called_is_shown_and_not_run() -> None:
    evil = replace(at(1.0), others="<script>alert(1)</script>", verdict=Verdict(State.YIELDING, "a & b"))
    page = html_text(evil, (), "1<b>&")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "1&lt;b&gt;&amp;" in page
    assert "a &amp; b; " in page


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    class Parser(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.loaded: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.loaded += [str(value) for name, value in attrs if name in {"src", "action"} or tag == "script"]
            if tag not in {"meta", "link"}:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Parser()
    parser.feed(html_text(at(2.0), (at(1.0), at(2.0)), "1"))
    assert (parser.open, parser.loaded) == ([], [])


def test_the_text_says_the_same() -> None:
    told = text(at(2.0), (at(1.0), at(2.0)), "1")
    for part in ("loadband 1", str(SNAPSHOT.verdict.state), SNAPSHOT.verdict.why, "60.2 % now", "/metrics"):
        assert part in told
    assert "starting: no reading yet" in text(None, (), "1")

"""report.html and compare.html in a real browser: nothing is cut, overlaps, runs or comes from elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, chromium
from recordings import CASES, big
from results import repeats, result

from loadband.rebalance.events import Event, Move, Recording
from loadband.rebalance.report import compare, page
from loadband.rebalance.report.evaluation import evaluate
from loadband.rebalance.report.result import Result

WIDTHS = (400, 768, 1280, 1920)
MOST_BYTES = 1_500_000
MOST_SECONDS = 3.0
EDGE = 12.0
"""Pixels that a picture's text may reach into the page's margin."""
HOSTILE = {
    "a": "<script>document.title='run'</script>",
    "b": "مضيف \u202eevil\u202c " + "x" * 500,
    "a1": "slice\"'`&amp;\n\x00\x1b[31m{{ 7 * 7 }}$\\alpha_$ \ud800",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str, name: str = "report.html") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


def overlapping(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two boxes share more than two pixels of width and a third of the lower one's height."""
    width = min(one["right"], other["right"]) - max(one["left"], other["left"])
    height = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    least = min(box["bottom"] - box["top"] for box in (one, other))
    return bool(width > 2 and height > least / 3)


def check_layout(browser: Browser, width: int) -> None:
    assert browser.run("return document.documentElement.scrollWidth") <= width
    texts, pictures = browser.texts(), browser.pictures()
    assert len(texts) > 100
    outside = [text for text in texts if text["left"] < -0.5 or text["right"] > width + 0.5]
    assert outside == []
    for text in texts:
        if text["picture"] >= 0:
            box = pictures[text["picture"]]
            inside = box["left"] - EDGE <= text["left"] and text["right"] <= box["right"] + EDGE
            assert inside, f"cut: {text} of {box}"
            assert box["top"] - 1 <= text["top"], f"cut: {text} of {box}"
            assert text["bottom"] <= box["bottom"] + 1, f"cut: {text} of {box}"
    texts.sort(key=lambda text: float(text["top"]))
    for index, text in enumerate(texts):
        for other in texts[index + 1 :]:
            if other["top"] > text["bottom"]:
                break
            assert not overlapping(text, other), f"{text} overlaps {other}"
    assert [error for error in browser.errors() if "favicon" not in error] == []


def renamed(recording: Recording, names: dict[str, str]) -> Recording:
    """A recording whose hosts and slices have other names."""

    def rename(event: Event) -> Event:
        fields: dict[str, Any] = {
            field: names[value]
            for field in ("name", "host", "slice", "source", "destination")
            if (value := getattr(event, field, None)) in names
        }
        if isinstance(event, Move):
            fields["reason"] = "<img src=x onerror=document.title='run'>"
        return replace(event, **fields)

    plan = replace(
        recording.run.plan,
        scenario="</title><script>document.title='run'</script>",
        hot_hosts=tuple(names.get(name, name) for name in recording.run.plan.hot_hosts),
    )
    return Recording(
        replace(recording.run, plan=plan),
        tuple(rename(event) for event in recording.events),
        ("a remark with <b>markup</b> and \x07",),
    )


def hostile() -> Result:
    return evaluate("<b>dir</b>", {"recording-1.jsonl": renamed(CASES["failing_move"](), HOSTILE)})


# Layout


@pytest.mark.parametrize(
    ("style", "finds"),
    [
        ("h1 { width: 5000px }", "scrollWidth"),
        ("h1 { margin-left: -200px }", "one more item"),
        (".eyebrow { position: absolute; top: 90px; left: 130px }", "overlaps"),
        ("svg text { font-size: 60px !important }", "cut|overlaps|more items"),
    ],
)
def test_the_check_of_the_layout_finds_what_is_wrong(browser: Browser, write: Any, style: str, finds: str) -> None:
    browser.open(write(page.html(result("good")).replace("</style>", f"{style}</style>")), 1280)
    with pytest.raises(AssertionError, match=finds):
        check_layout(browser, 1280)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_each_case_is_readable_at_each_width(browser: Browser, write: Any, name: str, width: int) -> None:
    browser.open(write(page.html(result(name))), width)
    check_layout(browser, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_repeats_are_readable_at_each_width(browser: Browser, write: Any, width: int) -> None:
    browser.open(write(page.html(result("good", "thrash", "failing_move", "never_balanced", "evicted"))), width)
    check_layout(browser, width)
    browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    check_layout(browser, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_many_hosts_are_readable_at_each_width(browser: Browser, write: Any, width: int) -> None:
    text = page.html(evaluate("big", {"recording-1.jsonl": big(seconds=1800.0)}))
    browser.open(write(text), width)
    check_layout(browser, width)
    assert sum(one["text"].startswith("host-") and one["picture"] >= 0 for one in browser.texts()) >= 50


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_is_readable_at_each_width(browser: Browser, write: Any, width: int) -> None:
    groups = compare.compare([result("good"), result("thrash", "good"), result("foreign_load"), result("symmetric")])
    browser.open(write(compare.html(groups)), width)
    check_layout(browser, width)


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_background(browser: Browser, write: Any, dark: bool) -> None:  # noqa: FBT001 - pytest's
    for name in ("good", "thrash", "foreign_load"):
        browser.open(write(page.html(result(name))), 1280, dark=dark)
        ratios = browser.run(_CONTRASTS)
        assert len(ratios) > 100
        assert [one for one in ratios if one[0] < 4.5] == []


_CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = colour => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = parts => parts.slice(0, 3).map(part => part / 255)
  .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return rgb(getComputedStyle(document.body).backgroundColor);
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest('title, desc, style')) continue;
  const style = getComputedStyle(element), text = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const [one, other] = [light(rgb(text)), light(behind(element))].sort((a, b) => b - a);
  found.push([(one + 0.05) / (other + 0.05), element.textContent.trim().slice(0, 40), text]);
}
return found;
"""


# Safety


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_are_shown_and_not_run(browser: Browser, write: Any, width: int) -> None:
    browser.open(write(page.html(hostile())), width)
    check_layout(browser, width)
    title = browser.run("return document.title")
    assert title.startswith(("PASS", "FAIL", "INVALID"))
    assert browser.run("return document.querySelectorAll('script, img, b b, iframe, object').length") == 0
    shown = browser.run("return document.body.textContent")
    assert HOSTILE["a"] in shown
    assert "\\u202eevil\\u202c " + "x" * 500 in shown
    assert "\\n\\x00\\x1b[31m{{ 7 * 7 }}$\\alpha_$ \\ud800" in shown
    assert "<img src=x onerror=document.title='run'>" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", shown)


def test_a_comparison_shows_hostile_names_and_does_not_run_them(browser: Browser, write: Any) -> None:
    browser.open(write(compare.html(compare.compare([hostile(), result("good")]))), 1280)
    assert browser.run("return document.title") == "Comparison: loadband rebalance"
    assert browser.run("return document.querySelectorAll('script, img').length") == 0
    assert "</title><script>" in browser.run("return document.body.textContent")


@pytest.mark.parametrize("text", [page.html(result("good", "thrash")), compare.html(compare.compare([result("good")]))])
def test_nothing_comes_from_elsewhere(text: str) -> None:
    names = set(re.findall(r'https?://[^\s"\'<>)]+', text))
    assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not places
    assert "<script" not in text
    assert "<link" not in text
    assert "@import" not in text
    for reference in re.findall(r'(?:href|src)="([^"]*)"', text):
        assert reference.startswith(("#", "data:image/png;base64,"))


def test_identifiers_are_unique_and_what_is_referred_to_is_there() -> None:
    text = page.html(result("good", "thrash", "failing_move"))
    identifiers = re.findall(r'\bid="([^"]*)"', text)
    assert len(identifiers) == len(set(identifiers))
    referred = set(re.findall(r'(?:href="|url\()#([^")]*)', text))
    for value in re.findall(r'aria-labelledby="([^"]*)"', text):
        referred |= set(value.split())
    assert referred <= set(identifiers)
    assert len(referred) > 20


# The same bytes, in little room and time


@pytest.mark.parametrize("name", ["good", "failing_move", "no_slices"])
def test_two_renders_are_the_same_to_the_last_byte(name: str) -> None:
    first = page.html(evaluate("x", repeats(name, name)))
    time.sleep(1.1)  # a date in it would differ
    assert page.html(evaluate("x", repeats(name, name))) == first


def test_the_big_report_is_small_and_opens_fast(browser: Browser, write: Any) -> None:
    text = page.html(evaluate("big", {"recording-1.jsonl": big()}))
    assert len(text.encode()) <= MOST_BYTES
    browser.open(write(text), 1280)
    took = browser.run(
        "const [entry] = performance.getEntriesByType('navigation'); return entry.loadEventEnd - entry.startTime"
    )
    print(f"{len(text.encode())} bytes, opened in {took:.0f} ms")
    assert 0 < took / 1000 < MOST_SECONDS


def test_five_repeats_of_the_big_report_stay_below_the_limit() -> None:
    recordings = {}
    for number in range(1, 6):
        recording = big(seconds=1800.0)
        recordings[f"recording-{number}.jsonl"] = replace(recording, run=replace(recording.run, repeat=number))
    assert len(page.html(evaluate("big", recordings)).encode()) <= MOST_BYTES


# Without a mouse, without eyes, on paper


def test_the_keyboard_reaches_everything_that_opens(browser: Browser, write: Any) -> None:
    browser.open(write(page.html(result("good", "thrash"))), 1280)
    reachable = browser.run("return [...document.querySelectorAll('a, summary')].every(one => one.tabIndex === 0)")
    assert reachable
    assert browser.run("return document.querySelector('a').getAttribute('href')") == "#main"


def test_pictures_say_in_words_what_they_show(browser: Browser, write: Any) -> None:
    browser.open(write(page.html(result("good"))), 1280)
    title, text = browser.run(
        "const picture = document.querySelector('.wide svg');"
        "return ['title', 'desc'].map(name => picture.querySelector(name).textContent)"
    )
    assert title == "Utilization of 2 hosts, moves, alerts and imbalance over time"
    assert "At the zero, the overload holds, hosts are at 30 % to 90 %" in text
    assert "+11.0 s: move 1 begins: slice a1 from a to b, by mover." in text
    assert browser.run("return document.querySelector('.wide svg').getAttribute('role')") == "img"


def test_headings_are_in_order(browser: Browser, write: Any) -> None:
    browser.open(write(page.html(result("good", "thrash"))), 1280)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_paper_is_white_and_shows_what_is_folded(browser: Browser, write: Any) -> None:
    path = write(page.html(result("thrash")))
    browser.open(path, 718, dark=True, media="print")
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("return document.documentElement.scrollWidth") <= 718
    shown = browser.run(
        "return [...document.querySelectorAll('details')].every(one => one.lastElementChild.checkVisibility("
        "{contentVisibilityAuto: true}))"
    )
    assert shown
    assert browser.pdf().startswith(b"%PDF")


# What stands in it


def test_what_the_verdict_says_stands_first(browser: Browser, write: Any) -> None:
    for name in ("good", "thrash", "foreign_load"):
        found = result(name)
        browser.open(write(page.html(found)), 1280)
        first = browser.run("return document.querySelector('.verdict').textContent")
        assert str(found.outcome) in first
        assert found.sentence in first.replace("\N{NO-BREAK SPACE}", " ")
        assert bool(browser.run("return document.querySelector('.todo')")) == (name != "good")


def test_every_figure_and_check_is_in_the_page(browser: Browser, write: Any) -> None:
    found = result("good", "thrash")
    browser.open(write(page.html(found)), 1280)
    cells = set(browser.run("return [...document.querySelectorAll('th')].map(one => one.firstChild.textContent)"))
    for name in found.summaries:
        assert name.replace("_", " ") in cells
    for check in found.repeats[0].verdict.checks:
        assert check.name.replace("_", " ") in cells


def test_pairs_of_marks_do_not_hide_each_other(browser: Browser, write: Any) -> None:
    browser.open(write(page.html(result("failing_move"))), 1280)
    marks = [text for text in browser.texts() if text["text"] in {"relief", "balance"} and text["picture"] >= 0]
    assert len(marks) == 2
    assert not any(overlapping(*pair) for pair in combinations(marks, 2))

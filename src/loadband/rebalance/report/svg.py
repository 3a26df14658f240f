"""SVG that stands in a page: its colours are the page's, so that one picture serves light and dark.

matplotlib draws with colours that stand for the page's CSS variables; `element` puts the variables in their place.
Text stays text: it can be selected and found, and the page's font shows it.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

HALO = "halo"
"""The `gid` of text that stands over lines: the page draws a border of its background's colour around it."""
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_VARIABLES = (
    "ink",
    "muted",
    "grid",
    "paper",
    "hot",
    "warn",
    "good",
    "info",
    "move",
    *(f"c{number}" for number in range(8)),
)
COLOURS = {name: f"#0102{index:02x}" for index, name in enumerate(_VARIABLES, 16)}
"""By CSS variable, the colour that stands for it while matplotlib draws."""
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "loadband",
    "text.parse_math": False,  # a name may hold dollars
    "font.family": "DejaVu Sans",  # matplotlib brings it along: widths are the same on every machine
    "font.size": 11.0,
    "axes.linewidth": 0.8,
    "path.simplify_threshold": 0.3,
    "hatch.linewidth": 0.8,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Have matplotlib draw as `element` needs it."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # The page's font will show what matplotlib's own has no glyph for.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support", category=UserWarning)
        yield


_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOUR = re.compile("|".join(map(re.escape, COLOURS.values())))
_BY_COLOUR = {colour: f"var(--{name})" for name, colour in COLOURS.items()}


def element(figure: Figure, name: str, text: tuple[str, str]) -> str:
    """The figure as an `<svg>` element that fits the page.

    Colours become the page's, coordinates lose the digits that nobody sees, identifiers are unique in the page, and
    title and description come first.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(drawn.getvalue())  # noqa: S314 - matplotlib has just written it
    _strip(root)
    wanted = {reference for part in root.iter() for reference in _references(part)}
    for part in root.iter():
        _rewrite(part, name, wanted)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-text")
    for index, (tag, suffix) in enumerate((("title", "title"), ("desc", "text"))):
        part = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{suffix}"})
        part.text = text[index]
        root.insert(index, part)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")


def _strip(root: ET.Element) -> None:
    """Remove the metadata and matplotlib's own style."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata") or (child.tag.endswith("}style") and parent.tag.endswith("}defs")):
                parent.remove(child)
    for child in list(root):
        if child.tag.endswith("}defs") and not len(child):
            root.remove(child)


def _references(element: ET.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key == f"{{{_XLINK}}}href" and value.startswith("#"):
            yield value[1:]
        yield from re.findall(r"url\(#([^)]*)\)", value)


def _rewrite(part: ET.Element, name: str, wanted: set[str]) -> None:
    own = part.attrib.pop("id", None)
    if own == HALO:
        part.set("class", HALO)
    elif own in wanted:
        part.set("id", f"{name}-{own}")
    for key, value in list(part.attrib.items()):
        if key == f"{{{_XLINK}}}href":
            if value.startswith("#"):
                part.set(key, f"#{name}-{value[1:]}")
            continue
        made = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", value)
        if key in {"d", "x", "y", "width", "height", "transform", "points", "style"}:
            made = _NUMBER.sub(lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), made)
        if key == "d":
            made = " ".join(made.split())
        part.set(key, _COLOUR.sub(lambda match: _BY_COLOUR[match.group()], made))

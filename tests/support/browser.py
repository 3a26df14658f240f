"""A real Chromium without a window, for pages that people look at."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

# What isn't drawn is no text: closed details, and the picture for another width.
_TEXTS = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, element = node.parentElement;
  if (!node.data.trim() || element.closest('thead, .skip, title, desc')) continue;
  if (!element.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  const picture = element.closest('svg');
  for (const box of range.getClientRects()) {
    if (box.width < 1 || box.height < 1) continue;
    const y = window.scrollY;
    found.push({
      text: node.data.trim().slice(0, 60), left: box.left, right: box.right, top: box.top + y, bottom: box.bottom + y,
      picture: picture ? [...document.querySelectorAll('svg')].indexOf(picture) : -1,
    });
  }
}
return found;
"""
_PICTURES = """
return [...document.querySelectorAll('svg')].map(picture => {
  const box = picture.getBoundingClientRect(), y = window.scrollY;
  return {left: box.left, right: box.right, top: box.top + y, bottom: box.bottom + y};
});
"""


class Browser:
    """A tab of it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, page: Path, width: int, *, dark: bool = False, media: str = "screen") -> None:
        """Open a file at a width in CSS pixels."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": scheme})
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        self._driver.get(page.as_uri())

    def run(self, script: str) -> Any:
        """Run a script in the page; returns what it returns."""
        return self._driver.execute_script(script)

    def texts(self) -> list[dict[str, Any]]:
        """Each line of text that is drawn, with its box in the page, and the number of the picture that it is in."""
        found: list[dict[str, Any]] = self.run(_TEXTS)
        return found

    def pictures(self) -> list[dict[str, Any]]:
        """The box of each picture in the page."""
        found: list[dict[str, Any]] = self.run(_PICTURES)
        return found

    def errors(self) -> list[str]:
        """What the console has to complain about since the last call."""
        found: list[dict[str, Any]] = self._driver.execute("getLog", {"type": "browser"})["value"]
        return [entry["message"] for entry in found]

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        size = self.run("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        made = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip, "format": "png"}
        )
        path.write_bytes(base64.b64decode(made["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        made = self._driver.execute_cdp_cmd(
            "Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True, "transferMode": "ReturnAsBase64"}
        )
        return base64.b64decode(made["data"])


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start one; skips the test where there is none."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root can't have
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        yield Browser(started)
    finally:
        started.quit()

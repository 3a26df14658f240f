"""What the machines of the tests are told to hold."""

from __future__ import annotations

MIN, MAX = 0.30, 0.40
MIDDLE = (MIN + MAX) / 2
GOOD = "LOADBAND_MIN=30\nLOADBAND_MAX=40\n"
BAD = "LOADBAND_MIN=30x\nLOADBAND_MAX=400\n"
_USER_DATA = """\
#cloud-config
write_files:
  - path: /etc/loadband/loadband.env
    content: |
{settings}
"""


def user_data(settings: str) -> str:
    return _USER_DATA.format(settings="".join(f"      {line}\n" for line in settings.splitlines()))

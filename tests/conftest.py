"""With NO_SKIP=1 a skipped test fails the run: where everything is installed, nothing may be left out unseen."""

from __future__ import annotations

import os

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("NO_SKIP is set, and tests were skipped: see the reasons below", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""What holds for every run of the tests.

With NO_SKIP=1 a skipped test fails the run: where everything is installed, nothing may be left out unseen.

Property tests try the same examples each time, so that a change is judged by what it changes, not by luck.
`--hypothesis-profile=default` looks for new ones; `quick` doesn't look for the smallest that fails.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("quick", derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("same")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIP") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("NO_SKIP is set, and tests were skipped: see the reasons below", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

"""The command line, as a user meets it."""

from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from program import LOADBAND, environment, free_port, get, metric, run, running, wait_until

from loadband import __version__
from loadband.settings import DECLARATIONS

# Burns next to nothing: most of these tests are about words.
MODEST = {"MIN": "1", "MAX": "2", "MAX_EFFORT": "20m"}


def test_help_explains_every_setting_with_variable_range_and_default() -> None:
    done = run("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for declaration in DECLARATIONS:
        assert declaration.variable in words
        assert declaration.flag in words
        assert " ".join(declaration.parser.allowed.split()) in words
        assert f"default {declaration.shown_default}" in words


def test_version_is_that_of_the_package() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "loadband 0.2.0\n", "")


def test_the_version_is_written_in_two_places_alike() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_the_first_sample_waits_for_nothing_that_only_the_rest_of_a_run_needs() -> None:
    late = (
        "environs, hashlib, prometheus_client, psutil, rich, structlog, waitress, loadband.running, importlib.metadata"
    )
    # What measures the coverage of the tests may have loaded some of it already.
    code = (
        f"import sys; before = set(sys.modules); import loadband.cli; "
        f"print(*{{*{late.split(', ')}}} & (set(sys.modules) - before))"
    )
    done = run(command=(sys.executable, "-c", code))
    assert (done.returncode, done.stdout) == (0, "\n"), done


def test_check_prints_each_setting_and_where_it_came_from_and_burns_nothing() -> None:
    done = run("--check", "--max", "80%", MIN="55", LISTEN="off")
    lines = {line.split()[0]: line.split(None, 1)[1] for line in done.stdout.splitlines()}
    assert done.returncode == 0
    assert lines["LOADBAND_MIN"].split(None, 1) == ["55", "environment variable"]
    assert lines["LOADBAND_MAX"].split(None, 1) == ["80%", "flag"]
    assert lines["LOADBAND_SCOPE"].split(None, 1) == ["host", "default"]


def test_five_numbers_are_the_ancestors() -> None:
    done = run("--check", "60", "70", "10", "2", "10")
    assert done.returncode == 0
    assert ["LOADBAND_CONTROLLER", "step"] in [line.split()[:2] for line in done.stdout.splitlines()]


def test_all_bad_settings_are_told_at_once_before_anything_burns() -> None:
    done = run("--nice", "20", MIN="seventy", INTERVAL="1ms", SCOPE="planet")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 4
    for words in ("LOADBAND_MIN='seventy'", "LOADBAND_INTERVAL='1ms'", "LOADBAND_SCOPE='planet'", "--nice='20'"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seed", range(20))
def test_bad_configurations_end_with_2_and_no_traceback(seed: int) -> None:
    rng = random.Random(seed)
    names = rng.sample([declaration.name for declaration in DECLARATIONS], 3)
    bad = {
        name: rng.choice(["-1", "nan", "1e99", "x", "70 %%", "\u00bd", "0x10", "--", "99999999999"]) for name in names
    }
    done = run(**bad)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(f"LOADBAND_{name}=" in done.stderr for name in bad)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(LISTEN=address)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "LOADBAND_LISTEN" in done.stderr
    assert address in done.stderr


def test_another_system_than_linux_is_one_sentence() -> None:
    code = "import sys; sys.platform = 'darwin'; from loadband.__main__ import main; sys.exit(main())"
    done = run(command=(sys.executable, "-c", code))
    assert done.returncode == 2
    assert done.stderr == "loadband reads Linux's /proc and cgroups; it runs on Linux only.\n"


def test_an_unknown_variable_warns_with_the_nearest_and_kubernetes_own_do_not() -> None:
    done = run("--check", MIN_="60", PORT="tcp://10.0.0.1:10670", SERVICE_HOST="10.0.0.1")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "LOADBAND_MIN" in done.stderr


def test_without_a_terminal_log_lines_tell_the_run_in_json_too() -> None:
    done = run(**MODEST, DURATION="2s", LOG_FORMAT="json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["event"] == "started"
    assert lines[0]["asked"] == "1..2 %"
    assert lines[-1]["event"] == "stopped"
    assert len(lines) < 15


def test_duration_ends_with_1_when_the_band_was_not_held() -> None:
    # So narrow that a busy machine doesn't hit it either: idle time is counted in steps of 10 ms.
    done = run(MIN="97.31", MAX="97.32", MAX_EFFORT="10m", DURATION="3s")
    assert done.returncode == 1


def test_a_run_ended_by_a_signal_is_ok_and_says_so_in_one_line() -> None:
    with running(**MODEST) as process:
        assert process.stdout is not None
        assert "event=started" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        out, err = process.communicate(timeout=5)
    assert time.monotonic() - began < 2
    assert process.returncode == 0
    assert out.splitlines()[-1].count("event=stopped") == 1
    assert err == ""


@pytest.mark.parametrize(
    ("settings", "sent", "code"),
    [
        ({"DURATION": "1h"}, signal.SIGTERM, 143),
        ({"DURATION": "1h"}, signal.SIGINT, 130),
        ({"DURATION": "1h", "ON_END": "idle"}, signal.SIGTERM, 0),
    ],
    ids=["a Job", "at a terminal", "a Deployment"],
)
def test_a_run_cut_short_is_no_success_unless_it_is_a_service(settings: dict[str, str], sent: int, code: int) -> None:
    with running(**MODEST | settings) as process:
        assert process.stdout is not None
        assert "event=started" in process.stdout.readline()
        process.send_signal(sent)
        out, err = process.communicate(timeout=5)
    assert process.returncode == code
    assert (out.count("event=stopped"), err) == (1, "")


def test_with_a_refused_hash_it_burns_all_the_same() -> None:
    code = (
        "import hashlib, sys\n"
        "def refused(*_): raise ValueError('[digital envelope routines] unsupported')\n"
        "hashlib.pbkdf2_hmac = refused\n"
        "from loadband.__main__ import main; sys.exit(main())"
    )
    port = free_port()
    settings = MODEST | {"LISTEN": f"127.0.0.1:{port}"}
    with running(command=(sys.executable, "-c", code), **settings) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "loadband: PBKDF2 can't be used here ([digital envelope routines] unsupported): CRC-32 burns instead\n"
        )
        own = 'loadband_cpu_seconds_total{mode="own",scope="host"}'
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_cycles_total") > 20)
        assert metric(get(port, "/metrics"), own) > 0
        assert metric(get(port, "/metrics"), "loadband_worker_restarts_total") == 0


def test_metrics_and_probes_answer_while_it_runs() -> None:
    port = free_port()
    with running(**MODEST, LISTEN=f"127.0.0.1:{port}") as process:
        wait_until(lambda: "Ready" in get(port, "/readyz"))
        assert "runs" in get(port, "/healthz")
        text = get(port, "/metrics")
        assert metric(text, "loadband_band_max_ratio") == 0.02
        assert metric(text, 'loadband_settings_info{controller="adaptive",scope="host",steal="idle"}') == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_a_failing_thread_ends_the_run_with_3() -> None:
    code = (
        "import loadband.log as log, sys\n"
        "def run(*_, **__): raise RuntimeError('the log broke')\n"
        "log.run = run\n"
        "from loadband.__main__ import main; sys.exit(main())"
    )
    done = run(command=(sys.executable, "-c", code), **MODEST)
    assert done.returncode == 3
    assert "the log broke" in done.stderr


def test_a_failing_loop_ends_the_run_with_3() -> None:
    code = (
        "import loadband.regulator as regulator, sys\n"
        "def judge(*_): raise RuntimeError('the loop broke')\n"
        "regulator.judge = judge\n"
        "from loadband.__main__ import main; sys.exit(main())"
    )
    done = run(command=(sys.executable, "-c", code), **MODEST)
    assert done.returncode == 3
    assert "the loop broke" in done.stderr


def test_a_stdout_that_nobody_reads_neither_stops_the_loop_nor_its_end() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    port = free_port()
    process = subprocess.Popen(
        [LOADBAND], stdout=writer, env=environment({**MODEST, "LISTEN": f"127.0.0.1:{port}"}), start_new_session=True
    )
    try:
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_cycles_total") > 5)
        before = metric(get(port, "/metrics"), "loadband_cycles_total")
        wait_until(lambda: metric(get(port, "/metrics"), "loadband_cycles_total") > before + 5)
        process.terminate()
        assert process.wait(3) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def start_in_terminal() -> tuple[subprocess.Popen[bytes], int]:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [LOADBAND],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment({**MODEST, "LISTEN": "off"}) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        start_new_session=True,
    )
    os.close(terminal)
    return process, controller


def read_until(controller: int, words: str, seconds: float = 10) -> str:
    seen = ""
    deadline = time.monotonic() + seconds
    while words not in seen:
        assert time.monotonic() < deadline, f"{words!r} did not appear: {seen[-500:]!r}"
        if select.select([controller], [], [], 0.1)[0]:
            seen += os.read(controller, 65536).decode(errors="replace")
    return seen


def test_in_a_terminal_it_shows_itself_and_ends_with_a_clean_screen() -> None:
    process, controller = start_in_terminal()
    try:
        read_until(controller, "1..2 %")
        process.send_signal(signal.SIGINT)
        end = read_until(controller, "\x1b[?1049l")  # the screen is as it was before
        if "\x1b[?25h" not in end:
            read_until(controller, "\x1b[?25h")  # and the cursor is shown again
        assert process.wait(3) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def test_a_terminal_that_closes_ends_the_run() -> None:
    process, controller = start_in_terminal()
    try:
        read_until(controller, "1..2 %")
        os.close(controller)
        process.send_signal(signal.SIGHUP)  # what a session leader's terminal sends
        assert process.wait(3) in {0, 3}
    finally:
        process.kill()
        process.wait()


def test_under_nohup_it_outlives_a_hangup() -> None:
    port = free_port()
    with running(command=("nohup", LOADBAND), **MODEST | {"LISTEN": f"127.0.0.1:{port}"}) as process:
        cycles = wait_for_cycles(port, 1)
        process.send_signal(signal.SIGHUP)
        wait_for_cycles(port, cycles + 5)
        assert get(port, "/readyz") == "Ready.\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(3) == 0


def wait_for_cycles(port: int, least: float) -> float:
    """The number of cycles, once it is at least so many and there is a reading."""
    name = "loadband_cycles_total"
    wait_until(lambda: get(port, "/readyz") and metric(get(port, "/metrics"), name) >= least)
    return metric(get(port, "/metrics"), name)


def test_a_second_signal_ends_it_at_once_with_its_number() -> None:
    code = (
        "import loadband.workers as workers, sys, time\n"
        "workers.Workers.close = lambda self: time.sleep(60)\n"
        "from loadband.__main__ import main; sys.exit(main())"
    )
    with running(command=(sys.executable, "-c", code), **MODEST) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(1) == 130

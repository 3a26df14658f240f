"""Recordings on disk: what is written is read again, whatever happens to the file."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import PLAN

from loadband.rebalance.events import (
    VERSION,
    Alert,
    AlertState,
    Clock,
    Disturbance,
    End,
    EndReason,
    Event,
    Host,
    Move,
    MoveState,
    Part,
    Phase,
    PhaseName,
    Run,
    Sample,
    Slice,
    Subject,
    Timing,
    Trouble,
)
from loadband.rebalance.recording import (
    KINDS,
    LAST_MOMENT,
    MAX_REMARKS,
    MOST,
    RecordingError,
    Writer,
    encode,
    read,
    schema,
)

RUN = Run(
    at=1000.5,
    run="run-1",
    plan=dataclasses.replace(PLAN, limits={"thrash": "== 0"}),
    platform=Part(name="local"),
    rebalancer=Part(name="mover", actors=("mover",), interval=1.0, settings={"confirm": "3"}),
    monitoring=(Part(name="prometheus", version="2.42"), Part(name="alertmanager")),
    timing=Timing(scrape=1.0, evaluation=1.0, alert_for=8.0, group_wait=0.0, group_interval=2.0, faster=15.0),
    moves_resolution=0.0,
)
EVENTS: tuple[Event, ...] = (
    Host(at=1.0, name="a", cpus=1.0),
    Slice(at=1.5, name="s", host=None, cpus=0.2, present=False),
    Sample(at=2.25, subject=Subject.SLICE, name="s", host="a", cpu_seconds=3.125),
    Alert(at=3.0, state=AlertState.FIRING, name="Hot", host="a", fingerprint="f"),
    Move(at=4.0, move="m", state=MoveState.DONE, slice="s", source="a", destination="b", by="mover", downtime=0.1),
    Phase(at=5.0, name=PhaseName.WATCH),
    Clock(at=6.0, host="a", offset=-0.5, uncertainty=0.001),
    Disturbance(at=7.0, what=Trouble.FOREIGN_LOAD, host="a", who="yes", amount=0.9, detail="böse \u2028 <script>\n"),
    End(at=8.0, reason=EndReason.COMPLETE),
)


def written(path: Path, *events: Event) -> Path:
    with Writer(path, RUN) as writer:
        for event in events:
            writer.write(event)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    recording = read(written(tmp_path / "r.jsonl", *EVENTS))
    assert recording.run == RUN
    assert recording.events == EVENTS
    assert recording.remarks == ()
    assert {type(event) for event in EVENTS} | {Run} == set(KINDS.values())


def test_every_line_is_what_the_schema_says(tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    lines = [json.loads(line) for line in written(tmp_path / "r.jsonl", *EVENTS).read_text().splitlines()]
    for line in lines:
        validator.validate(line)
    for broken in (
        {},
        {"kind": "host"},
        lines[1] | {"cpus": "1"},
        lines[1] | {"cpus": 0},
        lines[1] | {"at": -1},
        lines[3] | {"subject": "moon"},
    ):
        assert not validator.is_valid(broken)


def test_a_field_at_its_default_is_left_out() -> None:
    assert json.loads(encode(EVENTS[0])) == {"kind": "host", "at": 1.0, "name": "a", "cpus": 1.0}


def test_a_file_cut_at_any_byte_gives_all_whole_lines_and_names_the_rest(tmp_path: Path) -> None:
    data = written(tmp_path / "r.jsonl", *EVENTS).read_bytes()
    first = data.index(b"\n") + 1
    cut = tmp_path / "cut.jsonl"
    for size in range(len(data) + 1):
        cut.write_bytes(data[:size])
        if size < first:
            with pytest.raises(RecordingError, match="is empty, or was cut"):
                read(cut)
            continue
        recording = read(cut)
        whole = data[:size].count(b"\n") - 1
        assert recording.events == EVENTS[:whole]
        rest = size - data[:size].rindex(b"\n") - 1
        assert recording.remarks == ((f"line {whole + 2} has no end ({rest} bytes): left out",) if rest else ())


def test_unknown_kinds_and_fields_are_left_out_and_named_with_their_count(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl")
    host = json.loads(encode(EVENTS[0]))
    more = [{"kind": "moon", "at": 1}, {"kind": "moon"}, host | {"rack": "r1"}, host]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in more)
    recording = read(path)
    assert recording.events == (EVENTS[0], EVENTS[0])
    assert recording.remarks == (
        'unknown field "rack" of host (1 time): left out',
        'unknown kind "moon" (2 times): left out',
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("3", "must be an object with a kind"),
        ('{"kind": 3}', "must be an object with a kind"),
        ('{"kind": "host", "at": 1, "name": "a"}', "host: cpus missing"),
        ('{"kind": "host", "at": "1", "name": "a", "cpus": 1}', 'host.at = "1": must be a finite number'),
        ('{"kind": "host", "at": NaN, "name": "a", "cpus": 1}', "host.at = NaN: must be a finite number"),
        ('{"kind": "host", "at": true, "name": "a", "cpus": 1}', "host.at = true: must be a finite number"),
        ('{"kind": "host", "at": 1, "name": 7, "cpus": 1}', "host.name = 7: must be a string"),
        ('{"kind": "host", "at": 1, "name": "a", "cpus": 1, "present": 1}', "host.present = 1: must be true or false"),
        ('{"kind": "phase", "at": 1, "name": "siesta"}', "phase.name = \"siesta\": must be one of ['baseline'"),
        ('{"kind": "phase", "at": 1, "name": []}', "phase.name = []: must be one of"),
        ('{"kind": "host", "at": 1, "name": "a", "cpus": 0}', "host.cpus = 0: must be more than 0"),
        ('{"kind": "host", "at": 1, "name": "a", "cpus": 1' + 400 * "0" + "}", ": must be a finite number"),
        ('{"kind": "host", "at": 1, "name": "a", "cpus": 1' + 5000 * "0" + "}", "not valid JSON: Exceeds the limit"),
        ('{"kind": "slice", "at": 1, "name": "a", "host": "b", "cpus": -1}', "slice.cpus = -1: must be at least 0"),
        ('{"kind": "host", "at": 1, "name": "a", "cpus": 1e16}', "must be a finite number, 1e+15 at most"),
        (
            '{"kind": "clock", "at": 1, "host": "a", "offset": 0, "uncertainty": -1}',
            "clock.uncertainty = -1: must be at least 0",
        ),
        ('{"kind": "end", "at": -1, "reason": "complete"}', "end.at = -1: must be a time until the year 9999"),
        ('{"kind": "end", "at": 1e12, "reason": "complete"}', "end.at = 1000000000000.0: must be a time until"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ('{"kind": "host", "at": ' + "[" * 100_000, "not valid JSON: nested too deeply"),
        ("\x00", "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_what_is_allowed(tmp_path: Path, line: str, said: str) -> None:
    path = written(tmp_path / "r.jsonl", EVENTS[0])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordingError) as refused:
        read(path)
    assert f"{path}:3: " in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": VERSION + 1}, f"version {VERSION + 1} is later than {VERSION}"),
        ({"plan": 3}, "run.plan = 3: must be an object"),
        ({"plan": json.loads(encode(RUN))["plan"] | {"window": 0}}, "run.plan.window = 0: must be more than 0"),
        ({"monitoring": {}}, "run.monitoring = {}: must be a list"),
        ({"monitoring": [{}]}, "run.monitoring[0]: name missing"),
        ({"rebalancer": {"name": "x", "settings": {"a": 1}}}, "must be an object of strings"),
        ({"repeat": 1.5}, "run.repeat = 1.5: must be a whole number"),
        ({"kind": "host"}, "host: cpus, name missing"),
    ],
)
def test_a_bad_first_line_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(json.loads(encode(RUN)) | change) + "\n")
    with pytest.raises(RecordingError, match=r"r\.jsonl:1: ") as refused:
        read(path)
    assert said in str(refused.value)


def test_a_file_that_does_not_begin_with_a_run_or_has_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(encode(EVENTS[0]) + "\n")
    with pytest.raises(RecordingError, match="must be a run, not 'host'"):
        read(path)
    path.write_text(f"{encode(RUN)}\n{encode(RUN)}\n")
    with pytest.raises(RecordingError, match="second run"):
        read(path)
    path.write_text('{"kind": "moon"}\n')
    with pytest.raises(RecordingError, match="is empty"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"r\.jsonl: cannot be read: No such file"):
        read(tmp_path / "r.jsonl")


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", *EVENTS)
    with pytest.raises(RecordingError, match="cannot be made: File exists"):
        Writer(path, RUN)
    assert read(path).events == EVENTS


class _Disk:
    """A file on a disk with so much room."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, line: bytes) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = line[: self._room]
        self._room -= len(part)
        return int(self._file.write(part))

    def fileno(self) -> int:
        return int(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def test_a_recording_without_room_for_its_first_line_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.open
    monkeypatch.setattr(Path, "open", lambda *given, **named: _Disk(whole(*given, **named), 30))
    with pytest.raises(RecordingError, match=r"cannot be written: the disk is full"):
        Writer(tmp_path / "r.jsonl", RUN)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path: Path, room: int) -> None:
    with Writer(tmp_path / "r.jsonl", RUN) as writer:
        writer.write(EVENTS[0])
        file, writer._file = writer._file, _Disk(writer._file, room)  # type: ignore[assignment] # a disk of the test
        with pytest.raises(RecordingError, match="cannot be written: "):
            writer.write(EVENTS[3])
        writer._file = file
    recording = read(tmp_path / "r.jsonl")
    assert (recording.events, recording.remarks) == (EVENTS[:1], ())


_text = st.text(max_size=20)
_moment = st.floats(0, LAST_MOMENT)
_cpus = st.floats(0, MOST, exclude_min=True)


@settings(max_examples=50)
@given(st.lists(st.builds(Host, at=_moment, name=_text, cpus=_cpus, present=st.booleans()), max_size=5))
def test_any_text_and_any_number_survive(tmp_path_factory: pytest.TempPathFactory, hosts: list[Host]) -> None:
    path = tmp_path_factory.mktemp("any") / "r.jsonl"
    assert read(written(path, *hosts)).events == tuple(hosts)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.just(encode(RUN).encode())))
def test_whatever_the_bytes_are_they_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, end: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "r.jsonl"
    for data in (end, encode(RUN).encode() + b"\n" + end + b"\n"):
        path.write_bytes(data)
        try:
            assert read(path).run == RUN
        except RecordingError as error:
            assert str(error).startswith(f"{path}:")  # noqa: PT017 - both are right


_any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text(max_size=5), inside, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_whatever_a_field_holds_it_is_read_or_refused_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    line = json.loads(encode(data.draw(st.sampled_from((RUN, *EVENTS)))))
    line[data.draw(st.sampled_from(sorted(line)))] = data.draw(_any_json)
    path = tmp_path_factory.mktemp("field") / "r.jsonl"
    first = [] if line["kind"] == "run" else [encode(RUN)]
    path.write_text("\n".join([*first, json.dumps(line), ""]))
    try:
        read(path)
    except RecordingError as error:
        assert re.match(rf"{re.escape(str(path))}(:{len(first) + 1})?: ", str(error))  # noqa: PT017 - both are right


def test_half_of_a_surrogate_pair_becomes_a_replacement_character(tmp_path: Path) -> None:
    host = Host(at=1.0, name="a\udcffb\U0001f600", cpus=1.0)
    (event,) = read(written(tmp_path / "r.jsonl", host)).events
    assert event == dataclasses.replace(host, name="a\ufffdb\U0001f600")


def test_a_flood_of_unknown_kinds_makes_few_remarks(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl")
    with path.open("a") as file:
        file.writelines(f'{{"kind": "k{number:03}"}}\n' for number in range(100))
    remarks = read(path).remarks
    assert len(remarks) == MAX_REMARKS + 1
    assert remarks[-1] == "80 more kinds and fields that aren't known: left out"


SECRETS = [
    ({"token": "hunter2"}, {"token": "***"}),
    ({"LOADBAND_CONTROL_TOKEN": "hunter2"}, {"LOADBAND_CONTROL_TOKEN": "***"}),
    ({"command": "plan --api-token hunter2 --fast"}, {"command": "plan --api-token *** --fast"}),
    ({"command": "plan --password='hunter2' x"}, {"command": "plan --password='***' x"}),
    ({"command": "PGPASSWORD=hunter2 plan"}, {"command": "PGPASSWORD=*** plan"}),
    ({"headers": "Authorization: Bearer hunter2"}, {"headers": "Authorization: Bearer ***"}),
    ({"config": '{"client_secret": "hunter2"}'}, {"config": '{"client_secret": "***"}'}),
    ({"url": "http://me:hunter2@prom:9090/x"}, {"url": "http://***@prom:9090/x"}),
    ({"token_file": "/run/token"}, {"token_file": "/run/token"}),
    ({"command": "plan --token-file /run/token"}, {"command": "plan --token-file /run/token"}),
    ({"confirm": "3", "url": "http://prom:9090/a@b"}, {"confirm": "3", "url": "http://prom:9090/a@b"}),
]


@pytest.mark.parametrize(("given_settings", "recorded"), SECRETS)
def test_what_looks_like_a_secret_in_settings_is_never_written(
    tmp_path: Path, given_settings: dict[str, str], recorded: dict[str, str]
) -> None:
    platform, rebalancer, other = (Part(name=name, settings=given_settings) for name in "prm")
    secretive = dataclasses.replace(RUN, platform=platform, rebalancer=rebalancer, monitoring=(other,))
    path = tmp_path / "r.jsonl"
    with Writer(path, secretive):
        pass
    assert "hunter2" not in path.read_text()
    run = read(path).run
    assert [part.settings for part in (run.platform, run.rebalancer, *run.monitoring)] == 3 * [recorded]


def test_credentials_in_any_text_are_never_written(tmp_path: Path) -> None:
    detail = 'GET https://me:hunter2@prom/x "refused" (bearer hunter2hunter2)'
    trouble = Disturbance(at=1.0, what=Trouble.MONITORING_DOWN, detail=detail)
    path = written(tmp_path / "r.jsonl", trouble)
    assert "hunter2" not in path.read_text()
    (event,) = read(path).events
    assert isinstance(event, Disturbance)
    assert event.detail == 'GET https://***@prom/x "refused" (bearer ***)'


def test_an_hour_of_200_slices_on_50_hosts_is_read_in_2_seconds(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    names = [(Subject.HOST, f"host-{i}") for i in range(50)] + [(Subject.SLICE, f"slice-{i}") for i in range(200)]
    with Writer(path, RUN) as writer:
        for turn in range(240):
            for subject, name in names:
                at = 1.7e9 + 15.0 * turn + 0.123456
                writer.write(Sample(at=at, subject=subject, name=name, host="host-1", cpu_seconds=1.234567 * turn))
    began = time.process_time()
    recording = read(path)
    took = time.process_time() - began
    print(f"60000 lines read in {took:.2f} s of CPU time")
    assert len(recording.events) == 60000
    assert took < 6  # the goal is 2

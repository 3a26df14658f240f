"""The platform libvirt on daemons that obey at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from plans import plan
from simulated_libvirt import ABORTED, TCG, Daemon, Domain, SimulatedError, Simulation

from loadband.rebalance.events import (
    Clock,
    Disturbance,
    Event,
    Host,
    Move,
    MoveState,
    Sample,
    Slice,
    Subject,
    Trouble,
)
from loadband.rebalance.platforms import MoveRefusedError, PlatformError
from loadband.rebalance.platforms.libvirt import guests, node, platform
from loadband.rebalance.platforms.libvirt.node import Migration
from loadband.rebalance.platforms.libvirt.pace import SETTLED
from loadband.rebalance.platforms.libvirt.platform import NOWHERE, SOMEBODY, Libvirt
from loadband.rebalance.platforms.libvirt.remote import VOLUME, Remote

A, B = "qemu+ssh://a/system", "qemu+ssh://b/system"
PLAN = plan(window=0.4, sample_interval=0.1)
SECTOR = b"sector"


class Stage:
    """A platform of two hosts that is polled while something is waited for."""

    def __init__(
        self,
        *,
        fail_moves: int = 0,
        patience: float = 20.0,
        others: float = 0.0,
        window: float = PLAN.window,
        how: Migration = Migration.PRE_COPY,
        theirs: Sequence[str] = (),
    ) -> None:
        self.library = Simulation(A, B)
        self.a, self.b = self.library.daemons.values()
        self.a.others = self.b.others = others
        plan_ = replace(PLAN, window=window)
        self.ground = Remote({"a": A, "b": B}, plan_, self.library, SECTOR, "default")
        self.platform = Libvirt(
            self.ground, plan_, self.library, fail_moves=fail_moves, patience=patience, how=how, theirs=theirs
        )
        self.events: list[Event] = []

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, self.events
            self.events += self.platform.poll()
            time.sleep(0.005)

    def make(self, name: str = "s1", cpus: float = 0.0, *, movable: bool = True) -> Domain:
        """Make a slice on a, and wait until it is there and was told how much to do."""
        self.platform.make(name, "a", cpus, movable=movable)
        self.until(lambda: self.there(self.a, name) is not None)
        found = self.there(self.a, name)
        assert found
        self.until(lambda: found.said.endswith(b"\n"))
        return found

    def there(self, daemon: Daemon, name: str = "s1") -> Domain | None:
        return next((one for one in daemon.domains.values() if one.name_.endswith(f"-{name}")), None)

    def moves(self) -> list[Move]:
        return [one for one in self.events if isinstance(one, Move)]

    def ended(self) -> list[Move]:
        return [one for one in self.moves() if one.state.is_end]

    def troubles(self, what: Trouble) -> list[Disturbance]:
        return [one for one in self.events if isinstance(one, Disturbance) and one.what is what]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "LOOK", 0.01)
    monkeypatch.setattr(platform, "SURE", 0.1)
    monkeypatch.setattr(platform, "SILENT", 0.2)


@contextmanager
def stage(**differences: Any) -> Iterator[Stage]:
    one = Stage(**differences)
    try:
        one.platform.start()
        yield one
    finally:
        one.a.clinging = one.b.clinging = False
        one.platform.close()


def test_hosts_are_what_their_daemons_say() -> None:
    with stage() as it:
        it.until(lambda: any(isinstance(one, Sample) for one in it.events))
        assert [(one.name, one.cpus) for one in it.platform.hosts()] == [("a", 2.0), ("b", 2.0)]
        assert [one.name for one in it.events if isinstance(one, Host)] == ["a", "b"]
        assert [one.offset for one in it.events if isinstance(one, Clock)] == [0.0, 0.0]
        part = it.platform.describe()
        assert (part.name, part.version, part.counts_others) == ("libvirt", "libvirt 9.1.2, QEMU 7.2.0", True)
        assert (part.settings["a"], part.settings["guests"]) == (A, "kvm")
        assert it.a.alive is not None
        assert it.platform.targets() == ()
        assert it.platform.moves_resolution == 0.0
        it.platform.watch({"prometheus": 1})
    assert it.a.closed
    assert it.b.closed


def test_the_disk_is_uploaded_once_for_each_host_and_removed() -> None:
    with stage() as it:
        for daemon in (it.a, it.b):
            stream = daemon.volumes[VOLUME].stream
            assert stream
            assert stream.finished
            assert bytes(stream.into) == guests.disk(SECTOR)
            assert daemon.volumes[VOLUME].length == guests.DISK
    assert it.a.volumes == it.b.volumes == {}


def test_hosts_that_share_a_pool_share_the_disk() -> None:
    it = Stage()
    it.b.volumes = it.a.volumes
    it.platform.start()
    assert list(it.a.volumes) == [VOLUME]
    assert it.platform.close() == []
    assert it.a.volumes == {}


def test_a_guest_is_emulated_unless_all_hosts_have_kvm() -> None:
    it = Stage()
    it.b.capabilities = TCG
    it.platform.start()
    assert ' type="qemu">' in it.make().xml
    it.platform.close()


def test_a_slice_is_made_told_how_much_to_do_and_sampled() -> None:
    with stage() as it:
        domain = it.make("s1", 0.2)
        domain.burn(0.1)
        told = domain.said
        assert guests.run_of(domain.xml) == it.platform.describe().settings["run"]
        assert it.platform.pending() == ["s1"]
        # It burns half of what it is asked for: it is told to do twice as much.
        it.until(lambda: domain.said != told and domain.said.endswith(b"\n"))
        before, after = (int(text.split()[-1]) for text in (told, domain.said))
        assert after == pytest.approx(2 * before, rel=0.1)
        domain.burn(0.2)
        it.until(lambda: not it.platform.pending())
        samples = [one for one in it.events if isinstance(one, Sample) and one.subject is Subject.SLICE]
        assert {(one.name, one.host) for one in samples} == {("s1", "a")}
        # The first may be from before it burns.
        assert samples[-1].cpu_seconds > samples[0].cpu_seconds >= 0
        hosts = [one for one in it.events if isinstance(one, Sample) and one.subject is Subject.HOST]
        assert {one.host for one in hosts} == {"a", "b"}
        (slice_,) = it.platform.view().slices
        assert (slice_.name, slice_.host, slice_.cpus) == ("s1", "a", 0.2)
        assert it.platform.view().hosts[0].utilization == pytest.approx(0.1, abs=0.05)
        # What was found out serves the next one.
        second = it.make("s2", 0.2)
        first, last = (int(text.split()[-1]) for text in (second.said, domain.said))
        assert first == pytest.approx(last, rel=0.1)


def test_a_slice_on_a_host_that_has_just_become_full_is_not_told_to_work_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the window of the views, the host is not known to be full yet."""
    monkeypatch.setattr(platform, "LATELY", 0.2)
    with stage(window=30) as it:
        domain = it.make(cpus=0.2)
        it.a.others = 2.0
        domain.burn(0.1)
        lately = it.platform._guests["s1"].pace._lately
        it.until(lambda: lately.rate(2 * SETTLED) is not None)
        assert it.platform.view().hosts[0].utilization is None
        assert len(set(domain.said.split())) == 1


def test_a_slice_that_is_asked_for_another_amount_is_told() -> None:
    with stage() as it:
        domain = it.make("s1", 0.2)
        it.platform.ask("s1", 0.4)
        it.until(lambda: domain.said.count(b"\n") == 4)
        first, second = (int(word) for word in domain.said.split())
        assert second == 2 * first
        told = [(one.cpus, one.present) for one in it.events if isinstance(one, Slice)]
        assert told == [(0.2, True), (0.4, True)]
        it.platform.remove("s1")
        it.until(lambda: not it.a.domains)
        assert [one.present for one in it.events if isinstance(one, Slice)] == [True, True, False]
        it.platform.remove("s1")


def test_slices_that_cannot_be_are_refused() -> None:
    with stage() as it:
        it.make()
        with pytest.raises(PlatformError, match="there is a slice s1 already"):
            it.platform.make("s1", "a", 0.1)
        with pytest.raises(PlatformError, match="no host c for slice s2"):
            it.platform.make("s2", "c", 0.1)
        with pytest.raises(PlatformError, match=r"s2 is to burn 1\.2 CPUs, and a guest burns 0\.95 at most"):
            it.platform.make("s2", "a", 1.2)
        it.a.broken = "no memory left"
        it.platform.make("s2", "a", 0.1)
        with pytest.raises(PlatformError, match="slice s2 can't be made on a: no memory left"):
            it.until(lambda: False)
        it.a.broken = ""


def test_a_slice_that_cannot_be_ended_is_the_platforms_failure() -> None:
    with stage() as it:
        it.make()
        it.a.clinging = True
        it.platform.remove("s1")
        with pytest.raises(PlatformError, match="a slice can't be ended: can't be destroyed"):
            it.until(lambda: False)
        it.a.clinging = False


def test_a_move_is_a_live_migration_with_the_cost_that_libvirt_states() -> None:
    with stage() as it:
        it.make("s1", 0.2).burn(0.2)
        it.until(lambda: not it.platform.pending())
        it.platform.move("s1", "b", by="mover", reason="hot")
        (moving,) = it.platform.view().slices
        assert moving.host is None
        assert it.platform.pending() == ["s1"]
        it.until(it.ended)
        assert [one.state for one in it.moves()] == [MoveState.ASKED, MoveState.ACCEPTED, MoveState.DONE]
        done = it.moves()[-1]
        assert (done.source, done.destination, done.by, done.move) == ("a", "b", "mover", "s1-1")
        assert (done.seconds, done.downtime, done.reason) == (0.3, 0.009, "hot; 0.60 MB were sent")
        assert it.a.flags == [Simulation.VIR_MIGRATE_LIVE | Simulation.VIR_MIGRATE_PEER2PEER]
        assert it.a.domains == {}
        (there,) = it.platform.view().slices
        assert there.host == "b"
        assert it.platform.describe().settings["migration"] == "pre-copy"
        arrived = it.there(it.b)
        assert arrived
        it.until(lambda: arrived.said)
        arrived.burn(0.2)
        it.until(lambda: [one.host for one in slices(it)].count("b") > 3)
        used = [one.cpu_seconds for one in slices(it)]
        assert used == sorted(used), "the counter goes on"


@pytest.mark.parametrize(
    ("how", "flag", "switched"),
    [
        (Migration.AUTO_CONVERGE, Simulation.VIR_MIGRATE_AUTO_CONVERGE, 0),
        (Migration.POST_COPY, Simulation.VIR_MIGRATE_POSTCOPY, 1),
    ],
)
def test_guests_migrate_as_was_asked_for(how: Migration, flag: int, switched: int) -> None:
    with stage(how=how) as it:
        it.make()
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        assert it.ended()[0].state is MoveState.DONE
        assert it.a.flags == [Simulation.VIR_MIGRATE_LIVE | Simulation.VIR_MIGRATE_PEER2PEER | flag]
        assert len(it.a.switched) == switched
        assert it.a.listeners == {}
        assert it.platform.describe().settings["migration"] == how.value


def slices(it: Stage) -> list[Sample]:
    return [one for one in it.events if isinstance(one, Sample) and one.subject is Subject.SLICE]


def test_a_migration_without_statistics_is_done_nevertheless() -> None:
    with stage() as it:
        it.make()
        it.b.statistics = None
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        done = it.moves()[-1]
        assert (done.state, done.seconds, done.downtime, done.reason) == (MoveState.DONE, None, None, "hot")


def test_moves_that_cannot_be_are_refused_and_recorded() -> None:
    with stage() as it:
        it.make()
        it.make("n1", movable=False)
        assert [one.name for one in it.platform.view().slices] == ["s1"]
        it.platform.make("s3", "a", 0.1)
        refused = [
            ("s2", "b", "there is no slice s2"),
            ("n1", "b", "n1 is a neighbour"),
            ("s1", "c", "there is no host c"),
            ("s1", "a", "s1 is on a already"),
            ("s3", "b", "s3 isn't made yet"),
        ]
        for name, host, why in refused:
            with pytest.raises(MoveRefusedError, match=why):
                it.platform.move(name, host, by="mover", reason="hot")
        it.until(it.ended)
        assert [one.state for one in it.moves()] == len(refused) * [MoveState.ASKED, MoveState.FAILED]


def test_one_slice_at_a_time_leaves_a_host() -> None:
    go = threading.Event()
    with stage() as it:
        first, second = it.make("s1"), it.make("s2")
        it.a.migrating = lambda: None if go.wait(10) else SimulatedError("nobody let it go")
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.platform.move("s2", "b", by="mover", reason="hot")
        with pytest.raises(MoveRefusedError, match="s1 is on its way already"):
            it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(lambda: it.a.flags)
        assert {first.name_, second.name_} == set(it.a.domains)
        assert len(it.a.flags) == 1
        go.set()
        it.until(lambda: len([one for one in it.ended() if one.state is MoveState.DONE]) == 2)


def test_a_move_that_fails_leaves_the_slice_where_it_is_and_says_why() -> None:
    with stage() as it:
        it.make()
        it.a.migrating = lambda: SimulatedError("cannot allocate memory on the destination")
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        (failed,) = it.ended()
        assert (failed.state, failed.reason) == (MoveState.FAILED, "cannot allocate memory on the destination")
        (slice_,) = it.platform.view().slices
        assert slice_.host == "a"
        assert (len(it.a.domains), it.b.domains) == (1, {})


def test_moves_that_have_to_fail_go_where_nobody_is_and_the_next_one_succeeds() -> None:
    with stage(fail_moves=1) as it:
        it.make()
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(lambda: len(it.ended()) == 2)
        first, second = it.ended()
        assert (first.state, first.reason) == (MoveState.FAILED, f"Failed to connect to {NOWHERE}")
        assert second.state is MoveState.DONE


def test_a_move_that_takes_too_long_is_cancelled() -> None:
    with stage(patience=0.1) as it:
        it.make()
        it.a.migrating = lambda: None if it.a.aborted.wait(10) else SimulatedError("nobody cancelled it")
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        (cancelled,) = it.ended()
        assert cancelled.state is MoveState.CANCELLED
        assert cancelled.reason == "it took longer than 0.1 s: operation aborted: canceled by client"
        assert it.platform.view().slices[0].host == "a"


def test_a_move_that_somebody_cancels_is_recorded_as_that() -> None:
    with stage() as it:
        it.make()
        it.a.migrating = lambda: SimulatedError("canceled by client", ABORTED)
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(it.ended)
        assert it.ended()[0].state is MoveState.CANCELLED


def test_a_slice_that_is_removed_on_its_way_ends_wherever_it_arrives() -> None:
    go = threading.Event()
    with stage() as it:
        it.make()
        it.a.migrating = lambda: None if go.wait(10) else SimulatedError("nobody let it go")
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(lambda: it.a.flags)
        it.platform.remove("s1")
        it.a.aborted.clear()
        go.set()
        it.until(lambda: not it.a.domains and not it.b.domains)
        assert [one.state for one in it.ended()] == [MoveState.CANCELLED]
        assert it.ended()[0].reason == "the slice was removed"


def test_a_migration_by_somebody_else_is_recorded_as_theirs() -> None:
    with stage() as it:
        domain = it.make()
        it.until(lambda: not it.platform.pending())
        it.b.domains[domain.name_] = Domain(domain.name_, domain.xml, it.b)
        del it.a.domains[domain.name_]
        it.until(it.ended)
        (theirs,) = it.ended()
        assert (theirs.state, theirs.by, theirs.source, theirs.destination) == (MoveState.DONE, SOMEBODY, "a", "b")
        assert it.platform.view().slices[0].host == "b"


def test_a_slice_that_is_gone_is_recorded() -> None:
    with stage() as it:
        domain = it.make()
        del it.a.domains[domain.name_]
        it.until(lambda: it.troubles(Trouble.SLICE_DIED))
        (died,) = it.troubles(Trouble.SLICE_DIED)
        assert (died.host, died.who) == ("a", "s1")
        assert died.detail == f"slice s1 died: its domain {domain.name_} is gone"
        assert it.platform.view().slices == ()


def test_a_console_that_breaks_is_opened_again() -> None:
    with stage() as it:
        domain = it.make("s1", 0.2)
        domain.consoles[-1].broken = True
        it.platform.ask("s1", 0.4)
        it.until(lambda: len(domain.consoles) == 1)
        it.platform.ask("s1", 0.3)
        it.until(lambda: len(domain.consoles) == 2 and domain.said.endswith(b"\n"))


def test_a_daemon_that_does_not_answer_is_named_once_and_its_slices_are_not_given_up() -> None:
    with stage() as it:
        it.make()
        it.until(lambda: slices(it))
        it.a.broken = "the peer has gone"
        it.until(lambda: it.troubles(Trouble.HOST_NOT_READY))
        (silent,) = it.troubles(Trouble.HOST_NOT_READY)
        assert (silent.host, silent.detail) == ("a", "its libvirt daemon doesn't answer: the peer has gone")
        over = time.monotonic() + 0.3
        it.until(lambda: time.monotonic() > over)
        assert len(it.troubles(Trouble.HOST_NOT_READY)) == 1
        assert it.troubles(Trouble.SLICE_DIED) == []
        it.a.broken = ""
        over = time.monotonic() + 0.1
        it.until(lambda: time.monotonic() > over)
        assert it.platform.view().slices[0].host == "a"


def test_others_that_begin_to_burn_on_a_host_are_accused() -> None:
    with stage(others=0.2) as it:
        it.until(lambda: it.platform.view().hosts[1].utilization)
        over = time.monotonic() + 2 * PLAN.window
        it.until(lambda: time.monotonic() > over)
        assert it.troubles(Trouble.FOREIGN_LOAD) == [], "what it always does isn't foreign"
        it.b.began = time.monotonic() + (it.b.began - time.monotonic()) / 4
        it.b.others = 0.8
        it.until(lambda: it.troubles(Trouble.FOREIGN_LOAD))
        assert {one.host for one in it.troubles(Trouble.FOREIGN_LOAD)} == {"b"}


def test_at_the_end_only_the_runs_own_domains_are_ended() -> None:
    with stage() as it:
        it.make()
        it.make("s2")
        it.a.domains["vm"] = Domain("vm", "<domain><name>vm</name><metadata/></domain>", it.a)
        it.b.domains["loadband-other-s1"] = Domain(
            "loadband-other-s1",
            guests.domain_xml(guests.Seed(name="loadband-other-s1", run="other", slice="s1", image="/x")),
            it.b,
        )
        assert it.platform.close() == []
        assert (list(it.a.domains), list(it.b.domains)) == (["vm"], ["loadband-other-s1"])
        assert it.platform.close() == []


def test_at_the_end_a_migration_is_given_up() -> None:
    with stage() as it:
        it.make()
        it.a.migrating = lambda: None if it.a.aborted.wait(10) else SimulatedError("nobody cancelled it")
        it.platform.move("s1", "b", by="mover", reason="hot")
        it.until(lambda: it.a.flags)
        assert it.platform.close() == []
        assert it.a.domains == it.b.domains == {}


def test_what_cannot_be_undone_is_named_with_the_command_that_does_it() -> None:
    with stage() as it:
        it.make()
        it.a.clinging = True
        left = it.platform.close()
        assert any(A in one and "can't be destroyed" in one for one in left)
        assert f"virsh --connect '{A}' vol-delete {VOLUME} --pool default" in left[-1]


def test_a_daemon_that_is_silent_at_the_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "END_SECONDS", 0.1)
    with stage() as it:
        go = threading.Event()
        domain = it.make()
        monkeypatch.setattr(domain, "destroy", lambda: go.wait(10))
        (left,) = it.platform.close()
        assert left.startswith("a doesn't answer: ")
        go.set()


def test_hosts_that_cannot_be_reached_or_used_are_named() -> None:
    library = Simulation(A, B)
    with pytest.raises(PlatformError, match=r"--host b=qemu\+ssh://c/system: can't be reached: Failed to connect"):
        Remote({"a": A, "b": "qemu+ssh://c/system"}, PLAN, library, SECTOR, "default")
    assert library.daemons[A].closed
    library.daemons[B].broken = "not now"
    with pytest.raises(PlatformError, match="a host doesn't say how many CPUs it has: not now"):
        Remote({"a": A, "b": B}, PLAN, library, SECTOR, "default")
    library.daemons[B].broken = ""
    it = Libvirt(Remote({"a": A, "b": B}, PLAN, library, SECTOR, "images"), PLAN, library)
    with pytest.raises(PlatformError, match="host a can't be used: no storage pool with matching name 'images'"):
        it.start()
    library.daemons[A].capabilities = "<capabilities/>"
    it = Libvirt(Remote({"a": A, "b": B}, PLAN, library, SECTOR, "default"), PLAN, library)
    with pytest.raises(PlatformError, match="host a can't be used: it runs no x86_64 machines"):
        it.start()
    assert it.close() == []


def test_a_daemon_that_says_no_version_cannot_be_used() -> None:
    it = Stage()
    one = node.Node("a", A, it.a, it.library)
    it.a.broken = "not now"
    with pytest.raises(PlatformError, match="the libvirt daemon of a doesn't answer: not now"):
        one.version()


# Guests that are there already

THEIRS = "<domain><name>theirs</name><vcpu cpuset='3'>1</vcpu><cputune/></domain>"


def theirs(daemon: Daemon, name: str, cpus: float = 0.0, *, persistent: bool = False) -> Domain:
    """Have a guest that was there before the run."""
    daemon.domains[name] = Domain(name, THEIRS, daemon, persistent=persistent)
    daemon.domains[name].burn(cpus)
    return daemon.domains[name]


def test_guests_that_are_there_already_are_moved_and_what_is_made_stays() -> None:
    it = Stage(theirs=["web-*", "app-*"])
    theirs(it.a, "web-1", 0.3, persistent=True)
    theirs(it.a, "app-1")
    theirs(it.a, "db-1", 0.5)
    it.platform.start()
    try:
        it.make("s1", 0.2).burn(0.2)
        it.until(lambda: all(one.host for one in it.platform.view().slices))
        seen = {one.name: (one.host, round(one.cpus, 1)) for one in it.platform.view().slices}
        assert seen == {"web-1": ("a", 0.3), "app-1": ("a", 0.0)}
        with pytest.raises(MoveRefusedError, match="s1 is a neighbour, which nobody may move"):
            it.platform.move("s1", "b", by="mover", reason="hot")
        with pytest.raises(MoveRefusedError, match="there is no slice db-1"):
            it.platform.move("db-1", "b", by="mover", reason="hot")
        for name in ("web-1", "app-1"):
            it.platform.move(name, "b", by="mover", reason="hot")
        it.until(lambda: [one.state for one in it.ended()].count(MoveState.DONE) == 2)
        assert it.b.domains["web-1"].xml == it.b.domains["app-1"].xml == THEIRS
        live = Simulation.VIR_MIGRATE_LIVE | Simulation.VIR_MIGRATE_PEER2PEER
        kept = Simulation.VIR_MIGRATE_PERSIST_DEST | Simulation.VIR_MIGRATE_UNDEFINE_SOURCE
        assert it.a.flags == [live | kept, live]
        told = {one.name: (one.made, round(one.cpus, 1)) for one in it.events if isinstance(one, Slice)}
        assert told == {"s1": (True, 0.2), "web-1": (False, 0.3), "app-1": (False, 0.0)}
        assert {one.name for one in it.events if isinstance(one, Sample) and one.subject is Subject.SLICE} == {"s1"}
        assert not it.b.domains["web-1"].consoles
    finally:
        left = it.platform.close()
    assert left == []
    assert (sorted(it.a.domains), sorted(it.b.domains)) == (["db-1"], ["app-1", "web-1"])


def test_a_guest_of_theirs_that_ends_is_told() -> None:
    it = Stage(theirs=["web-*"])
    theirs(it.a, "web-1", 0.3)
    it.platform.start()
    try:
        it.until(lambda: all(one.host for one in it.platform.view().slices))
        del it.a.domains["web-1"]
        it.until(lambda: it.troubles(Trouble.SLICE_DIED))
        assert it.platform.view().slices == ()
    finally:
        it.platform.close()


def test_guests_that_nobody_can_mean_are_refused() -> None:
    it = Stage(theirs=["web-*"])
    theirs(it.a, "db-1")
    theirs(it.a, "web-1").state = 3  # paused, as one that arrives
    with pytest.raises(PlatformError, match=r"--guest web-\*: no guest of such a name runs on any host"):
        it.platform.start()
    it.platform.close()
    it = Stage(theirs=["web-*"])
    theirs(it.a, "web-1")
    theirs(it.b, "web-1")
    with pytest.raises(PlatformError, match="a guest web-1 is on a and on b"):
        it.platform.start()
    it.platform.close()
    assert (list(it.a.domains), list(it.b.domains)) == (["web-1"], ["web-1"])


def test_a_host_that_does_not_say_which_guests_it_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Stage(theirs=["web-*"])
    theirs(it.a, "web-1")
    monkeypatch.setattr(node.Node, "look", _no_answer)
    with pytest.raises(PlatformError, match="host a doesn't say which guests it has: broken"):
        it.platform.start()
    it.platform.close()


def _no_answer(_: node.Node) -> None:
    raise SimulatedError("broken")

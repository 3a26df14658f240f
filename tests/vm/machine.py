"""A virtual machine of ours on QEMU, what it runs on, and the ways into it: QMP, the guest agent, forwarded ports."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from program import free_port, get, metric, wait_until

QEMU = "qemu-system-x86_64"
NODE_EXPORTER, LOADBAND = 9100, 10670
EMULATED_CPU = "max,-cx16,-erms,-fsrm"
"""With cx16 one image's kernel paniced. With the other two it clears and copies memory byte by byte, of which TCG makes
so many steps that a boot takes a third longer."""
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
CPUS = 2
BOOT_SECONDS = 400
"""An emulated machine on a busy host; 75 to 165 s were seen."""
ANSWER_SECONDS = 30.0
"""For an HTTP answer: after a pause an emulated machine has first to catch up."""


def slowly(condition: Callable[[], object], pause: float) -> Callable[[], object]:
    """Let a condition be asked for with pauses (seconds): a question costs an emulated machine up to a second."""

    def asked() -> object:
        time.sleep(pause)
        return condition()

    return asked


class Channel:
    """QMP or the guest agent: JSON objects, one a line, over a unix socket.

    Args:
        path: of the socket.
        seconds: for each answer.
    """

    def __init__(self, path: Path, seconds: float = 30) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb")

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command; what else arrives before it is let go.

        Raises:
            RuntimeError: the answer is an error.
            OSError: there was none in time.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode() + b"\n")
        return self._answer(command)

    def synchronize(self) -> None:
        """Drop the answers to what was asked before, of a guest agent that only now runs."""
        token = time.monotonic_ns() >> 10
        self._socket.sendall(json.dumps({"execute": "guest-sync", "arguments": {"id": token}}).encode() + b"\n")
        while self._answer("guest-sync") != token:
            pass

    def _answer(self, command: str) -> Any:
        while True:
            answer = json.loads(self._lines.readline() or b'{"error": "hung up"}')
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@dataclass(frozen=True)
class Disks:
    """What a machine boots from; outlives each QEMU."""

    root: Path
    """A qcow2 over the image, so that the image stays as it was built."""
    seed: Path
    """NoCloud's ISO."""
    variables: Path
    """The firmware's."""


def make_disks(directory: Path, image: Path) -> Disks:
    """A machine that was never booted; its disk is larger than the image."""
    disks = Disks(directory / "root.qcow2", directory / "seed.iso", directory / "variables.fd")
    shutil.copy(VARIABLES, disks.variables)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image.absolute())]
    subprocess.run([*create, str(disks.root), "6G"], check=True)
    return disks


def write_seed(seed: Path, instance: str, user_data: str) -> None:
    """The ISO that carries user-data into a machine; another instance is taken for a machine that is new."""
    source = seed.with_suffix(".d")
    source.mkdir(exist_ok=True)
    (source / "user-data").write_text(user_data)
    (source / "meta-data").write_text(f"instance-id: {instance}\n")
    made = ["xorriso", "-as", "mkisofs", "-quiet", "-volid", "cidata", "-joliet", "-rational-rock", "-output"]
    new = seed.with_suffix(".new")
    subprocess.run([*made, str(new), str(source)], check=True, capture_output=True)
    new.replace(seed)


class Machine:
    """A running QEMU; made by `running_machine`.

    Args:
        process: QEMU.
        directory: for its sockets and the log of its console.
        ports: of this host, by the guest's.
    """

    def __init__(self, process: subprocess.Popen[bytes], directory: Path, ports: dict[int, int]) -> None:
        self._process = process
        self._directory = directory
        self._began = time.monotonic()
        self.booted = 0.0
        """Seconds that the last boot took that was waited for, from switching on."""
        self.ports = ports
        self.qmp = Channel(directory / "qmp")
        try:
            self.qmp.ask("qmp_capabilities")
        except (OSError, RuntimeError):
            self.qmp.close()
            raise

    @property
    def console(self) -> str:
        """All that its serial console has shown."""
        return (self._directory / "console").read_text(errors="replace")

    def start(self, script: str) -> None:
        """Start a shell script inside, as root, that may well end the guest agent."""
        with self._agent(30) as agent:
            _execute(agent, script)

    def run(self, script: str, seconds: float = 60) -> tuple[int, str]:
        """Run a shell script inside, as root, through the guest agent; gives its exit code, and standard output.

        Each look at whether it has ended is work for an emulated machine: the more time it has, the fewer they are.

        Raises:
            OSError: the agent doesn't answer in time.
        """
        pause = 0.3 if seconds <= 60 else 2
        with self._agent(seconds) as agent:
            started = _execute(agent, script)
            status: dict[str, Any] = {"exited": False}

            def exited() -> object:
                status.update(agent.ask("guest-exec-status", **started))
                return status["exited"]

            wait_until(slowly(exited, pause), seconds, f"the end of {script!r}")
            return status["exitcode"], base64.b64decode(status.get("out-data", "")).decode().strip()

    @contextmanager
    def _agent(self, seconds: float) -> Iterator[Channel]:
        with closing(Channel(self._directory / "agent", seconds)) as agent:
            agent.synchronize()
            yield agent

    def out(self, script: str, seconds: float = 60) -> str:
        """What a script writes that must succeed."""
        code, output = self.run(script, seconds)
        assert code == 0, f"{script!r} ended with {code}: {output}"
        return output

    def shown(self, *properties: str) -> list[str]:
        """What systemd shows of loadband's unit, in the order asked for."""
        lines = self.out(f"systemctl show loadband --property {','.join(properties)}").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in properties]

    def wait_booted(self, old_boot: str = "") -> str:
        """Wait until it is up, cloud-init done; gives the boot's id.

        Args:
            old_boot: the id of the boot before, which isn't meant.
        """
        found = ""

        def up() -> bool:
            nonlocal found
            try:
                code, found = self.run("cat /proc/sys/kernel/random/boot_id", 10)
            except (OSError, RuntimeError, AssertionError):
                return False
            return code == 0 and found != old_boot

        wait_until(slowly(up, 2), BOOT_SECONDS, "the guest agent's answer")
        # The last job of a boot is cloud-init's last stage.
        self.out("systemctl is-system-running --wait; test -e /run/cloud-init/result.json", BOOT_SECONDS)
        self.booted = time.monotonic() - self._began
        return found

    def get(self, port: int, path: str) -> str:
        """What it answers by HTTP.

        Args:
            port: the guest's, one of `ports`.
            path: with the query.

        Raises:
            OSError: nobody answers within `ANSWER_SECONDS`.
        """
        return get(self.ports[port], path, ANSWER_SECONDS)

    def exported(self, series: str) -> float:
        """The value of one of loadband's series, asked through the forwarded port.

        Raises:
            OSError: nobody answers.
            LookupError: it isn't there (yet).
        """
        return metric(self.get(LOADBAND, "/metrics"), series)

    def wait_holding(self, seconds: float = 60) -> None:
        wait_until(slowly(lambda: self.exported('loadband_state{state="holding"}') == 1, 1), seconds, "holding")

    def write_settings(self, settings: str) -> None:
        self.out(f"printf %s '{settings}' > /etc/loadband/loadband.env")

    def alive(self) -> bool:
        """Whether the guest agent answers, which needs no network."""
        try:
            return self.run("true", 20)[0] == 0
        except (OSError, RuntimeError, AssertionError):
            return False

    def quit(self) -> None:
        """End QEMU, whatever the guest does."""
        self.qmp.ask("quit")
        self._process.wait(20)

    def power_off(self) -> None:
        self.start("systemctl --no-block poweroff")
        self._process.wait(90)


def _execute(agent: Channel, script: str) -> dict[str, Any]:
    """What names the started process, for `guest-exec-status`."""
    started: dict[str, Any] = agent.ask("guest-exec", path="/bin/sh", arg=["-c", script], capture_output=True)
    return started


@contextmanager
def running_machine(
    directory: Path, disks: Disks, accelerator: str, *, uefi: bool = True, network: bool = True, incoming: bool = False
) -> Iterator[Machine]:
    """A machine that is switched on, and off afterwards; `incoming` waits for one to migrate here from `directory`."""
    directory.mkdir()
    ports = {port: free_port() for port in (NODE_EXPORTER, LOADBAND)}
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{ours}-:{theirs}" for theirs, ours in ports.items())
    # Ends with this process, whatever ends that.
    command = ["setpriv", "--pdeathsig", "KILL", QEMU, "-machine", f"q35,accel={accelerator}"]
    command += ["-smp", str(CPUS), "-m", "768", "-display", "none"]
    command += ["-cpu", "host" if accelerator == "kvm" else EMULATED_CPU, "-nodefaults"]
    if uefi:
        command += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"]
        command += ["-drive", f"if=pflash,format=raw,file={disks.variables}"]
    command += ["-drive", f"if=none,id=root,format=qcow2,file={disks.root}"]
    command += ["-device", "virtio-blk-pci,drive=root,bootindex=0"]
    command += ["-drive", f"if=none,id=seed,format=raw,media=cdrom,readonly=on,file={disks.seed}"]
    command += ["-device", "ide-cd,drive=seed,id=cdrom"]
    command += ["-chardev", f"file,id=console,path={directory}/console", "-serial", "chardev:console"]
    command += ["-qmp", f"unix:{directory}/qmp,server=on,wait=off"]
    command += ["-device", "virtio-serial", "-chardev", f"socket,id=agent,path={directory}/agent,server=on,wait=off"]
    command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci"]
    if network:
        # Nothing outside is reached: no clock is stepped, no package comes.
        command += ["-netdev", f"user,id=net,restrict=on{forwards}", "-device", "virtio-net-pci,netdev=net,romfile="]
    if incoming:
        command += ["-incoming", f"unix:{directory}/incoming"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: (directory / "qmp").exists() or process.poll() is not None, 20, "QEMU")
        machine = Machine(process, directory, ports)
        with closing(machine.qmp):
            yield machine
    finally:
        process.terminate()
        process.wait(20)


def find_accelerator(directory: Path, disks: Disks) -> str:
    """KVM where a kernel boots under it, or else TCG; ACCELERATOR says which without a try."""
    if chosen := os.environ.get("ACCELERATOR"):
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    try:
        with running_machine(directory, disks, "kvm") as machine:
            wait_until(lambda: "Linux version" in machine.console, 20, "the kernel")
    except (OSError, AssertionError):
        return "tcg"
    return "kvm"

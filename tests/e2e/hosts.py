"""Several hosts on one kernel: each a network namespace on one bridge, with mounts, processes, /tmp, /home, /dev/shm, a
user without rights and an sshd of its own. Needs root and Debian's openssh-server, rsync and iproute2.

A host sees the machine's files read-only, the Python environment through an overlay of its own, and neither this
checkout nor anybody's home. To kill its first process is to cut its power: nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[2]
BRIDGE, PREFIX = "svgan-e2e", "svgan-e2e-"  # a bridge; the prefix of namespaces and folders
NETWORK, GATEWAY = "10.77.0.0/16", "10.77.0.1"
LOCK = Path("/run/lock/svgan-e2e")
USER, ID, HOME = "ubuntu", 7707, "/home/ubuntu"  # of every host, as cluster/gpu.yaml has it
NEEDED = {
    "ip": "iproute2",
    "sshd": "openssh-server",
    "rsync": "rsync",
    "unshare": "util-linux",
    "ssh": "openssh-client",
}

SSHD = """Port 22
HostKey /root/key
PidFile none
UsePAM no
PasswordAuthentication no
PermitRootLogin no
StrictModes no
MaxStartups 100
Subsystem sftp internal-sftp
"""

# $1: the host's folder, $2: its name, $3: the environment, which its user may add to, $4: the interpreter's home, $5:
# the user's number, others: what is to be hidden.
BOOT = """set -eu
folder=$1; name=$2; prefix=$3; base=$4; id=$5; shift 5
hostname "$name"
mount -t tmpfs tmpfs /srv
mkdir /srv/base /srv/environment /srv/host
mount --bind "$base" /srv/base
mount -t overlay overlay -o "lowerdir=$prefix,upperdir=$folder/changes,workdir=$folder/work" /srv/environment
mount --bind "$folder" /srv/host
for hidden in /run /var/tmp "$@"; do mount -t tmpfs tmpfs "$hidden"; done
mount -t tmpfs -o size=1g tmpfs /dev/shm
for folder in root home tmp; do mount --bind /srv/host/$folder /$folder; done
for file in hosts hostname resolv.conf passwd shadow; do mount --bind /srv/host/etc/$file /etc/$file; done
test -e "$base/bin" || { mkdir -p "$base"; mount --bind /srv/base "$base"; }
mkdir -p "$prefix"
mount --bind /srv/environment "$prefix"
mount -o remount,bind,ro /
mkdir /run/sshd
chown $id "$prefix" "$prefix"/lib/python*/site-packages
exec /usr/sbin/sshd -D -e -f /root/sshd_config
"""


class Host:
    """A host at an address of the bridge.

    key: the public key that may log in. home: files of its user's home, by name. The folder outlives a power cut, so
    that `start` afterwards is a host that is switched on again.
    """

    def __init__(
        self, folder: Path, name: str, address: str, key: str = "", home: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.name, self.address = folder / name, name, address
        self.namespace = PREFIX + name
        self.link = f"e2e{address.removeprefix('10.77.')}"  # a link's name has room for 15 letters
        self.home = self.folder / HOME[1:]
        self.process: subprocess.Popen | None = None
        for part in ("tmp", "root", "home", "changes", "work", "etc"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "root").chmod(0o711)  # the interpreter may lie below it
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / "root/key"], check=True)
        (self.folder / "root/sshd_config").write_text(SSHD)
        for file, text in self._etc().items():
            (self.folder / "etc" / file).write_text(text)
        (self.folder / "etc/shadow").chmod(0o600)
        self.write(".ssh/authorized_keys", key)
        self.write(".profile", ". ~/.bashrc\n")
        for file, text in dict(home or {}).items():
            self.write(file, text)
        self.write(".bashrc", f"export PATH={sys.prefix}/bin:$PATH\n{(home or {}).get('.bashrc', '')}")

    def _etc(self) -> dict[str, str]:
        return {
            "hosts": f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n",  # as Debian has it: a name leads to the loopback
            "hostname": f"{self.name}\n",
            "resolv.conf": "nameserver 127.0.0.1\n",  # nobody answers there: no name outside is looked up
            "passwd": Path("/etc/passwd").read_text() + f"{USER}:x:{ID}:{ID}::{HOME}:/bin/bash\n",
            "shadow": Path("/etc/shadow").read_text() + f"{USER}:*:20000:0:99999:7:::\n",
        }

    def write(self, file: str, text: str, mode: int = 0o600) -> None:
        """Put a file into its user's home."""
        path = self.home / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        self.own()

    def own(self) -> None:
        """Give everything in its user's home to the user."""
        for folder, _, files in os.walk(self.home):
            for path in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(path, ID, ID, follow_symlinks=False)

    def start(self) -> Host:
        """Switch it on; returns when its sshd answers."""
        _ip("netns", "add", self.namespace)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        _ip("link", "set", self.link, "master", BRIDGE, "up")
        for command in (("addr", "add", f"{self.address}/16", "dev", "eth0"), ("link", "set", "eth0", "up"),
                        ("link", "set", "lo", "up"), ("route", "add", "default", "via", GATEWAY)):  # fmt: skip
            _ip("-n", self.namespace, *command)
        apart = ("--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--mount-proc")
        boot = (
            "bash",
            "-c",
            BOOT,
            "boot",
            str(self.folder),
            self.name,
            sys.prefix,
            sys.base_prefix,
            str(ID),
            *_checkouts(),
        )
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        (self.folder / "work").mkdir()
        # Emptied: what an earlier start said there would be taken for this one's.
        with (self.folder / "boot.log").open("w") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, "setpriv", "--pdeathsig", "KILL", "unshare", *apart, *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(lambda: self._answers(), 20, lambda: (self.folder / "boot.log").read_text())
        return self

    def _answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} does not start:\n{(self.folder / 'boot.log').read_text()}")
        return "Server listening" in (self.folder / "boot.log").read_text() and self.first() is not None

    def first(self) -> int | None:
        """The number, on this machine, of the host's first process."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else None

    @property
    def on(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def command(self, *command: str | Path) -> list[str]:
        """What to run on this machine so that the command runs on the host, for its user, from a login shell."""
        enter = ["nsenter", "--target", str(self.first()), "--mount", "--pid", "--uts", "--ipc", "--net"]
        user = ["setpriv", f"--reuid={ID}", f"--regid={ID}", "--clear-groups"]
        clean = ["env", "-i", f"HOME={HOME}", f"USER={USER}", "TERM=dumb", "PATH=/usr/bin:/bin", "LANG=C.UTF-8"]
        return [*enter, *user, *clean, "bash", "--login", "-c", 'cd; exec "$@"', "bash", *map(str, command)]

    def run(self, *command: str | Path, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it there to its end; what it printed is in `stdout`, errors too."""
        # The command is ended from inside: to kill nsenter would leave it running.
        done = subprocess.run(
            self.command("timeout", "--kill-after=5", str(timeout), *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{self.name}: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
            )
        return done

    def begin(self, *command: str | Path, log: Path) -> subprocess.Popen:
        """Run it there in the background, its output in a file of this machine."""
        with log.open("w") as out:
            return subprocess.Popen(self.command(*command), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def cut(self) -> None:
        """Cut its power: all its processes at once, and it is gone from the network."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            self.process = None
            _ip("link", "del", self.link)
        _remove_namespace(self.namespace)


class Network:
    """The bridge and the hosts on it; one at a time on a machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []

    def host(self, name: str, address: str, key: str = "", home: Mapping[str, str] | None = None) -> Host:
        made = Host(self.folder, name, address, key, home)
        self.hosts.append(made)
        return made.start()

    def remove(self, host: Host) -> None:
        """Cut a host's power and throw its disk away."""
        host.cut()
        self.hosts.remove(host)
        shutil.rmtree(host.folder)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Everything is taken down whole at the end; what a killed run left behind is taken down at the start."""
    with FileLock(LOCK):
        sweep_up()
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        made = Network(folder)
        try:
            _ip("link", "add", BRIDGE, "type", "bridge")
            _ip("addr", "add", f"{GATEWAY}/16", "dev", BRIDGE)
            _ip("link", "set", BRIDGE, "up")
            yield made
        finally:
            for host in made.hosts:
                host.cut()
            sweep_up()


def sweep_up() -> None:
    """Remove what is ours by name: namespaces with all their processes, the bridge, folders."""
    for namespace in namespaces():
        _remove_namespace(namespace)
    if bridge_is_there():
        _ip("link", "del", BRIDGE)
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        shutil.rmtree(folder)


def namespaces() -> list[str]:
    told = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in told.splitlines() if line.startswith(PREFIX)]


def bridge_is_there() -> bool:
    return not subprocess.run(["ip", "link", "show", BRIDGE], capture_output=True).returncode


def leftovers() -> list[str]:
    """What of ours is still there: processes, namespaces, mounts, links."""
    found = [f"namespace {name}" for name in namespaces()] + ["bridge"] * bridge_is_there()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    found += [f"link {line.split()[1]}" for line in links.splitlines() if line.split()[1].startswith("e2e")]
    found += [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if PREFIX in line]
    here = os.readlink("/proc/self/ns/mnt")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mounts = (process / "mounts").read_text() if os.readlink(process / "ns/mnt") != here else ""
            if PREFIX in mounts or PREFIX in (process / "cmdline").read_text():
                found.append(f"process {process.name}: {(process / 'cmdline').read_text()[:80]}")
    return found


def missing() -> str:
    """Why there can be no hosts here; '' if there can."""
    if os.geteuid() != 0:
        return "hosts on one kernel need root"
    packages = {
        package for tool, package in NEEDED.items() if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")
    }
    return f"hosts on one kernel need Debian's {', '.join(sorted(packages))}" if packages else ""


def wait(what, seconds: float, told=lambda: "", every: float = 0.1) -> None:
    """Until what() is true. Raises AssertionError with told() after so many seconds."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s:\n{told()}")
        time.sleep(every)


def _checkouts() -> list[str]:
    """The folders that editable installs name, and this one: a host has no code of ours but what is sent to it."""
    named = [Path(line) for place in site.getsitepackages() for file in Path(place).glob("*.pth")
             for line in file.read_text().splitlines() if line.startswith("/")]  # fmt: skip
    gone = ("/tmp/", "/root/")  # hidden already
    return sorted({str(path) for path in (REPOSITORY, *named) if path.is_dir() and not f"{path}/".startswith(gone)})


def _remove_namespace(name: str) -> None:
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    if pids.returncode:
        return  # there is none
    for pid in pids.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

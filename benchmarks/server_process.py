"""`memspan serve` as a process of its own on a tiny random model, with all that it writes on a small file system in RAM."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.tiny import save_tiny_model

DISK = 512  # mebibytes
GOOD, OTHER = "good-key-0123456789abcdef", "other-key-0123456789abcdef"
INSIDE = "--inside"  # the own file systems
SLOWEST_START = 120.0  # seconds

Interval = tuple[float, float]


@dataclass
class Server:
    """The server's process, killed and started again on the same port and folder.

    Attributes:
        ram: mebibytes of memories that it keeps open.
        is_up: set as long as it takes requests.
        down: from each kill until it was ready again.
        samples: time, start of the process, bytes of its own memory, and open descriptors.
    """

    disk: Path
    work: Path
    model: Path
    port: int
    ram: int = 32
    is_up: threading.Event = field(default_factory=threading.Event)
    down: list[Interval] = field(default_factory=list)
    failed_starts: int = 0
    samples: list[tuple[float, float, int, int]] = field(default_factory=list)
    begun: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.work / "log"

    def start(self) -> None:
        """Start it, again if it fails, and wait until it is ready."""
        since = time.monotonic()
        while not self._started(since):
            self.failed_starts += 1
            time.sleep(1)
        self.begun = time.monotonic()
        self.is_up.set()

    def _started(self, since: float) -> bool:
        command = [sys.executable, "-m", "memspan", "serve", str(self.disk / "root"), "--port", str(self.port)]
        command += f"--model {self.model} --keys {self.work / 'keys'} --ram {self.ram} --max-new-tokens 16".split()
        state = {name: str(self.disk) for name in ("TMPDIR", "XDG_STATE_HOME")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, **state})
        while self.process.poll() is None:
            with suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/ready", headers={"Authorization": f"Bearer {GOOD}"}).status_code == 200:
                    return True
            if time.monotonic() - since > SLOWEST_START:
                raise RuntimeError(f"the server does not start: {self.log.read_text('utf-8')[-2000:]}")
            time.sleep(0.1)
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.is_up.clear()
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        begun = time.monotonic()
        self.kill()
        self.start()
        self.down.append((begun, time.monotonic()))

    def sample(self) -> None:
        """Note the memory and the descriptors of the process."""
        assert self.process is not None
        with suppress(OSError, KeyError, ValueError):  # it was killed meanwhile
            folder = Path("/proc", str(self.process.pid))
            lines = dict(line.split(":", 1) for line in (folder / "status").read_text("utf-8").splitlines())
            kibibytes = int(lines["RssAnon"].split()[0])
            if self.is_up.is_set():
                now = time.monotonic()
                self.samples.append((now, self.begun, kibibytes * 1024, len(os.listdir(folder / "fd"))))


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Within, there is no byte left on a file system, as far as nothing is deleted."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1024**2
        while size > 0:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()


def run_inside(module: str) -> int | None:
    """Run a benchmark again with file systems of its own: its exit status; None within that run."""
    if INSIDE in sys.argv:
        sys.argv.remove(INSIDE)
        return None
    command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", module]
    return subprocess.run([*command, *sys.argv[1:], INSIDE], check=False).returncode


@contextmanager
def started(ram: int = 32, log: Path | None = None) -> Iterator[Server]:
    """A server on a small file system in RAM; its log is left in the folder `log`. Needs a name space of its own."""
    with tempfile.TemporaryDirectory() as folder:
        work, disk = Path(folder), Path(folder, "disk")
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "tmpfs", str(disk)], check=True)
        (work / "keys").write_text(f"good:{GOOD}\nother:{OTHER}\n", "utf-8")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = Server(disk, work, save_tiny_model(work / "model"), port, ram)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            if log is not None and server.log.exists():
                (log / "faults.log").write_bytes(server.log.read_bytes())
            subprocess.run(["umount", "--lazy", str(disk)], check=True)

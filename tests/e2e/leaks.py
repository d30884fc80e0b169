"""What a test left behind: processes, shared memory, pointers to instances."""

import contextlib
import glob
import os
from pathlib import Path

import harness


def _shm_files():
    return set(os.listdir("/dev/shm"))


def _sysv():
    """SysV shared memory: {shmid: (creator pid, attached)}."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    head = lines[0].split()
    return {int(f[head.index("shmid")]): (int(f[head.index("cpid")]), int(f[head.index("nattch")])) for f in (x.split() for x in lines[1:])}


def _mapped(name):
    for maps in glob.glob("/proc/[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if f"/dev/shm/{name}" in Path(maps).read_text(errors="replace"):
                return True
    return False


# Pointers to running instances, removed at stop.
POINTERS = ["/run/stepd/embedded", f"{os.environ.get('XDG_RUNTIME_DIR', '/nonexistent')}/stepd/embedded",
            f"/tmp/stepd-{os.getuid()}/embedded"]


class LeakCheck:
    """Remembers what there was; leaks() names what is there now and should not be."""

    def __init__(self, keep=(), tmp=""):
        self.keep = keep  # PgServers that stay
        self.tmp = str(tmp)  # the test's folder: a pointer to elsewhere is not ours
        self.shm, self.sysv = _shm_files(), set(_sysv())
        self.known = {(p.pid, p.starttime) for p in harness.tree(os.getpid())}

    def leaks(self):
        harness.reap_orphans()
        found = []
        kept = {p.pid for s in self.keep for p in s.procs()}
        for p in harness.tree(os.getpid()):
            if p.pid not in kept and (p.pid, p.starttime) not in self.known:
                found.append(f"process {p!r}")
        for name in _shm_files() - self.shm:
            if not _mapped(name):
                found.append(f"/dev/shm/{name}")
        for shmid, (cpid, attached) in _sysv().items():
            # Creator 0: of another process namespace.
            if shmid not in self.sysv and not attached and cpid and not os.path.exists(f"/proc/{cpid}"):
                found.append(f"SysV shared memory {shmid} of dead process {cpid}")
        for p in POINTERS:
            with contextlib.suppress(OSError):
                if self.tmp and self.tmp in Path(p).read_text():
                    found.append(f"pointer {p}")
        return found

    def clean_up(self):
        """Kill what leaked, so that one test's leak is not the next one's."""
        for p in harness.tree(os.getpid()):
            if (p.pid, p.starttime) not in self.known and p.pid not in {q.pid for s in self.keep for q in s.procs()}:
                p.kill()
        harness.reap_orphans()

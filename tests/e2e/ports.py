"""Ports for servers of tests, however many runs of them there are on this machine."""

import random
import socket
from pathlib import Path

BLOCK = 100
_blocks, _ports = [], iter(())


def _next_block():
    """A hundred ports that no other test process of this machine takes: an abstract Unix socket with their number is held
    until we end.  They are below those that the kernel gives to connections, which could take one while a server restarts."""
    top = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    blocks = list(range(10240 // BLOCK + 1, max(top, 20000) // BLOCK))
    random.shuffle(blocks)
    for block in blocks:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            s.bind(f"\0stepd-test-ports-{block}")
        except OSError:
            s.close()
            continue
        _blocks.append(s)
        return iter(range(block * BLOCK, (block + 1) * BLOCK))
    raise AssertionError("no ports are left for tests")


def free_port():
    """A port nobody listens on, never the same twice."""
    global _ports
    while True:
        port = next(_ports, None)
        if port is None:
            _ports = _next_block()
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass

"""Child processes that never outlive their starter, and ports nobody else has.

Every process is started with the kernel's parent-death signal, so even a runner that is killed leaves nothing
behind, and is stopped by its own pid (or the group it leads, for socat, which forks one child a connection).
Beware: the parent-death signal follows the *thread* that started the child, so start and stop in one thread.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
FIRST_PORT, LAST_PORT = 20000, 29999  # below the range memcached's tests and the kernel pick from


def die_with_parent():
    """Runs in the child, before exec."""
    os.setpgid(0, 0)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, log=None, **kwargs):
    """Start `argv` as the leader of its own group; its output goes to the file `log`, if named."""
    if log:
        with open(log, "ab") as out:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    preexec_fn=die_with_parent, **kwargs)
    return subprocess.Popen(argv, preexec_fn=die_with_parent, **kwargs)


def stop(*children):
    """Kill each child and the group it leads, and reap it."""
    for child in children:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for child in children:
        child.wait()


def free_port(state):
    """A loopback port. `state` is the run's folder: its counter keeps parallel starters apart."""
    with open(os.path.join(state, "next-port"), "a+") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        port = int(counter.read() or FIRST_PORT + os.getpid() % 5000)
        while True:
            port = port + 1 if port < LAST_PORT else FIRST_PORT
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    break
                except OSError:
                    continue
        counter.truncate(0)
        counter.write(str(port))
    return port


def listening(address):
    """Whether something listens on `address`, told by the kernel's tables: a connection would show in the
    server's own counters, which the tests read."""
    if address.startswith("unix:"):
        with open("/proc/net/unix") as table:
            rows = [line.split() for line in table]
        return any(row[-1] == address[5:] and row[3] == "00010000" for row in rows)
    port = ":%04X" % int(address.rsplit(":", 1)[1])
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[1].endswith(port) and row[3] == "0A" for row in rows)


def wait_until(condition, what, seconds=20, alive=()):
    """Poll until `condition()`; false as soon as one of `alive` has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if any(child.poll() is not None for child in alive):
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.005)
    return True

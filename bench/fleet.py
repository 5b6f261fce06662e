"""The processes that are measured: started on free loopback ports, stopped by their process ids."""

import json
import os
import pathlib
import pwd
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

READY_SECONDS = 10
STORE_MIB = 1024


@dataclass
class Subject:
    """What the load is sent to. `cpu` names the processes whose time is reported, `watch` the HTTP
    addresses that tell whether replication has caught up."""
    name: str
    target: str
    load_target: str
    cpu: list
    watch: list = field(default_factory=list)
    holds: list = field(default_factory=list)


class Unavailable(Exception):
    """A subject could not be started."""


class Fleet:
    def __init__(self, proxy, baseline):
        self.proxy, self.baseline = proxy, baseline
        self.folder = tempfile.TemporaryDirectory(prefix="memcloud-bench-")
        self.processes, self.stores = [], {}
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_all()
        self.folder.cleanup()

    # Subjects, by name.

    def start(self, name):
        starters = {
            "direct": lambda: self._direct("tcp"), "direct-unix": lambda: self._direct("unix"),
            "nutcracker": self._nutcracker, "haproxy": self._haproxy, "pair": self._pair,
            "pair-ack": lambda: self._pair("pair-ack", "--ack", "peer"),
            "sidecar": lambda: self._sidecar(name, self.proxy, "tcp"),
            "sidecar-unix": lambda: self._sidecar(name, self.proxy, "unix"),
            "baseline": lambda: self._sidecar(name, self.baseline, "tcp"),
        }
        return starters[name]()

    def _direct(self, kind):
        store = self.store(kind)
        name = "direct" if kind == "tcp" else f"direct-{kind}"
        return Subject(name, store.address, store.address, [("store", store.pid)])

    def _nutcracker(self):
        store, port = self.store("tcp"), free_port()
        config = self.write("nutcracker.yml", f"""bench:
  listen: 127.0.0.1:{port}
  hash: fnv1a_64
  distribution: ketama
  preconnect: true
  auto_eject_hosts: false
  servers:
   - {store.address}:1
""")
        process = self.spawn("nutcracker", ["nutcracker", "-c", config, "-a", "127.0.0.1", "-s", free_port(), "-p",
                                            self.path("nutcracker.pid"), "-o", self.path("nutcracker.log")])
        return self._in_front("nutcracker", process, port, store)

    def _haproxy(self):
        store, port = self.store("tcp"), free_port()
        config = self.write("haproxy.cfg", f"""global
  nbthread 2
  maxconn 4096
defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
listen bench
  bind 127.0.0.1:{port}
  server store {store.address}
""")
        return self._in_front("haproxy", self.spawn("haproxy", ["haproxy", "-db", "-f", config]), port, store)

    def _sidecar(self, name, program, kind):
        store, port = self.store(kind), free_port()
        process = self.sidecar(name, program, port, free_port(), store.address)
        return self._in_front(name, process, port, store)

    def _pair(self, name="pair", *more):
        """Two sidecars, each with a store of its own. The load goes to the first."""
        ports = {site: [free_port() for _ in range(3)] for site in "ab"}
        processes = {}
        for site, other in (("a", "b"), ("b", "a")):
            listen, admin, peer = ports[site]
            processes[site] = self.sidecar(
                f"{name}-{site}", self.proxy, listen, admin, self.store(f"{name}-{site}").address, "--site", site,
                "--peer-listen", f"127.0.0.1:{peer}", "--peer", f"127.0.0.1:{ports[other][2]}", *more)
        self.wait_ready(processes["b"], ports["b"][0])
        subject = self._in_front(name, processes["a"], ports["a"][0], self.store(f"{name}-a"))
        subject.cpu += [("peer", processes["b"].pid), ("peer_store", self.store(f"{name}-b").pid)]
        subject.watch = [f"127.0.0.1:{ports[site][1]}" for site in "ab"]
        subject.load_target = subject.target
        return subject

    def _in_front(self, name, process, port, store):
        self.wait_ready(process, port)
        return Subject(name, f"127.0.0.1:{port}", store.address, [("proxy", process.pid), ("store", store.pid)])

    # Processes.

    def sidecar(self, name, program, port, admin, upstream, *more):
        return self.spawn(name, [program, "sidecar", "--listen", f"127.0.0.1:{port}", "--upstream", upstream,
                                 "--admin", f"127.0.0.1:{admin}", "--workers", "2", *more])

    def store(self, name):
        if name in self.stores:
            return self.stores[name]
        user = ["-u", pwd.getpwuid(0).pw_name] if os.getuid() == 0 else []
        if name == "unix":
            path = self.path("store.sock")
            address, where, ready = f"unix:{path}", ["-s", path], path
        else:
            ready = free_port()
            address, where = f"127.0.0.1:{ready}", ["-l", "127.0.0.1", "-p", ready, "-U", "0"]
        process = self.spawn(f"store-{name}",
                             ["memcached", *user, *where, "-t", "2", "-m", STORE_MIB, "-c", "8192"])
        self.wait_ready(process, ready)
        process.address = address
        self.stores[name] = process
        return process

    def spawn(self, name, command):
        with open(self.path(f"{name}.err"), "wb") as errors:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=errors,
                                       stderr=errors)
        process.name = name
        self.processes.append(process)
        return process

    def stop(self, process):
        self.processes.remove(process)
        _stop([process])

    def stop_all(self):
        # Proxies before their stores: a proxy that still drains should find its store.
        _stop(reversed(self.processes))
        self.processes.clear()

    def wait_ready(self, process, place):
        """Until a get is answered at a port or socket path."""
        give_up = time.monotonic() + READY_SECONDS
        while time.monotonic() < give_up:
            if process.poll() is not None:
                break
            if answers(place):
                return
            time.sleep(0.0005)
        errors = pathlib.Path(self.path(f"{process.name}.err")).read_text(errors="replace").strip()
        ended = "it ended" if process.poll() is not None else f"no reply within {READY_SECONDS} s"
        raise Unavailable(f"{process.name}: {ended}{': ' + errors[-300:] if errors else ''}")

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        pathlib.Path(self.path(name)).write_text(text)
        return self.path(name)


def _stop(processes):
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            process.terminate()
    give_up = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(place):
    if isinstance(place, int):
        return socket.create_connection(("127.0.0.1", place), timeout=2)
    unix = socket.socket(socket.AF_UNIX)
    unix.settimeout(2)
    unix.connect(place)
    return unix


def answers(place):
    try:
        with connect(place) as probe:
            return ask(probe)
    except OSError:
        return False


def ask(connected):
    connected.sendall(b"get memcloud-bench-ready\r\n")
    return connected.recv(64) == b"END\r\n"


def in_sync(admin):
    try:
        with urllib.request.urlopen(f"http://{admin}/status", timeout=2) as reply:
            return json.load(reply).get("in_sync") is True
    except (OSError, ValueError, urllib.error.URLError):
        return False


def wait_in_sync(subject, seconds=10):
    """Until nothing waits for the peer: what is left over would be charged to whoever is measured next."""
    give_up = time.monotonic() + seconds
    while not all(in_sync(admin) for admin in subject.watch):
        if time.monotonic() > give_up:
            print(f"bench: {subject.name} is not in sync after {seconds} s", file=sys.stderr)
            return False
        time.sleep(0.01)
    return True


def pin(pids, cpus):
    """All threads of the processes to these CPUs."""
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                os.sched_setaffinity(int(thread), cpus)
            except ProcessLookupError:
                pass


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def footprint(fleet, starters, idle, starts=5):
    """Start time, memory with no client and memory for each idle connection of freshly started proxies."""
    found = {}
    for name in starters:
        times = []
        for round_number in range(starts):
            fleet.store("tcp")
            before, began = len(fleet.processes), time.monotonic()
            subject = fleet.start(name)
            times.append((time.monotonic() - began) * 1000)
            process = fleet.processes[before]
            if round_number == starts - 1:
                found[name] = {"start_ms": sorted(times)[len(times) // 2], **_memory(process.pid, subject, idle)}
            fleet.stop(process)
    return found


def _memory(pid, subject, idle):
    port = int(subject.target.rsplit(":", 1)[1])
    time.sleep(0.2)
    alone = rss_bytes(pid)
    held = []
    try:
        for _ in range(idle):
            connected = connect(port)
            held.append(connected)
            if not ask(connected):
                raise Unavailable(f"{subject.name}: a wrong reply on an idle connection")
        time.sleep(0.2)
        return {"rss_mib": alone / 2**20, "idle_bytes": (rss_bytes(pid) - alone) / idle}
    finally:
        for connected in held:
            connected.close()

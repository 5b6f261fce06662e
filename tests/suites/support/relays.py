"""What can stand between a client and a memcached: the kinds of relay, as data.

`socat` is the measure: whatever passes through a plain byte relay must pass through the sidecar too.
Addresses are the sidecar's: `host:port` or `unix:/path`.
"""

import os
import shutil
import tempfile

from . import processes

# kind -> (value of --upstream-connections, with a peer?); socat has neither
KINDS = {
    "direct": None,
    "socat": None,
    "dedicated": ("dedicated", False),
    "shared": ("shared", False),
    "dedicated+peer": ("dedicated", True),
    "shared+peer": ("shared", True),
}
SIDECARS = [kind for kind, how in KINDS.items() if how]


class Relay:
    """A relay of one kind, listening on `front` for the server at `upstream`.

    `state` is a folder for sockets and logs; `peer_server` starts the second memcached: a command line to
    which `-s PATH` is appended.
    """

    def __init__(self, kind, front, upstream, state, proxy, peer_server):
        self.kind, self.front, self.state, self.proxy = kind, front, state, proxy
        self.folder = tempfile.mkdtemp(prefix="relay.", dir=state)
        self.children = []
        try:
            if kind == "socat":
                self._socat(front, upstream)
            else:
                self._sidecars(*KINDS[kind], front, upstream, peer_server)
            if not processes.wait_until(lambda: processes.listening(front), f"{kind} on {front}", alive=self.children):
                raise RuntimeError(f"{kind} did not start: {self.log_tail()}")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        processes.stop(*self.children)
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".log"):
                with open(os.path.join(self.folder, name), errors="replace") as log:
                    text += f"{name}: " + log.read()[-2000:]
        return text

    def _start(self, name, argv):
        self.children.append(processes.start(argv, log=os.path.join(self.folder, name + ".log")))

    def _socat(self, front, upstream):
        if front.startswith("unix:"):
            listen = f"UNIX-LISTEN:{front[5:]},fork,backlog=1024"
        else:
            host, port = front.rsplit(":", 1)
            listen = f"TCP-LISTEN:{port},bind={host},fork,reuseaddr,nodelay,backlog=1024"
        connect = f"UNIX-CONNECT:{upstream[5:]}" if upstream.startswith("unix:") else f"TCP:{upstream},nodelay"
        self._start("socat", ["socat", listen, connect])

    def _sidecars(self, connections, with_peer, front, upstream, peer_server):
        if not with_peer:
            self._sidecar("a", connections, front, upstream, [])
            return
        far = f"unix:{self.folder}/far.sock"
        self._start("memcached-b", [*peer_server, "-s", far[5:]])
        processes.wait_until(lambda: processes.listening(far), "the peer's memcached", alive=self.children)
        links = {site: f"127.0.0.1:{processes.free_port(self.state)}" for site in "ab"}
        for site, other, listen, server in (("b", "a", f"unix:{self.folder}/b.sock", far),
                                            ("a", "b", front, upstream)):
            link = ["--peer-listen", links[site], "--peer", links[other]]
            self._sidecar(site, connections, listen, server, link)

    def _sidecar(self, site, connections, listen, upstream, link):
        admin = f"127.0.0.1:{processes.free_port(self.state)}"
        self._start(f"proxy-{site}", [self.proxy, "sidecar", "--site", site, "--listen", listen,
                                      "--upstream", upstream, "--admin", admin, "--workers", "2",
                                      "--upstream-connections", connections, *link])

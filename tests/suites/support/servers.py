"""The memcacheds at hand: the distribution's, and newer ones unpacked into .setup/servers with their C library."""

import glob
import os
import re
import shutil
import subprocess

from . import processes

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))
SETUP = os.path.join(ROOT, ".setup")
OURS = ["-U", "0", "-u", "root", "-m", "64"]


def command_lines():
    """{version: the words that start it}: the first is the distribution's own."""
    found = {}
    installed = shutil.which("memcached")
    for words in [[installed]] * bool(installed) + [unpacked(folder) for folder in
                                                    sorted(glob.glob(f"{SETUP}/servers/*"), reverse=True)]:
        if words:
            answer = subprocess.run([*words, "-V"], capture_output=True, text=True, check=False).stdout
            if version := re.search(r"(\d+\.\d+\.\d+)", answer):
                found.setdefault(version[1], words)
    return found


def unpacked(folder):
    """How to start a server that lies in a folder with its own libraries: through its own loader."""
    loaders = glob.glob(f"{folder}/usr/lib/*/ld-linux-*.so.*") + glob.glob(f"{folder}/lib/*/ld-linux-*.so.*")
    binary = f"{folder}/usr/bin/memcached"
    if not loaders or not os.path.exists(binary) or not os.path.exists(f"{folder}/ready"):
        return None
    return [loaders[0], "--library-path", os.path.dirname(loaders[0]), binary]


class Server:
    """A memcached of our own on a free loopback port."""

    def __init__(self, words, state, *args):
        self.address = f"127.0.0.1:{processes.free_port(state)}"
        self.words = [*words, *OURS]
        port = self.address.rsplit(":", 1)[1]
        self.child = processes.start([*self.words, "-l", "127.0.0.1", "-p", port, *args],
                                     log=os.path.join(state, "memcached.log"))
        if not processes.wait_until(lambda: processes.listening(self.address), "memcached", alive=[self.child]):
            raise RuntimeError(f"memcached did not start: {' '.join(words)}")

    def stop(self):
        processes.stop(self.child)

"""memccapable (libmemcached-tools): what a server can do, asked test by test, in ASCII and in binary."""

import subprocess


def outcome(address, dialect):
    """{test: "[pass]" or what else it said}. It never exits with an error, so its words are the outcome."""
    host, port = address.rsplit(":", 1)
    done = subprocess.run(["memccapable", "-h", host, "-p", port, dialect], capture_output=True, text=True,
                          timeout=120, check=False)
    lines = [line.rsplit(None, 1) for line in done.stdout.splitlines() if line.rstrip().endswith("]")]
    return {name.strip(): verdict for name, verdict in lines}

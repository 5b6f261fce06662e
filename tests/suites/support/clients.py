"""Client libraries as they are, run first against memcached and then through a relay: the same lines both times."""

import os
import shutil
import subprocess

from .servers import SETUP

SCRIPTS = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "client")
PYTHON = f"{SETUP}/python/bin/python"


def script(name):
    return os.path.join(SCRIPTS, name)


def pymemcache_suite(host, port):
    """The package ships its tests; those that want a server take its address."""
    package = subprocess.run([PYTHON, "-c", "import pymemcache; print(pymemcache.__path__[0])"],
                             capture_output=True, text=True, check=True).stdout.strip()
    return [PYTHON, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "ignore", "--no-header", "--tb=line",
            f"--rootdir={package}", f"{package}/test/test_integration.py", "--server", host, "--port", port]


QUICK = {
    "pymemcache's own tests": pymemcache_suite,
    **{name: lambda host, port, name=name: [PYTHON, script("python.py"), name, host, port]
       for name in ("pymemcache", "pylibmc", "bmemcached", "aiomcache")},
    **{name: lambda host, port, name=name: ["node", script("node.js"), name, host, port]
       for name in ("memjs", "memcached")},
}


def gomemcache(host, port):
    return [f"{SETUP}/go/gomemcache", host, port]


def spymemcached(host, port):
    jars = ["/usr/share/java/spymemcached.jar", f"{SETUP}/java"]
    return ["java", "-cp", ":".join(jars), "Spy", host, port]


SLOW = {
    "php-memcached": lambda host, port: ["php", script("memcached.php"), host, port],
    "dalli": lambda host, port: ["ruby", script("dalli.rb"), host, port],
    "Cache::Memcached::Fast": lambda host, port: ["perl", script("fast.pl"), host, port],
    "gomemcache": gomemcache,
    "spymemcached": spymemcached,
}


def steps(output):
    """What a client did: its `ok` lines, or pytest's list of passed tests."""
    return [line for line in output.splitlines() if line.startswith(("ok ", "not ok ", "PASSED", "FAILED", "ERROR"))]


def run(words, address):
    """(exit status, steps, output) of a client against `address`."""
    host, port = address.rsplit(":", 1)
    command = words(host, port)
    if not shutil.which(command[0]):
        return 127, [], f"{command[0]} is not installed: tests/setup clients"
    env = dict(os.environ, NODE_PATH=f"{SETUP}/node/node_modules", PYTHONDONTWRITEBYTECODE="1")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=env, check=False)
    except subprocess.TimeoutExpired as late:
        return 124, [], f"no end after 90 s: {late.stdout!r:.500}"
    return done.returncode, steps(done.stdout), done.stdout + done.stderr


def compare(words, server, relayed):
    """None, or how the relayed run differs from the direct one."""
    status, direct, output = run(words, server)
    if status or not direct:
        return f"fails without any relay: {output[-500:]}"
    status, through, output = run(words, relayed)
    if status == 0 and through == direct:
        return None
    missing = sorted(set(direct) - set(through))[:5]
    return f"exit {status}, {len(through)} of {len(direct)} steps, missing {missing}; {output[-500:]}"

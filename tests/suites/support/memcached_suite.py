"""memcached's own test suite (t/*.t and testapp of Debian's source package), its servers reached through a relay.

Each file runs for each kind of relay in one pool of workers: most of the time the tests sleep. Through a sidecar
a file has to do as well as `t-socat.txt` says of a plain TCP relay; `t-shared.txt` lists what may differ with
shared upstream connections, and `t-peer.txt` with a peer, and why. A file that fails in the crowd gets a second try in quiet,
as the tests watch the clock; the report says so.
"""

import collections
import concurrent.futures
import glob
import os
import subprocess
import tempfile
import time

from . import processes, tap

HERE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
SECONDS = 100  # the slowest file takes 40

RUNNING = set()  # the tests under way, for who has to end them all

# Slowest first, so that the pool does not end on one of them alone.
SLOW = ["binary-extstore", "binary", "metaget", "chunked-extstore", "restart", "extstore", "00-startup",
        "chunked-items", "lru-maintainer", "watcher", "extstore-jbod", "extstore-buckets", "lru-crawler",
        "item_size_max", "touch", "slabs-reassign2", "watcher_connid", "idle-timeout", "error-extstore"]

# Files that never speak to a server, or cannot run beside themselves.
LEFT_OUT = {
    "issue_67": "asks only which ports the binary opens, on fixed ports and all interfaces; sends nothing",
    "line-lengths": "reads a document",
    "whitespace": "reads the sources",
}


Outcome = collections.namedtuple("Outcome", "result accepted note seconds log")


def read_list(name):
    """`FILE WHAT  # reason`: WHAT is `*` for the whole file or the numbers of assertions that may fail."""
    allowed = {}
    with open(os.path.join(HERE, name)) as lines:
        for line in lines:
            entry, _, reason = line.partition("#")
            if not entry.strip():
                continue
            file, what = entry.split()
            if not reason.strip():
                raise ValueError(f"{name}: {file} has no reason")
            allowed[file] = None if what == "*" else {int(number) for number in what.split(",")}
    return allowed


def files(tree, only=()):
    names = [os.path.basename(path)[:-2] for path in glob.glob(os.path.join(tree, "t", "*.t"))]
    names = [name for name in names if name not in LEFT_OUT and (not only or name in only)]
    if not only or "testapp" in only:
        names.append("testapp")
    return sorted(names, key=lambda name: (SLOW.index(name) if name in SLOW else len(SLOW), name))


def run_file(tree, name, kind, state, proxy):
    """(Result, output, seconds) of one file."""
    folder = tempfile.mkdtemp(prefix=f"{name}.", dir=state)
    env = dict(os.environ, SUITES_RELAY=kind, SUITES_STATE=state, SUITES_PROXY=proxy or "",
               SUITES_RUNNER=str(os.getpid()), SUITES_SERVER=os.path.join(tree, "memcached-debug.real"), TMPDIR=folder)
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        program = ["./testapp"] if name == "testapp" else ["perl", f"t/{name}.t"]
        test = processes.start(program, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        RUNNING.add(test)
        try:
            test.wait(SECONDS)
        except subprocess.TimeoutExpired:
            log.write(f"\n# killed after {SECONDS} s\n")
        finally:
            RUNNING.discard(test)
            processes.stop(test)  # and what it left running: it leads their group
        log.seek(0)
        output = log.read()
    for leftover in glob.glob(f"/tmp/*[a-z.]{test.pid}*"):
        if not os.path.isdir(leftover):
            os.unlink(leftover)
    return tap.Result(output, test.returncode), output, time.monotonic() - begun


def acceptable(result, file, allowed):
    """Whether `result` is at least what the lists ask for."""
    if result.ok or result.skipped is not None:
        return True
    if file not in allowed:
        return False
    numbers = allowed[file]
    return numbers is None or (result.complete and set(result.failed) <= numbers)


def run(tree, kinds, state, proxy, jobs, only=(), say=print):
    """Run all files for all kinds. Returns {(kind, file): Outcome}."""
    socat = read_list("t-socat.txt")
    peer = {**socat, **read_list("t-peer.txt")}
    shared = {**peer, **read_list("t-shared.txt")}
    lists = {"direct": {}, "socat": socat, "dedicated": socat, "dedicated+peer": peer}
    outcome = {}

    def one(kind, name):
        return kind, name, *run_file(tree, name, kind, state, proxy)

    def judge(kind, name, result, output, seconds, note):
        allowed = lists.get(kind, shared)
        fine = acceptable(result, name, allowed)
        path = os.path.join(state, f"{name}.{kind}.log")
        with open(path, "w") as log:
            log.write(output)
        outcome[kind, name] = Outcome(result, fine, note, seconds, path)
        return fine

    again = []
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        tasks = [pool.submit(one, kind, name) for name in files(tree, only) for kind in kinds]
        for task in concurrent.futures.as_completed(tasks):
            kind, name, result, output, seconds = task.result()
            if not judge(kind, name, result, output, seconds, ""):
                again.append((kind, name))
    for kind, name in again:
        say(f"  {kind:15} {name}: {outcome[kind, name].result}; once more")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(one, kind, name) for kind, name in again]:
            judge(*done.result(), "at the second try")
    return outcome

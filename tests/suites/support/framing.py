"""Ill-formed requests (docs: the framing traps): their answers through a relay equal those of the server itself.

Versions of memcached differ in what they take for data and what for commands after an error, so nothing here says
what the answer is: only that both ways give the same one, delivered in one write and cut into pieces, and that a
neighbour on the same relay never notices.
"""

import functools
import socket
import struct
import threading

QUIET_SECONDS = 1.0  # silence that counts as the end, where no sentinel comes back
TRIES = 10  # for answers that a reset may swallow
BIG = 1024 * 1024 + 1
LONG_KEY = b"k" * 251
SENTINEL = b"get k\r\nmn\r\nversion\r\n"


def binary(opcode, key=b"", extras=b"", value=b"", opaque=7, body=None):
    length = len(key) + len(extras) + len(value) if body is None else body
    return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, length, opaque, 0) + extras + key + value


NOOP = binary(0x0A, opaque=0x6E6F6F70)

TEXT = {
    "set, key over 250": b"set %s 0 0 5\r\nget k\r\n" % LONG_KEY,
    "set, key over 250, data": b"set %s 0 0 2\r\nhi\r\n" % LONG_KEY,
    "set, key over 250, noreply": b"set %s 0 0 2 noreply\r\nhi\r\n" % LONG_KEY,
    "ms, key over 250": b"ms %s 2\r\nhi\r\n" % LONG_KEY,
    "set, flags not numeric": b"set k x 0 2\r\nhi\r\n",
    "set, flags negative": b"set k -1 0 2\r\nhi\r\n",
    "set, flags over 32 bits": b"set k 4294967296 0 2\r\nhi\r\n",
    "set, exptime not numeric": b"set k 0 x 2\r\nhi\r\n",
    "set, exptime not numeric, noreply": b"set k 0 x 2 noreply\r\nhi\r\n",
    "cas, token not numeric": b"cas k 0 0 2 x\r\nhi\r\n",
    "cas, no token": b"cas k 0 0 2\r\nhi\r\n",
    "set, length negative": b"set k 0 0 -1\r\nhi\r\n",
    "set, length not numeric": b"set k 0 0 x\r\nhi\r\n",
    "set, length over 32 bits": b"set k 0 0 4294967298\r\nhi\r\n",
    "set, a token too few": b"set k 0 0\r\nhi\r\n",
    "set, a token too many": b"set k 0 0 2 noreply x\r\nhi\r\n",
    "set, unknown last token": b"set k 0 0 2 x\r\nhi\r\n",
    "set, many tokens": b"set k 0 0 2 " + b"x " * 30 + b"\r\nhi\r\n",
    "ms, unknown flag": b"ms k 2 !\r\nhi\r\n",
    "ms, repeated flag": b"ms k 2 T1 T2\r\nhi\r\n",
    "ms, bad mode": b"ms k 2 MZ\r\nhi\r\n",
    "ms, bad ttl": b"ms k 2 Tx\r\nhi\r\n",
    "ms, no length": b"ms k\r\nhi\r\n",
    "ms, old length form": b"ms k S2\r\nhi\r\n",
    "ms, length not numeric": b"ms k x\r\nhi\r\n",
    "ms, bad base64 key": b"ms !! 2 b\r\nhi\r\n",
    "ms, too many flags": b"ms k 2 " + b" ".join(b"O%d" % n for n in range(30)) + b"\r\nhi\r\n",
    "set, too large": b"set k 0 0 %d\r\n" % BIG + b"x" * BIG + b"\r\n",
    "set, too large, noreply": b"set k 0 0 %d noreply\r\n" % BIG + b"x" * BIG + b"\r\n",
    "add, too large": b"add k 0 0 %d\r\n" % BIG + b"x" * BIG + b"\r\n",
    "append, too large": b"append k 0 0 %d\r\n" % BIG + b"x" * BIG + b"\r\n",
    "ms, too large": b"ms k %d\r\n" % BIG + b"x" * BIG + b"\r\n",
    "ms, too large, quiet": b"ms k %d q\r\n" % BIG + b"x" * BIG + b"\r\n",
    "set, data longer than said": b"set k 0 0 2\r\nhighlander\r\n",
    "set, data longer than said, noreply": b"set k 0 0 2 noreply\r\nhighlander\r\n",
    "set, data shorter than said": b"set k 0 0 10\r\nhi\r\n",
    "ms, data longer than said": b"ms k 2\r\nhighlander\r\n",
    "ms, data shorter than said": b"ms k 10\r\nhi\r\n",
    "get, no key": b"get\r\n",
    "get, key over 250": b"get k %s\r\n" % LONG_KEY,
    "gat, bad exptime": b"gat x k\r\n",
    "touch, bad exptime": b"touch k x\r\n",
    "incr, bad delta": b"incr k x\r\n",
    "incr, bad delta, noreply": b"incr k x noreply\r\n",
    "incr of text": b"incr k 1\r\n",
    "delete, a number": b"delete k 5\r\n",
    "delete, zero": b"delete k 0\r\n",
    "delete, two more": b"delete k 0 noreply x\r\n",
    "mg, no key": b"mg\r\n",
    "mg, key over 250": b"mg %s v\r\n" % LONG_KEY,
    "mg, repeated flag": b"mg k v v\r\n",
    "mg, unknown flag": b"mg k ! v\r\n",
    "mn, arguments": b"mn x\r\n",
    "ma, bad delta": b"ma k Dx\r\n",
    "md, bad cas": b"md k Cx\r\n",
    "me, no key": b"me\r\n",
    "unknown command": b"bogus\r\n",
    "capitals": b"GET k\r\n",
    "leading space": b" get k\r\n",
    "many spaces": b"get   k  k \r\n",
    "empty line": b"\r\n",
    "bare LF": b"get k\nset k 0 0 1\nb\r\nget k\n",
    "bare LF in data": b"set k 0 0 2\r\nhi\n",
    "NUL in a line": b"get k\0k\r\n",
    "binary after text": b"mn\r\n" + NOOP + b"\r\n",
    "long line without end": b"x" * 3000,
    "long get": b"get " + b"k " * 3000 + b"\r\n",
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
    "verbosity, no number": b"verbosity\r\n",
    "flush_all, bad delay": b"flush_all x\r\n",
    "slabs, bad": b"slabs reassign x y\r\n",
    "lru_crawler, bad": b"lru_crawler nonsense\r\n",
    "watch, bad": b"watch nonsense\r\n",
    "noreply alone": b"noreply\r\n",
    "quit in a pipeline": b"get k\r\nquit\r\nget k\r\n",
}

BINARY = {
    "unknown opcode": binary(0x77),
    "unknown opcode with body": binary(0x77, b"key", b"ext", b"value") + NOOP + NOOP,
    "get, key over 250": binary(0x00, LONG_KEY),
    "get, no key": binary(0x00),
    "get, with extras": binary(0x00, b"k", b"abcd"),
    "set, no extras": binary(0x01, b"k", b"", b"v"),
    "set, too large": binary(0x01, b"k", bytes(8), b"x" * BIG),
    "setq, too large": binary(0x11, b"k", bytes(8), b"x" * BIG),
    "key longer than body": binary(0x00, b"key", body=1),
    "incr of text": binary(0x05, b"k", struct.pack(">QQI", 1, 0, 0)),
    "wrong magic": b"\x81" + NOOP[1:],
    "text after binary": NOOP + b"get k\r\n",
    "SASL without -S": binary(0x21, b"PLAIN", b"", b"\0a\0b"),
    "quiet run": binary(0x09, b"none") + binary(0x0D, b"k") + binary(0x14, b"none") + binary(0x11, b"k", bytes(8), b"z"),
    "quitq": binary(0x17) + NOOP,
}


# What a server makes of these depends on how many bytes it reads at once; told only whole and with nothing behind.
WHOLE = {"text: long line without end"}


def connect(address):
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address[5:])
        return sock
    host, port = address.rsplit(":", 1)
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def exchange(address, request, ends, pieces):
    """Everything the other side says to `request`, and how it ended: answered, closed or silent."""
    with connect(address) as sock:
        sender = threading.Thread(target=send, args=(sock, request, pieces))
        sender.start()
        sock.settimeout(QUIET_SECONDS)
        answer, end = b"", "answered"
        try:
            while not ends(answer):
                chunk = sock.recv(65536)
                if not chunk:
                    end = "closed"
                    break
                answer += chunk
        except TimeoutError:
            end = "silent"
        except ConnectionResetError:
            end = "closed"
        sock.close()
        sender.join()
        return answer, end


def send(sock, request, pieces):
    """Whole, or the first and last 400 bytes one by one: the ends are where lines are."""
    try:
        if not pieces:
            sock.sendall(request)
            return
        for at in range(min(400, len(request))):
            sock.sendall(request[at:at + 1])
        sock.sendall(request[400:-400])
        for at in range(max(400, len(request) - 400), len(request)):
            sock.sendall(request[at:at + 1])
    except OSError:
        pass  # the other side hung up, which the reader sees


def reset(address):
    exchange(address, b"flush_all\r\nset k 0 0 1\r\na\r\nmn\r\n", lambda answer: answer.endswith(b"MN\r\n"), False)


class Neighbour(threading.Thread):
    """Another session on the same relay: what it reads must always be what it wrote."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.done, self.complaint, self.rounds = address, threading.Event(), None, 0

    def run(self):
        with connect(self.address) as sock:
            sock.settimeout(10)
            reader = sock.makefile("rb")
            while not self.done.wait(0.002) and not self.complaint:
                self.rounds += 1
                mark = b"%d" % self.rounds
                sock.sendall(b"set neighbour 0 0 %d\r\n%s\r\nget neighbour\r\n" % (len(mark), mark))
                lines = [reader.readline()]
                while lines[-1] and not lines[-1].startswith((b"END", b"ERROR", b"SERVER")):
                    lines.append(reader.readline())
                stored, *found = lines
                # flush_all between the cases may take the item, nothing else may
                if stored != b"STORED\r\n" or found not in (
                        [b"VALUE neighbour 0 %d\r\n" % len(mark), mark + b"\r\n", b"END\r\n"], [b"END\r\n"]):
                    self.complaint = f"round {self.rounds}: {lines!r}"


def compare(server, relayed, version):
    """Every case both ways. Yields (name, None or what differed)."""
    ends_text = b"VERSION " + version.encode() + b"\r\n"
    neighbour = Neighbour(relayed)
    neighbour.start()
    for dialect, cases, sentinel, end in (("text", TEXT, SENTINEL, ends_text),
                                          ("binary", BINARY, NOOP, b"\x81" + NOOP[1:])):
        for name, request in cases.items():
            label = f"{dialect}: {name}"
            whole = label in WHOLE
            for pieces in (False,) if whole else (False, True):
                ask = functools.partial(both_ways, server, relayed, request + (b"" if whole else sentinel), end, pieces)
                yield label + ", in pieces" * pieces, difference(ask)
    neighbour.done.set()
    neighbour.join()
    yield "the neighbour's session", neighbour.complaint


def masked(answer):
    """Binary answers without their cas: every server counts its own."""
    out, at = b"", 0
    while answer[at:at + 1] == b"\x81" and len(answer) >= at + 24:
        length = 24 + int.from_bytes(answer[at + 8:at + 12], "big")
        out += answer[at:at + 16] + bytes(8) + answer[at + 24:at + length]
        at += length
    return out + answer[at:]


def both_ways(server, relayed, request, end, pieces):
    answers = []
    for address in (server, relayed):
        reset(address)
        answer, ending = exchange(address, request, lambda answer: answer.endswith(end), pieces)
        answers.append((masked(answer), ending))
    return answers


def difference(ask):
    """None if both answers are equal. Where the server closes with bytes unread, chance decides how much of its
    answer the reset spares, with a relay and without: then it is enough that both ways have one outcome in common,
    or that the relay, which reads to the end first, brings more."""
    seen = (set(), set())
    for _ in range(TRIES):
        direct, relayed = ask()
        seen[0].add(direct)
        seen[1].add(relayed)
        if seen[0] & seen[1] or direct[1] != "closed" or relayed[1] != "closed":
            break
    spared = direct[1] == relayed[1] == "closed" and relayed[0].startswith(direct[0])
    if seen[0] & seen[1] or spared:
        return None
    return f"direct {short(direct)}, relayed {short(relayed)}"


def short(answer):
    text = repr(answer[0])
    return f"{text[:150]}... ({len(answer[0])} bytes, {answer[1]})" if len(text) > 150 else f"{text} ({answer[1]})"

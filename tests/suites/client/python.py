"""Our short list for the Python clients: python.py LIBRARY HOST PORT; one line a step, exit 1 at the first surprise."""

import asyncio
import sys

LARGE = b"x" * 900_000


def step(name, got, wanted):
    if got != wanted:
        print(f"not ok {name}: {got!r:.200} instead of {wanted!r:.200}")
        sys.exit(1)
    print(f"ok {name}")


def truth(value):
    return bool(value)


def pymemcache(host, port):
    from pymemcache.client.base import Client

    client = Client((host, port), default_noreply=False)
    step("flush", client.flush_all(), True)
    step("set", client.set("k", b"v", flags=7), True)
    step("get", client.get("k"), b"v")
    step("add present", client.add("k", b"w"), False)
    step("replace", client.replace("k", b"w"), True)
    step("append, prepend", (client.append("k", b">"), client.prepend("k", b"<"), client.get("k")), (True, True, b"<w>"))
    value, token = client.gets("k")
    step("cas", (client.cas("k", b"c", token), client.cas("k", b"d", token), value), (True, False, b"<w>"))
    step("counter", (client.set("n", b"9"), client.incr("n", 3), client.decr("n", 20)), (True, 12, 0))
    step("many", client.set_many({f"m{i}": b"%d" % i for i in range(200)}), [])
    step("get_many", client.get_many([f"m{i}" for i in range(300)]), {f"m{i}": b"%d" % i for i in range(200)})
    step("large", (client.set("large", LARGE), client.get("large") == LARGE), (True, True))
    step("noreply", (client.set("q", b"1", noreply=True), client.delete("q", noreply=True), client.get("q")),
         (True, True, None))
    step("touch, expiry", (client.set("e", b"1"), client.touch("e", expire=-1), client.get("e")), (True, True, None))
    step("delete", (client.delete("k"), client.delete("k")), (True, False))
    step("stats, version", (b"version" in client.stats(), client.version() != b""), (True, True))


def pylibmc(host, port):
    import pylibmc as library

    for binary in (False, True):
        client = library.Client([f"{host}:{port}"], binary=binary, behaviors={"cas": True, "tcp_nodelay": True})
        step(f"flush, binary {binary}", client.flush_all(), True)
        step("set, get of types", (client.set("k", {"a": [1, 2]}), client.get("k")), (True, {"a": [1, 2]}))
        step("text", (client.set("t", "grüße"), client.get("t")), (True, "grüße"))
        step("add, replace", (client.add("t", 1), client.replace("t", "r"), client.get("t")), (False, True, "r"))
        step("append, prepend", (client.append("t", ">"), client.prepend("t", "<"), client.get("t")), (True, True, "<r>"))
        value, token = client.gets("t")
        step("cas", (value, client.cas("t", "c", token), client.cas("t", "d", token)), ("<r>", True, False))
        step("counter", (client.set("n", 9), client.incr("n", 3), client.decr("n", 20)), (True, 12, 0))
        many = {f"m{i}": i for i in range(200)}
        step("many", (client.set_multi(many), client.get_multi([*many, "none"]), client.delete_multi(["m0"])),
             ([], many, True))
        step("large", (client.set("large", LARGE), client.get("large") == LARGE), (True, True))
        step("touch, delete", (client.touch("k", 100), client.delete("k"), client.get("k")), (True, True, None))
        client.disconnect_all()


def bmemcached(host, port):
    import bmemcached as library

    client = library.Client((f"{host}:{port}",))
    step("flush", client.flush_all(), True)
    step("set, get", (client.set("k", "v"), client.get("k")), (True, "v"))
    step("types", (client.set("d", {"a": 1}), client.get("d"), client.set("i", 5), client.get("i")),
         (True, {"a": 1}, True, 5))
    step("add, replace", (client.add("k", "w"), client.replace("k", "w"), client.replace("none", 1)), (False, True, False))
    value, token = client.gets("k")
    step("cas", (value, client.cas("k", "c", token), client.cas("k", "d", token)), ("w", True, False))
    step("counter", (client.incr("n", 3), client.incr("n", 4), client.decr("n", 20)), (0, 4, 0))
    many = {f"m{i}": i for i in range(200)}
    step("many", (client.set_multi(many), client.get_multi([*many, "none"])), ([], many))
    step("large", (client.set("large", LARGE), client.get("large") == LARGE), (True, True))
    step("delete", (client.delete("k"), client.get("k"), client.delete_multi(["m0", "m1"])), (True, None, True))
    step("stats", truth(client.stats()), True)
    client.disconnect_all()


def aiomcache(host, port):
    import aiomcache as library

    async def steps():
        client = library.Client(host, port, pool_size=4)
        await client.flush_all()
        step("set, get", (await client.set(b"k", b"v"), await client.get(b"k")), (True, b"v"))
        step("add, replace", (await client.add(b"k", b"w"), await client.replace(b"k", b"w")), (False, True))
        step("append", (await client.append(b"k", b">"), await client.prepend(b"k", b"<")), (True, True))
        value, token = await client.gets(b"k")
        step("cas", (value, await client.cas(b"k", b"c", token), await client.cas(b"k", b"d", token)),
             (b"<w>", True, False))
        step("counter", (await client.set(b"n", b"9"), await client.incr(b"n", 3), await client.decr(b"n", 20)),
             (True, 12, 0))
        step("together", await asyncio.gather(*(client.set(b"m%d" % i, b"%d" % i) for i in range(200))), [True] * 200)
        step("multi_get", await client.multi_get(*(b"m%d" % i for i in range(201))),
             (*(b"%d" % i for i in range(200)), None))
        step("large", (await client.set(b"large", LARGE), await client.get(b"large") == LARGE), (True, True))
        step("touch, delete", (await client.touch(b"k", 100), await client.delete(b"k"), await client.get(b"k")),
             (True, True, None))
        step("version, stats", (truth(await client.version()), truth(await client.stats())), (True, True))
        await client.close()

    asyncio.run(steps())


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))

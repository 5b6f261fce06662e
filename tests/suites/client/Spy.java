// Our short list for spymemcached: java Spy HOST PORT; one line a step, exit 1 at the first surprise.

import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import net.spy.memcached.BinaryConnectionFactory;
import net.spy.memcached.CASResponse;
import net.spy.memcached.ConnectionFactory;
import net.spy.memcached.DefaultConnectionFactory;
import net.spy.memcached.MemcachedClient;

public class Spy {
    static void step(String name, Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            System.out.println("not ok " + name + ": " + got + " instead of " + wanted);
            System.exit(1);
        }
        System.out.println("ok " + name);
    }

    public static void main(String[] args) throws Exception {
        for (ConnectionFactory dialect : List.of(new DefaultConnectionFactory(), new BinaryConnectionFactory())) {
            InetSocketAddress server = new InetSocketAddress(args[0], Integer.parseInt(args[1]));
            MemcachedClient client = new MemcachedClient(dialect, List.of(server));
            step("flush", client.flush().get(), true);
            step("set", client.set("k", 100, "v").get(), true);
            step("get", client.get("k"), "v");
            step("add present", client.add("k", 0, "w").get(), false);
            step("replace", client.replace("k", 0, "w").get(), true);
            step("append", client.append(0, "k", ">").get(), true);
            step("prepend", client.prepend(0, "k", "<").get(), true);
            long token = client.gets("k").getCas();
            step("cas", client.cas("k", token, "c"), CASResponse.OK);
            step("cas again", client.cas("k", token, "d"), CASResponse.EXISTS);
            step("set number", client.set("n", 0, "9").get(), true);
            step("incr", client.incr("n", 3), 12L);
            step("decr", client.decr("n", 20), 0L);
            List<String> keys = new ArrayList<>();
            for (int i = 0; i < 200; i++) {
                keys.add("m" + i);
                client.set("m" + i, 0, i);
            }
            step("many", client.getBulk(keys).size(), 200);
            String large = "x".repeat(900000);
            step("large", client.set("large", 0, large).get(), true);
            step("large back", large.equals(client.get("large")), true);
            step("touch", client.touch("k", 100).get(), true);
            step("delete", client.delete("k").get(), true);
            step("gone", client.get("k"), null);
            client.shutdown();
        }
        System.exit(0);
    }
}

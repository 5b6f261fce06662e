//! The rows of the table: what happens, what others make of it, and the scene that shows what memcloud does.

use super::scenes;

/// What was read of others, in the order of [`NEIGHBOURS`].
type Others = [&'static str; 8];

pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) scene: fn() -> String,
    pub(crate) others: Option<Others>,
}

pub(crate) const NEIGHBOURS: Others = [
    "mcrouter AllSync",
    "memcached's proxy, allsync",
    "dynomite (memcached)",
    "EVCache",
    "yrmcds",
    "repcached",
    "KeyDB active-replica",
    "Redis Enterprise A-A",
];

const fn row(what: &'static str, scene: fn() -> String, others: Others) -> Row {
    Row { what, scene, others: Some(others) }
}

const fn own(what: &'static str, scene: fn() -> String) -> Row {
    Row { what, scene, others: None }
}

pub(crate) const ROWS: &[Row] = &[
    row(
        "Same key written on both sides",
        scenes::both_sides,
        [
            "diverge",
            "diverge",
            "diverge",
            "diverge; advises delete-on-peer (#47)",
            "one master",
            "**values swap**, diverge",
            "**values swap** (#247)",
            "later one by clock",
        ],
    ),
    row(
        "`cas`",
        scenes::cas,
        [
            "point to point only; broadcast: at most one stores (#28)",
            "same",
            "executed per node, tokens differ",
            "no `cas` in its API",
            "CAS not replicated; **false success possible after failover**",
            "replicated but printed as 32 bits: breaks past 2^32",
            "-",
            "-",
        ],
    ),
    row(
        "`incr`, `decr`",
        scenes::counters,
        [
            "replays the command; drifts after one miss",
            "same",
            "same",
            "heals by max or min, loses increments",
            "full value sent",
            "full value sent; concurrent increments lost",
            "diverges (#111)",
            "merged",
        ],
    ),
    row(
        "`append`, `prepend`",
        scenes::append,
        [
            "replays the command; drifts",
            "same",
            "same",
            "replays the command",
            "full value",
            "full value; one side lost",
            "replays the command",
            "later one wins†",
        ],
    ),
    row(
        "`add` as a lock",
        scenes::add,
        [
            "says exists, yet stored on some (#145)",
            "same class",
            "same class",
            "same class",
            "right",
            "both sides win",
            "both win",
            "both win†",
        ],
    ),
    row(
        "`flush_all`",
        scenes::flush_all,
        [
            "off unless enabled (#29)",
            "not a routed command",
            "unsupported (#224)",
            "not replicated†",
            "applied by its collector, sent as deletes",
            "sent, may pass newer sets",
            "yes†",
            "yes†",
        ],
    ),
    row(
        "TTL, `touch`",
        scenes::expiry,
        [
            "relative TTL copied; warm-up loses the TTL",
            "relative",
            "relative",
            "**touch off by default**",
            "absolute; touch sent",
            "absolute, the peer's clock trusted; no touch in 1.4.5",
            "yes",
            "a rule of its own†",
        ],
    ),
    row(
        "Peer down for long",
        scenes::peer_down,
        [
            "sets lost; deletes in a file nobody replays",
            "lost",
            "lost, counted",
            "retried in Kafka or SQS",
            "slave drops all, full resync",
            "lost, and the **link never comes back by itself**",
            "ring, else full sync and merge",
            "backlog, else full",
        ],
    ),
    row(
        "Peer's memcached restarts empty",
        scenes::peer_restarts_empty,
        [
            "misses; fill on read",
            "misses",
            "misses",
            "another zone",
            "full copy",
            "full copy before it serves",
            "full",
            "full",
        ],
    ),
    row(
        "Partition heals",
        scenes::partition_heals,
        [
            "stale values served (#190, #202)",
            "stale",
            "stale",
            "unordered replay",
            "loser wiped",
            "**both keep listening, no reconnect, diverge**",
            "newest snapshot wins; deletes may return",
            "converges",
        ],
    ),
    own("`kill -9` of a proxy that owes its peer", scenes::proxy_killed),
    own("`kill -9` of both proxies", scenes::both_proxies_killed),
    own("SIGTERM of a proxy, writes meanwhile on the other side", scenes::proxy_restarted),
    own("`kill -9` of a memcached whose proxy owes its peer", scenes::memcached_killed),
    own("A machine lost, proxy and memcached, after all was sent", scenes::machine_lost),
    own("Backlog past `--backlog-bytes`", scenes::overflow),
    own("Packets lost one way only", scenes::one_way),
    own("A peer that is frozen, not dead", scenes::frozen_peer),
    own("A clock 20 s ahead, and right again", scenes::clock_off),
    own("A clock 10 min ahead, and right again", scenes::clock_far_off),
    own("One memcached evicts", scenes::eviction),
    own("memcached 1.6.18 beside the newest, a proxy killed", scenes::mixed_servers),
];

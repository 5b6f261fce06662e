//! Administration: what is passed through to the one memcached behind.

use super::{Paces, Scene};

/// To be played first: dumps and item statistics depend on what a server has held before.
pub fn first() -> Vec<Scene> {
    vec![
        Scene::text(
            "dump",
            Paces::Stepwise,
            "set only 0 0 4|item\nget only\n@until-END lru_crawler metadump hash",
        ),
        Scene::text("dump of a class", Paces::Stepwise, "@until-END lru_crawler metadump 1"),
        Scene::text("stats", Paces::All, STATS),
    ]
}

/// To be played last: they change the server.
pub fn last() -> Vec<Scene> {
    vec![
        Scene::text("tuning", Paces::All, TUNING),
        Scene::text("refused shutdown", Paces::All, "shutdown\nshutdown graceful\nshutdown x\nversion"),
        Scene::text("watch refused", Paces::All, "watch nothing\nversion"),
    ]
}

const STATS: &str = r"
    set counted 0 0 1|x
    get counted
    stats settings
    stats items
    stats slabs
    stats sizes
    stats nonsense
    stats detail
    stats detail on
    get counted
    stats detail dump
    stats detail off
    stats detail nonsense
    stats cachedump
    stats cachedump 1
    stats cachedump 99 0
    stats cachedump a b
    stats reset
    stats extstore
    stats
    version
";

const TUNING: &str = r"
    slabs
    slabs automove
    slabs automove 0
    slabs automove 1
    slabs automove 3
    slabs reassign
    slabs reassign 99 1
    slabs reassign 1 1
    slabs nonsense 1 2
    lru
    lru mode
    lru mode flat
    lru mode segmented
    lru mode nonsense
    lru tune 10 20 0.1 2.0
    lru tune 10
    lru temp_ttl 60
    lru temp_ttl -1
    lru nonsense
    lru_crawler
    lru_crawler enable
    lru_crawler sleep 100
    lru_crawler sleep -1
    lru_crawler tocrawl 100
    lru_crawler tocrawl x
    lru_crawler nonsense
    lru_crawler crawl 999
    cache_memlimit 256
    cache_memlimit 1
    cache_memlimit
    cache_memlimit x
    cache_memlimit 256 noreply
    version
";

//! memcached's own `stats` under the names that the usual exporter gives them, so that dashboards and alerts made
//! for prometheus/memcached_exporter work against the sidecar's admin address.
//!
//! Written as text at each scrape instead of through a recorder: when memcached restarts its counters start at
//! zero, and a recorder's counters never go down.
//!
//! Left out on purpose: extstore and memcached's built-in proxy, which few caches use, and the chunk figures of
//! slab classes, which the exporter itself shows only when asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `STAT` lines of one answer: name and value.
pub type StatLines = Vec<(String, String)>;

/// What was read from memcached: the plain `stats`, and those of `settings`, `slabs` and `items`, each of which may
/// be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemcachedStats {
    pub general: StatLines,
    pub settings: StatLines,
    pub slabs: StatLines,
    pub items: StatLines,
}

/// One metric: where its value stands, its name behind `memcached_`, its kind and its help.
type Row = (&'static str, &'static str, Kind, &'static str);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// Prometheus text; nothing read is `memcached_up 0` and no more.
pub(super) fn render(stats: Option<&MemcachedStats>, out: &mut String) {
    head(out, "up", Kind::Gauge, "Whether memcached answers.");
    let _ = writeln!(out, "memcached_up {}", u8::from(stats.is_some()));
    let Some(stats) = stats else { return };
    let general = &stats.general;
    if let Some(version) = find(general, "version") {
        head(out, "version", Kind::Gauge, "The version of this memcached.");
        let _ = writeln!(out, "memcached_version{{version=\"{}\"}} 1", super::escaped(version));
    }
    plain(GENERAL, general, out);
    plain(SETTINGS, &stats.settings, out);
    plain(SLABS, &stats.slabs, out);
    // Newer servers say it in `stats` already; the setting is what the exporter shows.
    if number(&stats.settings, "maxconns").is_none() {
        plain(&[("max_connections", "max_connections", Kind::Gauge, MAX_CONNECTIONS)], general, out);
    }
    commands(general, out);
    by_slab(&stats.items, out);
}

fn plain(rows: &[Row], lines: &StatLines, out: &mut String) {
    for &(stat, name, kind, help) in rows {
        if let Some(value) = number(lines, stat) {
            head(out, name, kind, help);
            let _ = writeln!(out, "memcached_{name} {value}");
        }
    }
}

fn commands(lines: &StatLines, out: &mut String) {
    let mut counts = Vec::new();
    for command in ["get", "delete", "incr", "decr", "cas", "touch"] {
        for (status, suffix) in [("hit", "hits"), ("miss", "misses")] {
            counts
                .extend(number(lines, &format!("{command}_{suffix}")).map(|count| (command, status, count)));
        }
    }
    counts.extend(number(lines, "cas_badval").map(|count| ("cas", "badval", count)));
    counts.extend(number(lines, "cmd_flush").map(|count| ("flush", "hit", count)));
    // memcached counts a `cas` among its sets as well.
    let cas: f64 =
        ["cas_hits", "cas_misses", "cas_badval"].iter().filter_map(|stat| number(lines, stat)).sum();
    counts.extend(number(lines, "cmd_set").map(|count| ("set", "hit", (count - cas).max(0.0))));
    if counts.is_empty() {
        return;
    }
    head(out, "commands_total", Kind::Counter, "Requests by command and outcome, as memcached counts them.");
    for (command, status, count) in counts {
        let _ =
            writeln!(out, "memcached_commands_total{{command=\"{command}\",status=\"{status}\"}} {count}");
    }
}

/// `items:5:number 17` and its like.
fn by_slab(lines: &StatLines, out: &mut String) {
    let mut values: BTreeMap<(&str, u32), f64> = BTreeMap::new();
    for (name, value) in lines {
        let mut parts = name.split(':');
        if let (Some("items"), Some(slab), Some(stat), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
            && let (Ok(slab), Some(value)) = (slab.parse(), finite(value))
        {
            values.insert((stat, slab), value);
        }
    }
    let of = |stat: &'static str| {
        values.range((stat, 0)..=(stat, u32::MAX)).map(|((_, slab), value)| (*slab, *value))
    };
    for &(stat, name, kind, help) in ITEMS {
        for (index, (slab, value)) in of(stat).enumerate() {
            if index == 0 {
                head(out, name, kind, help);
            }
            let _ = writeln!(out, "memcached_{name}{{slab=\"{slab}\"}} {value}");
        }
    }
    let lrus = [
        ("hits_to_hot", "hot"),
        ("hits_to_warm", "warm"),
        ("hits_to_cold", "cold"),
        ("hits_to_temp", "temporary"),
    ];
    let hits: Vec<_> = lrus
        .into_iter()
        .flat_map(|(stat, lru)| of(stat).map(move |(slab, count)| (slab, lru, count)))
        .collect();
    if !hits.is_empty() {
        head(out, "slab_lru_hits_total", Kind::Counter, "Hits by slab class and LRU.");
    }
    for (slab, lru, count) in hits {
        let _ = writeln!(out, "memcached_slab_lru_hits_total{{slab=\"{slab}\",lru=\"{lru}\"}} {count}");
    }
}

fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let _ = writeln!(out, "# HELP memcached_{name} {help}\n# TYPE memcached_{name} {}", kind.as_str());
}

fn find<'a>(lines: &'a StatLines, stat: &str) -> Option<&'a str> {
    lines.iter().find(|(name, _)| name == stat).map(|(_, value)| value.as_str())
}

fn number(lines: &StatLines, stat: &str) -> Option<f64> {
    find(lines, stat).and_then(finite)
}

/// Numbers, and memcached's yes and no. What is neither is left out: better a gap than a wrong figure.
fn finite(value: &str) -> Option<f64> {
    match value {
        "yes" => Some(1.0),
        "no" => Some(0.0),
        value => value.parse::<f64>().ok().filter(|number| number.is_finite()),
    }
}

const MAX_CONNECTIONS: &str = "Connections allowed.";

#[rustfmt::skip]
const GENERAL: &[Row] = &[
    ("uptime", "uptime_seconds", Kind::Counter, "Seconds since memcached started."),
    ("time", "time_seconds", Kind::Gauge, "UNIX time by memcached's clock."),
    ("rusage_user", "process_user_cpu_seconds_total", Kind::Counter, "CPU time in user mode."),
    ("rusage_system", "process_system_cpu_seconds_total", Kind::Counter, "CPU time in the kernel."),
    ("bytes", "current_bytes", Kind::Gauge, "Bytes that items take."),
    ("limit_maxbytes", "limit_bytes", Kind::Gauge, "Bytes that items may take."),
    ("curr_items", "current_items", Kind::Gauge, "Items stored now."),
    ("total_items", "items_total", Kind::Counter, "Items ever stored."),
    ("bytes_read", "read_bytes_total", Kind::Counter, "Bytes read from the network."),
    ("bytes_written", "written_bytes_total", Kind::Counter, "Bytes written to the network."),
    ("curr_connections", "current_connections", Kind::Gauge, "Connections open now."),
    ("total_connections", "connections_total", Kind::Counter, "Connections ever opened."),
    ("rejected_connections", "connections_rejected_total", Kind::Counter, "Connections rejected at the limit."),
    ("conn_yields", "connections_yielded_total", Kind::Counter, "Times a connection gave way to others (-R)."),
    ("listen_disabled_num", "connections_listener_disabled_total", Kind::Counter, "Times accepting was halted at the limit."),
    ("accepting_conns", "accepting_connections", Kind::Gauge, "Whether connections are accepted."),
    ("evictions", "items_evicted_total", Kind::Counter, "Items evicted to make room."),
    ("reclaimed", "items_reclaimed_total", Kind::Counter, "Stores that reused an expired item's memory."),
    ("store_too_large", "item_too_large_total", Kind::Counter, "Stores refused for their size."),
    ("store_no_memory", "item_no_memory_total", Kind::Counter, "Stores refused for lack of memory."),
    ("direct_reclaims", "direct_reclaims_total", Kind::Counter, "Times a worker had to evict by itself."),
    ("lru_crawler_starts", "lru_crawler_starts_total", Kind::Counter, "Runs of the LRU crawler."),
    ("crawler_items_checked", "lru_crawler_items_checked_total", Kind::Counter, "Items that the crawler looked at."),
    ("crawler_reclaimed", "lru_crawler_reclaimed_total", Kind::Counter, "Items that the crawler freed."),
    ("moves_to_cold", "lru_crawler_moves_to_cold_total", Kind::Counter, "Items moved to the COLD LRU."),
    ("moves_to_warm", "lru_crawler_moves_to_warm_total", Kind::Counter, "Items moved to the WARM LRU."),
    ("moves_within_lru", "lru_crawler_moves_within_lru_total", Kind::Counter, "Items bumped within HOT or WARM."),
];

#[rustfmt::skip]
const SETTINGS: &[Row] = &[
    ("maxconns", "max_connections", Kind::Gauge, MAX_CONNECTIONS),
    ("lru_crawler", "lru_crawler_enabled", Kind::Gauge, "Whether the LRU crawler runs."),
    ("lru_crawler_sleep", "lru_crawler_sleep", Kind::Gauge, "Microseconds between the crawler's steps."),
    ("lru_crawler_tocrawl", "lru_crawler_to_crawl", Kind::Gauge, "Items looked at in a run, for each slab class."),
    ("lru_maintainer_thread", "lru_crawler_maintainer_thread", Kind::Gauge, "Whether the LRU has a thread of its own."),
    ("hot_lru_pct", "lru_crawler_hot_percent", Kind::Gauge, "Share of memory for the HOT LRU."),
    ("warm_lru_pct", "lru_crawler_warm_percent", Kind::Gauge, "Share of memory for the WARM LRU."),
    ("hot_max_factor", "lru_crawler_hot_max_factor", Kind::Gauge, "Idle age of HOT as a factor of COLD's age."),
    ("warm_max_factor", "lru_crawler_warm_max_factor", Kind::Gauge, "Idle age of WARM as a factor of COLD's age."),
];

const SLABS: &[Row] = &[("total_malloced", "malloced_bytes", Kind::Gauge, "Bytes allocated to slab pages.")];

#[rustfmt::skip]
const ITEMS: &[Row] = &[
    ("number", "slab_current_items", Kind::Gauge, "Items in the slab class."),
    ("age", "slab_items_age_seconds", Kind::Gauge, "Age of the oldest item."),
    ("number_hot", "slab_hot_items", Kind::Gauge, "Items in the HOT LRU."),
    ("number_warm", "slab_warm_items", Kind::Gauge, "Items in the WARM LRU."),
    ("number_cold", "slab_cold_items", Kind::Gauge, "Items in the COLD LRU."),
    ("number_temp", "slab_temporary_items", Kind::Gauge, "Items in the TEMPORARY LRU."),
    ("age_hot", "slab_hot_age_seconds", Kind::Gauge, "Age of the oldest item in HOT."),
    ("age_warm", "slab_warm_age_seconds", Kind::Gauge, "Age of the oldest item in WARM."),
    ("mem_requested", "slab_mem_requested_bytes", Kind::Counter, "Bytes asked for by the items of the class."),
    ("crawler_reclaimed", "slab_items_crawler_reclaimed_total", Kind::Counter, "Items freed by the crawler."),
    ("evicted", "slab_items_evicted_total", Kind::Counter, "Items evicted."),
    ("evicted_nonzero", "slab_items_evicted_nonzero_total", Kind::Counter, "Items with an expiry evicted."),
    ("evicted_time", "slab_items_evicted_time_seconds", Kind::Counter, "Idle time of the item evicted last."),
    ("evicted_unfetched", "slab_items_evicted_unfetched_total", Kind::Counter, "Items evicted and never read."),
    ("expired_unfetched", "slab_items_expired_unfetched_total", Kind::Counter, "Items expired and never read."),
    ("outofmemory", "slab_items_outofmemory_total", Kind::Counter, "Stores that found no memory."),
    ("reclaimed", "slab_items_reclaimed_total", Kind::Counter, "Items reclaimed."),
    ("tailrepairs", "slab_items_tailrepairs_total", Kind::Counter, "Times the tail was repaired."),
    ("moves_to_cold", "slab_items_moves_to_cold", Kind::Counter, "Items moved to COLD."),
    ("moves_to_warm", "slab_items_moves_to_warm", Kind::Counter, "Items moved to WARM."),
    ("moves_within_lru", "slab_items_moves_within_lru", Kind::Counter, "Items bumped within HOT or WARM."),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> StatLines {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    }

    fn rendered(stats: &MemcachedStats) -> String {
        let mut out = String::new();
        render(Some(stats), &mut out);
        out
    }

    #[test]
    fn nothing_read_is_down() {
        let mut out = String::new();
        render(None, &mut out);
        assert!(out.ends_with("memcached_up 0\n"));
        assert_eq!(out.lines().count(), 3);
    }

    #[test]
    fn names_are_those_of_the_exporter() {
        let general = "version 1.6.18\nuptime 7\nbytes 52\ncurr_items 1\ntotal_items 9\nmax_connections 5\nrusage_user 0.25\n\
                       get_hits 3\nget_misses 4\ncmd_set 10\ncas_hits 1\ncas_misses 2\ncas_badval 3\ncmd_flush 6\nlimit_maxbytes junk";
        let stats = MemcachedStats {
            general: lines(general),
            settings: lines("maxconns 1024\nlru_crawler yes"),
            slabs: lines("1:chunk_size 96\ntotal_malloced 1048576"),
            items: lines("items:1:number 17\nitems:12:number 1\nitems:1:hits_to_hot 2\nitems:x:number 1"),
        };
        let text = rendered(&stats);
        for line in [
            "memcached_up 1",
            "memcached_version{version=\"1.6.18\"} 1",
            "memcached_uptime_seconds 7",
            "memcached_current_bytes 52",
            "memcached_current_items 1",
            "memcached_items_total 9",
            "memcached_process_user_cpu_seconds_total 0.25",
            "memcached_max_connections 1024",
            "memcached_lru_crawler_enabled 1",
            "memcached_malloced_bytes 1048576",
            "memcached_commands_total{command=\"get\",status=\"hit\"} 3",
            "memcached_commands_total{command=\"get\",status=\"miss\"} 4",
            "memcached_commands_total{command=\"set\",status=\"hit\"} 4",
            "memcached_commands_total{command=\"cas\",status=\"badval\"} 3",
            "memcached_commands_total{command=\"flush\",status=\"hit\"} 6",
            "memcached_slab_current_items{slab=\"1\"} 17",
            "memcached_slab_current_items{slab=\"12\"} 1",
            "memcached_slab_lru_hits_total{slab=\"1\",lru=\"hot\"} 2",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("limit_bytes"), "no number, no metric");
        assert_eq!(text.matches("# TYPE memcached_max_connections").count(), 1);
    }
}

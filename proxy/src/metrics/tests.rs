use std::collections::HashMap;

use memcloud_protocol::memcache::Dialect;

use super::*;

fn figures() -> Figures {
    let worker = WorkerCounters::default();
    worker.request(Dialect::Text, CommandName::Get);
    worker.request(Dialect::Text, CommandName::MetaSet);
    worker.duration_us(120, 2);
    worker.session_opened(false);
    worker.received(10);
    worker.session_refused(Refusal::Limit);
    let peer = PeerFigures {
        peer: "127.0.0.1:9".to_owned(),
        streaming: true,
        lag_ms: 1500,
        backlog_entries: 7,
        spilled: Some((13, 14)),
        mutations: vec![(Direction::Out, "acked", 5), (Direction::In, "applied", 6)],
        inbound: true,
        resyncs_partial: 1,
        resyncs_asking: 2,
        resyncs_turned_away: 16,
        read_misses: 8,
        restarts: 9,
        links_stopped: vec![("closed", 2)],
        ..PeerFigures::default()
    };
    Figures {
        site: "a\"b".to_owned(),
        totals: Totals::of([&worker]),
        upstream_up: true,
        failover: Some(FailoverFigures { active: true, total: 2 }),
        control: Some(ControlFigures {
            up: true,
            placed: true,
            heard_ms: Some(1_500),
            requests: vec![("heartbeat", "ok", 7)],
        }),
        replication: ReplicationFigures {
            lost: vec![("backlog", 3)],
            unknown_outcomes: 10,
            payloads_dropped: 11,
            strangers: vec![("malformed", 12)],
            listener_full: 17,
            spill_losses: vec![("disk_full", 15)],
            peers: vec![peer],
            ..Default::default()
        },
        memcached: Some(MemcachedStats {
            general: vec![("version".to_owned(), "1.6.18".to_owned()), ("bytes".to_owned(), "5".to_owned())],
            ..MemcachedStats::default()
        }),
    }
}

/// A strict reader of the text format: what it takes, Prometheus takes.
fn parse(text: &str) -> HashMap<String, f64> {
    let mut kinds = HashMap::new();
    let mut series = HashMap::new();
    let mut family = String::new();
    let mut ended = std::collections::HashSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').unwrap();
            let (name, rest) = rest.split_once(' ').unwrap();
            if word == "TYPE" {
                assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                assert!(kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "a second TYPE: {line}");
            } else {
                assert_eq!(word, "HELP", "{line}");
            }
            if family != name {
                assert!(
                    ended.insert(std::mem::replace(&mut family, name.to_owned())),
                    "a family in two pieces: {line}"
                );
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        let bare = name.split('{').next().unwrap();
        assert!(bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        if let Some((_, labels)) = name.split_once('{') {
            assert!(labels.ends_with("\"}"), "{line}");
        }
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| bare.strip_suffix(suffix));
        let of = histogram.filter(|name| kinds.contains_key(*name)).unwrap_or(bare);
        assert_eq!(of, family, "outside its family: {line}");
        assert!(kinds.contains_key(of), "no TYPE: {line}");
        assert!(kinds[of] != "counter" || of.ends_with("_total") || of.starts_with("memcached_"), "{line}");
        assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    series
}

#[test]
fn a_scrape_is_prometheus_text_with_the_names_of_the_contract() {
    let text = render(&figures());
    let series = parse(&text);
    for (name, value) in [
        ("memcloud_proxy_requests_total{command=\"get\",dialect=\"text\"}", 1.0),
        ("memcloud_proxy_requests_total{command=\"ms\",dialect=\"meta\"}", 1.0),
        ("memcloud_proxy_request_duration_seconds_bucket{le=\"0.000128\"}", 2.0),
        ("memcloud_proxy_request_duration_seconds_count", 2.0),
        ("memcloud_proxy_sessions", 1.0),
        ("memcloud_proxy_sessions_refused_total{reason=\"limit\"}", 1.0),
        ("memcloud_proxy_upstream_up", 1.0),
        ("memcloud_proxy_failover_active", 1.0),
        ("memcloud_proxy_control_up", 1.0),
        ("memcloud_proxy_control_placed", 1.0),
        ("memcloud_proxy_control_heard_timestamp_seconds", 1.5),
        ("memcloud_proxy_control_requests_total{request=\"heartbeat\",outcome=\"ok\"}", 7.0),
        ("memcloud_proxy_failovers_total", 2.0),
        ("memcloud_proxy_replication_lag_seconds{peer=\"127.0.0.1:9\"}", 1.5),
        ("memcloud_proxy_replication_backlog_entries{peer=\"127.0.0.1:9\"}", 7.0),
        ("memcloud_proxy_spill_keys{peer=\"127.0.0.1:9\"}", 13.0),
        ("memcloud_proxy_spill_bytes{peer=\"127.0.0.1:9\"}", 14.0),
        ("memcloud_proxy_spill_errors_total{reason=\"disk_full\"}", 15.0),
        (
            "memcloud_proxy_replication_mutations_total{peer=\"127.0.0.1:9\",direction=\"out\",outcome=\"acked\"}",
            5.0,
        ),
        ("memcloud_proxy_replication_lost_total{reason=\"backlog\"}", 3.0),
        ("memcloud_proxy_replication_inbound{peer=\"127.0.0.1:9\"}", 1.0),
        ("memcloud_proxy_replication_read_misses_total{peer=\"127.0.0.1:9\"}", 8.0),
        ("memcloud_proxy_peer_restarts_total{peer=\"127.0.0.1:9\"}", 9.0),
        ("memcloud_proxy_replication_unknown_outcomes_total", 10.0),
        ("memcloud_proxy_replication_payloads_dropped_total", 11.0),
        ("memcloud_proxy_peer_strangers_total{reason=\"malformed\"}", 12.0),
        ("memcloud_proxy_peer_listener_full_total", 17.0),
        ("memcloud_proxy_resyncs_total{peer=\"127.0.0.1:9\",kind=\"partial\"}", 1.0),
        ("memcloud_proxy_resyncs_asking{peer=\"127.0.0.1:9\"}", 2.0),
        ("memcloud_proxy_resyncs_turned_away_total{peer=\"127.0.0.1:9\"}", 16.0),
        ("memcloud_proxy_links_stopped_total{peer=\"127.0.0.1:9\",reason=\"closed\"}", 2.0),
        ("memcached_up", 1.0),
        ("memcached_current_bytes", 5.0),
    ] {
        assert_eq!(series.get(name), Some(&value), "{name} in\n{text}");
    }
    assert!(text.contains("site=\"a\\\"b\""), "labels are escaped");
    let help = |name: &str| text.contains(&format!("# HELP {name} "));
    for name in series.keys().map(|name| name.split('{').next().unwrap()) {
        let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(help(name) || help(family), "{name} has no help");
    }
}

#[test]
fn a_peer_that_is_gone_leaves_no_series() {
    let mut figures = figures();
    assert!(render(&figures).contains("peer="));
    figures.replication.peers.clear();
    figures.memcached = None;
    let text = render(&figures);
    assert!(!text.contains("peer="));
    assert_eq!(parse(&text).get("memcached_up"), Some(&0.0));
}

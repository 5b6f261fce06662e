//! Asked by `dig` and `kdig`, over UDP and TCP, from a directory made by hand.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use memcloud_protocol::topology::{
    AppId, HashMethod, Preference, Replica, ReplicaState, Shard, ShardName, Topology,
};
use tokio_util::sync::CancellationToken;

use super::master_file;
use super::server::{Plan, bind};
use super::services::services;
use super::zone::Zone;
use crate::directory::{Directory, Entry};
use crate::leases::Leases;
use crate::registrar::View;
use crate::registry::Registry;
use crate::registry::number::Sequence;

struct Served {
    address: SocketAddr,
    view: Arc<ArcSwap<View>>,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(apps: Vec<Topology>) -> Served {
    serve_for(5, vec![IpAddr::from([127, 0, 0, 1])], apps).await
}

async fn serve_for(ttl: u32, addresses: Vec<IpAddr>, apps: Vec<Topology>) -> Served {
    let zone = Arc::new(Zone::new("memcloud.internal.", ttl, addresses).unwrap());
    let view = Arc::new(ArcSwap::from_pointee(view(apps, 7)));
    let plan = Plan { address: ([127, 0, 0, 1], 0).into(), tls: None, sockets: 2, rate: 0 };
    let bound = bind(&plan, &zone, &view).await.unwrap();
    let (address, stop) = (bound.address(), CancellationToken::new());
    tokio::spawn(bound.serve(stop.clone()));
    Served { address, view, stop }
}

fn view(apps: Vec<Topology>, serial: u32) -> View {
    let entries = apps.into_iter().map(|topology| Entry { topology, edition: 0 });
    View {
        restored: None,
        registry: Registry::default(),
        leases: Leases::new(SignedDuration::from_secs(15), Timestamp::UNIX_EPOCH),
        directory: Directory::restored(Sequence(1), serial, entries),
        trouble: None,
    }
}

fn replica(site: &str, host: &str, priority: u16, weight: u16) -> Replica {
    let state = if priority == 20 { ReplicaState::Down } else { ReplicaState::Up };
    assert_eq!(
        state.priority(if priority == 10 { Preference::Standby } else { Preference::Preferred }),
        priority
    );
    Replica { site: site.parse().unwrap(), host: host.into(), port: 11211, state, priority, weight }
}

fn app(number: u32, shards: Vec<Vec<Replica>>) -> Topology {
    let shards = shards
        .into_iter()
        .enumerate()
        .map(|(at, replicas)| Shard { name: ShardName::numbered(u16::try_from(at).unwrap()), replicas });
    Topology {
        appid: AppId::try_from(number).unwrap(),
        name: format!("app-{number}"),
        revision: 3,
        ttl_seconds: 5,
        hash: HashMethod::Ketama,
        shards: shards.collect(),
    }
}

fn pair() -> Topology {
    app(
        10_001,
        vec![
            vec![replica("a", "10.0.0.1", 0, 100), replica("b", "10.0.0.2", 10, 100)],
            vec![replica("a", "fd00::1", 0, 100), replica("b", "cache.example.org", 20, 50)],
        ],
    )
}

fn many(number: u32, count: usize) -> Topology {
    many_named(number, count, "site")
}

/// In shards of 500, every fourth preferred.
fn many_named(number: u32, count: usize, site: &str) -> Topology {
    let replicas = (0..count).map(|at| {
        let [.., b, c, d] = at.to_be_bytes();
        replica(&format!("{site}-{at}"), &format!("10.{b}.{c}.{d}"), if at % 4 == 0 { 0 } else { 10 }, 100)
    });
    let all: Vec<Replica> = replicas.collect();
    app(number, all.chunks(500).map(<[Replica]>::to_vec).collect())
}

impl Served {
    /// What `dig` prints.
    async fn dig(&self, arguments: &str) -> String {
        let mut command = Command::new("dig");
        command
            .arg("@127.0.0.1")
            .arg("-p")
            .arg(self.address.port().to_string())
            .args(["+tries=1", "+time=5"]);
        command.args(arguments.split_whitespace());
        tokio::task::spawn_blocking(move || {
            let output = command.output().expect("dig: tests/setup installs it");
            String::from_utf8(output.stdout).unwrap()
        })
        .await
        .unwrap()
    }

    /// The lines of `+short`, sorted.
    async fn short(&self, arguments: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            self.dig(&format!("+short {arguments}")).await.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// The names that `dig` prints for a code and flags.
fn head(answer: &str) -> (String, String) {
    let between = |from: &str, to: char| {
        let rest = answer.split_once(from).map_or("", |(_, rest)| rest);
        rest.split(to).next().unwrap_or("").trim().to_owned()
    };
    (between("status: ", ','), between("flags: ", ';'))
}

#[tokio::test]
async fn each_row_of_the_contract() {
    let served = serve(vec![pair()]).await;
    for transport in ["+notcp", "+tcp"] {
        let srv = served.short(&format!("{transport} _memcached._tcp.10001.memcloud.internal SRV")).await;
        let all = [
            "0 100 11211 a.s0.10001.memcloud.internal.",
            "0 100 11211 a.s1.10001.memcloud.internal.",
            "10 100 11211 b.s0.10001.memcloud.internal.",
            "20 50 11211 cache.example.org.",
        ];
        assert_eq!(srv, all);
        let shard =
            served.short(&format!("{transport} _memcached._tcp.s0.10001.memcloud.internal SRV")).await;
        assert_eq!(shard, [all[0], all[2]]);
    }
    assert_eq!(served.short("a.s0.10001.memcloud.internal A").await, ["10.0.0.1"]);
    assert_eq!(served.short("a.s1.10001.memcloud.internal AAAA").await, ["fd00::1"]);
    assert_eq!(served.short("b.s1.10001.memcloud.internal A").await, ["cache.example.org."]);
    let txt = served.short("10001.memcloud.internal TXT").await;
    assert_eq!(txt, [r#""v=memcloud1" "revision=3" "shards=2" "hash=ketama""#]);
    assert_eq!(served.short("memcloud.internal NS").await, ["ns.memcloud.internal."]);
    assert_eq!(served.short("ns.memcloud.internal A").await, ["127.0.0.1"]);
    let soa = served.short("memcloud.internal SOA").await;
    assert_eq!(soa, ["ns.memcloud.internal. hostmaster.memcloud.internal. 7 60 10 86400 5"]);
}

#[tokio::test]
async fn the_addresses_of_all_targets_come_along() {
    let served = serve(vec![pair()]).await;
    let answer = served.dig("+noall +additional _memcached._tcp.10001.memcloud.internal SRV").await;
    let mut addresses: Vec<&str> = answer.lines().filter_map(|line| line.split_whitespace().last()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
}

#[tokio::test]
async fn what_is_not_there_and_what_has_no_such_type() {
    let served = serve(vec![pair()]).await;
    let cases = [
        ("10002.memcloud.internal TXT", "NXDOMAIN"),
        ("_memcached._tcp.10002.memcloud.internal SRV", "NXDOMAIN"),
        ("c.s0.10001.memcloud.internal A", "NXDOMAIN"),
        ("_memcached._tcp.s2.10001.memcloud.internal SRV", "NXDOMAIN"),
        ("_http._tcp.10001.memcloud.internal SRV", "NXDOMAIN"),
        ("www.memcloud.internal A", "NXDOMAIN"),
        ("x.a.s0.10001.memcloud.internal A", "NXDOMAIN"),
        ("*.memcloud.internal SOA", "NXDOMAIN"),
        ("*.10001.memcloud.internal TXT", "NXDOMAIN"),
        // They exist because something below them does.
        ("_tcp.10001.memcloud.internal A", "NOERROR"),
        ("s0.10001.memcloud.internal A", "NOERROR"),
        ("_tcp.s0.10001.memcloud.internal A", "NOERROR"),
        ("10001.memcloud.internal A", "NOERROR"),
        ("a.s0.10001.memcloud.internal AAAA", "NOERROR"),
        ("a.s0.10001.memcloud.internal MX", "NOERROR"),
        ("a.s0.10001.memcloud.internal TYPE65280", "NOERROR"),
        ("_memcached._tcp.10001.memcloud.internal A", "NOERROR"),
    ];
    for (question, status) in cases {
        let answer = served.dig(question).await;
        let (code, flags) = head(&answer);
        assert_eq!((code.as_str(), flags.as_str()), (status, "qr aa rd"), "{question}");
        assert!(answer.contains("ANSWER: 0, AUTHORITY: 1") && answer.contains("SOA"), "{question}: {answer}");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_refused() {
    let served = serve(vec![pair()]).await;
    for question in
        ["example.org A", "memcloud.internal AXFR", ". NS", "-c CH version.bind TXT", "xmemcloud.internal A"]
    {
        let answer = served.dig(&format!("+noall +comments +answer {question}")).await;
        let refused = answer.contains("REFUSED") || answer.contains("Transfer failed");
        assert!(refused && !answer.contains(" aa"), "{question}: {answer}");
    }
    assert_eq!(head(&served.dig("+opcode=NOTIFY memcloud.internal SOA").await).0, "NOTIMP");
    assert_eq!(head(&served.dig("+edns=1 +noednsneg memcloud.internal SOA").await).0, "BADVERS");
}

#[tokio::test]
async fn names_are_the_same_in_any_case_and_questions_come_back_as_asked() {
    let served = serve(vec![pair()]).await;
    let answer = served.dig("_MemCached._TCP.S0.10001.MEMCLOUD.Internal SRV").await;
    assert!(answer.contains(";_MemCached._TCP.S0.10001.MEMCLOUD.Internal. IN SRV"), "{answer}");
    assert!(answer.contains("ANSWER: 2"), "{answer}");
}

#[tokio::test]
async fn what_does_not_fit_is_said_and_is_whole_over_tcp() {
    let served = serve(vec![many(10_200, 200), many(11_000, 1_000)]).await;
    let name = "_memcached._tcp.10200.memcloud.internal SRV";
    for size in ["+noedns", "+bufsize=512", "+bufsize=1232", "+bufsize=4096"] {
        let cut = served.dig(&format!("{size} +ignore {name}")).await;
        let (code, flags) = head(&cut);
        assert_eq!((code.as_str(), flags.as_str()), ("NOERROR", "qr aa tc rd"), "{size}");
        assert!(!cut.contains("ANSWER: 0"), "never cut to nothing: {size}");
        assert_eq!(served.short(&format!("{size} {name}")).await.len(), 200, "dig comes back by TCP: {size}");
    }
    // A thousand are more than a message holds: the app tells the preferred ones, its shards tell all.
    let told = served.short("+tcp _memcached._tcp.11000.memcloud.internal SRV").await;
    assert_eq!(told.len(), 250);
    assert!(told.iter().all(|line| line.starts_with("0 ")));
    for shard in ["s0", "s1"] {
        let all = served.short(&format!("+tcp _memcached._tcp.{shard}.11000.memcloud.internal SRV")).await;
        assert_eq!(all.len(), 500);
    }
}

#[tokio::test]
async fn the_largest_answer_is_one_message() {
    let zone = Zone::new("memcloud.internal.", 5, Vec::new()).unwrap();
    for site in ["s", "a-site-with-a-name-as-long-as-a-label-of-the-dns-may-be-at-most"] {
        let site = &site[..site.len().min(57)];
        let told = |count| services(&zone, &many_named(10_001, count, site), None).len();
        let most = (1..2_000).take_while(|&count| told(count) == count).last().unwrap();
        assert!(told(most + 1) < most, "beyond it the preferred ones are told");
        let served = serve(vec![many_named(10_001, most, site)]).await;
        for name in ["_memcached._tcp.10001.memcloud.internal", "_MEMCACHED._tcp.10001.memcloud.internal"] {
            let answer = served.dig(&format!("+tcp {name} SRV")).await;
            let (code, flags) = head(&answer);
            assert_eq!((code.as_str(), flags.as_str()), ("NOERROR", "qr aa rd"), "{most}");
            assert!(answer.contains(&format!("ANSWER: {most},")), "{most}");
        }
    }
}

/// What is cut is cut by us: else the message has no EDNS, and says nothing of what was left out.
#[tokio::test]
async fn an_answer_is_cut_where_it_has_to_be() {
    let served = serve((5..40).map(|count| many(10_000 + count, count as usize)).collect()).await;
    let mut whole = 0;
    for count in 5..40 {
        for service in ["_memcached._tcp", "_Memcached._TCP"] {
            let name = format!("{service}.{}.memcloud.internal", 10_000 + count);
            let answer = served.dig(&format!("+ignore +bufsize=1232 {name} SRV")).await;
            let is_whole = answer.contains(&format!("ANSWER: {count},"));
            assert_ne!(is_whole, head(&answer).1.contains("tc"), "{count}: {answer}");
            assert!(answer.contains("OPT PSEUDOSECTION"), "{count}: {answer}");
            whole = if is_whole { count } else { whole };
        }
    }
    // 12 + 45 + 11 bytes, once 39 for the name, and 53 or 54 for each.
    assert_eq!(whole, 21);
}

#[tokio::test]
async fn an_app_without_replicas_has_no_service() {
    let served = serve(vec![app(10_003, vec![vec![]])]).await;
    for name in
        ["_memcached._tcp.10003", "_tcp.10003", "_memcached._tcp.s0.10003", "_tcp.s0.10003", "s0.10003"]
    {
        let answer = served.dig(&format!("{name}.memcloud.internal SRV")).await;
        assert_eq!(head(&answer).0, "NXDOMAIN", "{name}");
    }
    assert_eq!(served.short("10003.memcloud.internal TXT").await.len(), 1);
}

#[tokio::test]
async fn an_alias_within_the_zone_is_followed() {
    let hosts = [
        "10.0.0.1",
        "a.s0.10001.memcloud.internal",
        "b.s0.10001.memcloud.internal",
        "none.memcloud.internal",
    ];
    let replicas =
        ["a", "b", "c", "d"].iter().zip(hosts).map(|(site, host)| replica(site, host, 0, 100)).collect();
    let served =
        serve(vec![app(10_001, vec![replicas, vec![replica("e", "e.s1.10001.memcloud.internal", 0, 1)]])])
            .await;
    let told = served.short("c.s0.10001.memcloud.internal A").await;
    assert_eq!(told, ["10.0.0.1", "a.s0.10001.memcloud.internal.", "b.s0.10001.memcloud.internal."]);
    let (code, flags) = head(&served.dig("c.s0.10001.memcloud.internal TXT").await);
    assert_eq!((code.as_str(), flags.as_str()), ("NOERROR", "qr aa rd"));
    // RFC 6604: the code is that of the last name.
    let answer = served.dig("d.s0.10001.memcloud.internal A").await;
    assert_eq!(head(&answer).0, "NXDOMAIN");
    assert!(answer.contains("ANSWER: 1, AUTHORITY: 1"), "{answer}");
    assert_eq!(served.short("c.s0.10001.memcloud.internal CNAME").await, ["b.s0.10001.memcloud.internal."]);
    for beside in ["NSEC", "RRSIG"] {
        let none: [&str; 0] = [];
        assert_eq!(served.short(&format!("c.s0.10001.memcloud.internal {beside}")).await, none);
    }
    assert_eq!(served.short("e.s1.10001.memcloud.internal A").await, ["e.s1.10001.memcloud.internal."]);
}

#[tokio::test]
async fn no_record_is_told_twice() {
    let outside =
        || vec![replica("a", "Cache.example.org", 0, 100), replica("b", "cache.example.org", 0, 100)];
    let served = serve(vec![app(10_001, vec![outside(), outside()])]).await;
    let told = served.short("_memcached._tcp.10001.memcloud.internal SRV").await;
    assert_eq!(told, ["0 100 11211 Cache.example.org."]);
}

#[tokio::test]
async fn what_is_kept_of_a_denial_and_what_is_copied() {
    let mut served = serve(vec![pair()]).await;
    let answer = served.dig("+dnssec 10001.memcloud.internal A").await;
    assert!(answer.contains("flags: do;"), "{answer}");
    served = serve_for(60, vec![IpAddr::from([127, 0, 0, 1])], vec![pair()]).await;
    let ttl = |answer: String| answer.split_whitespace().nth(1).map(str::to_owned);
    let denial = served.dig("+noall +authority 10002.memcloud.internal A").await;
    assert_eq!(ttl(denial).as_deref(), Some("5"), "RFC 2308 section 3");
    let soa = served.dig("+noall +answer memcloud.internal SOA").await;
    assert_eq!(ttl(soa).as_deref(), Some("60"));
    // On a wildcard address, the name server has no address that could be told.
    let served = serve_for(5, Vec::new(), vec![pair()]).await;
    assert_eq!(head(&served.dig("ns.memcloud.internal A").await).0, "NXDOMAIN");
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_question() {
    let served = serve(vec![pair()]).await;
    assert_eq!(head(&served.dig("10002.memcloud.internal TXT").await).0, "NXDOMAIN");
    served
        .view
        .store(Arc::new(view(vec![pair(), app(10_002, vec![vec![replica("a", "10.9.9.9", 0, 100)]])], 8)));
    assert_eq!(served.short("a.s0.10002.memcloud.internal A").await, ["10.9.9.9"]);
}

#[tokio::test]
async fn equals_are_asked_by_their_weights() {
    let served = serve(vec![app(
        10_001,
        vec![vec![replica("heavy", "10.0.0.1", 0, 90), replica("light", "10.0.0.2", 0, 10)]],
    )])
    .await;
    let mut first = 0;
    for _ in 0..60 {
        let answer = served.dig("+noall +answer _memcached._tcp.10001.memcloud.internal SRV").await;
        first += usize::from(answer.lines().next().is_some_and(|line| line.contains("heavy")));
    }
    // 54 of 60 are expected; as few as 40, or all of them twice in a thousand years.
    assert!((40..60).contains(&first), "{first}");
}

#[test]
fn a_master_file_says_the_same() {
    let zone = Zone::new("memcloud.internal.", 5, vec![IpAddr::V6(Ipv6Addr::LOCALHOST)]).unwrap();
    let mut text = String::new();
    master_file::write(&zone, &view(vec![pair()], 7).directory, &mut text).unwrap();
    let expected = "$ORIGIN memcloud.internal.
$TTL 5
memcloud.internal. 5 IN SOA ns.memcloud.internal. hostmaster.memcloud.internal. 7 60 10 86400 5
memcloud.internal. 5 IN NS ns.memcloud.internal.
ns.memcloud.internal. 5 IN AAAA ::1
10001 IN TXT \"v=memcloud1\" \"revision=3\" \"shards=2\" \"hash=ketama\"
_memcached._tcp.10001 IN SRV 0 100 11211 a.s0.10001.memcloud.internal.
_memcached._tcp.10001 IN SRV 10 100 11211 b.s0.10001.memcloud.internal.
_memcached._tcp.10001 IN SRV 0 100 11211 a.s1.10001.memcloud.internal.
_memcached._tcp.10001 IN SRV 20 50 11211 cache.example.org.
_memcached._tcp.s0.10001 IN SRV 0 100 11211 a.s0.10001.memcloud.internal.
_memcached._tcp.s0.10001 IN SRV 10 100 11211 b.s0.10001.memcloud.internal.
a.s0.10001 IN A 10.0.0.1
b.s0.10001 IN A 10.0.0.2
_memcached._tcp.s1.10001 IN SRV 0 100 11211 a.s1.10001.memcloud.internal.
_memcached._tcp.s1.10001 IN SRV 20 50 11211 cache.example.org.
a.s1.10001 IN AAAA fd00::1
b.s1.10001 IN CNAME cache.example.org.
";
    assert_eq!(text, expected);
}

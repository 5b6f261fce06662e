//! Questions drawn by chance: of names that exist, of such that nearly do, and of such that are somebody else's.

use memcloud_tests::random::Rng;
use memcloud_tests::registry::{FIRST_APP, Shards};

use crate::messages::Question;
use crate::served::ZONE;

const KINDS: [&str; 24] = [
    "SRV",
    "SRV",
    "SRV",
    "A",
    "AAAA",
    "TXT",
    "ANY",
    "NS",
    "SOA",
    "CNAME",
    "MX",
    "PTR",
    "CAA",
    "DS",
    "DNSKEY",
    "NAPTR",
    "TLSA",
    "HTTPS",
    "SVCB",
    "NULL",
    "RRSIG",
    "NSEC",
    "TYPE65280",
    "TYPE1234",
];
/// What fits into a datagram is the client's word; without EDNS it is 512 bytes.
const HOWS: [&str; 6] = [
    "+notcp +ignore",
    "+tcp",
    "+noedns +ignore",
    "+bufsize=512 +ignore",
    "+bufsize=4096 +ignore",
    "+dnssec +ignore",
];

/// A question about these apps.
pub(crate) fn draw(rng: &mut Rng, apps: &[Shards]) -> Question {
    let (name, natural) = name(rng, apps);
    let kind = if rng.chance(60) { natural } else { rng.pick(&KINDS) };
    let name = if rng.chance(50) { in_mixed_case(rng, &name) } else { name };
    let how = if kind == "ANY" { "+tcp" } else { rng.pick(&HOWS) };
    Question::new(&name, kind, how)
}

/// A name, and what is usually asked of it.
fn name(rng: &mut Rng, apps: &[Shards]) -> (String, &'static str) {
    let at = rng.below(apps.len() as u64) as usize;
    let app = FIRST_APP + u32::try_from(at).unwrap();
    let shard = rng.below(apps[at].len() as u64) as usize;
    let site = &rng.pick(&apps[at][shard]).site;
    let (name, kind) = match rng.below(12) {
        0..3 => (format!("_memcached._tcp.{app}"), "SRV"),
        3..5 => (format!("_memcached._tcp.s{shard}.{app}"), "SRV"),
        5 => (format!("{site}.s{shard}.{app}"), "A"),
        6 => (format!("{site}.s{shard}.{app}"), "AAAA"),
        7 => (app.to_string(), "TXT"),
        8 => (rng.pick(&["_tcp", "s0", "_tcp.s0"]).to_string() + &format!(".{app}"), "SRV"),
        9 => {
            return (
                rng.pick(&[ZONE, "ns.memcloud.internal", "hostmaster.memcloud.internal"]).to_string(),
                "NS",
            );
        }
        10 => (missing(rng, app, shard), "SRV"),
        _ => return foreign(rng),
    };
    (format!("{name}.{ZONE}"), kind)
}

fn missing(rng: &mut Rng, app: u32, shard: usize) -> String {
    match rng.below(12) {
        0 => format!("_memcached._tcp.{}", app + 1_000),
        1 => format!("_memcached._tcp.s9.{app}"),
        2 => format!("_memcached._udp.s{shard}.{app}"),
        3 => format!("_http._tcp.{app}"),
        4 => format!("site-77.s{shard}.{app}"),
        5 => format!("below.site-0.s{shard}.{app}"),
        6 => format!("0{app}"),
        7 => format!("s0{shard}.{app}"),
        8 => format!("*.{app}"),
        9 => "*".to_owned(),
        10 => format!("site-0.s{shard}.{app}.x"),
        _ => format!("x._memcached._tcp.{app}"),
    }
}

fn foreign(rng: &mut Rng) -> (String, &'static str) {
    let name = rng.pick(&[
        "example.org",
        "internal",
        "xmemcloud.internal",
        "10001.memcloud.internal.example.org",
        ".",
    ]);
    (name.to_string(), "A")
}

fn in_mixed_case(rng: &mut Rng, name: &str) -> String {
    name.chars().map(|letter| if rng.chance(50) { letter.to_ascii_uppercase() } else { letter }).collect()
}

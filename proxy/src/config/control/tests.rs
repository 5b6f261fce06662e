use crate::config::{Ack, Config, Settings};

const WHOLE: &str =
    "site: a\npeer_listen: 127.0.0.1:7\ncontrol: http://c:8053/\ntoken_file: /t\nmachine: m\n";

fn read(more: &str) -> Result<Config, String> {
    let text = format!("{WHOLE}{more}");
    Config::from_layers(Settings::default(), Some(("c.yaml", &text))).map_err(|error| error.to_string())
}

fn fault(text: &str) -> String {
    Config::from_layers(Settings::default(), Some(("c.yaml", text))).unwrap_err().to_string()
}

#[test]
fn a_replica_has_an_identity_that_outlives_its_machine() {
    let pool = read("").unwrap();
    let control = pool.control.clone().unwrap();
    assert_eq!(
        (control.endpoints[0].to_string().as_str(), control.identity.as_str(), control.place),
        ("http://c:8053", "m/a", None)
    );
    let placed = read("app: 10001\nshard: s2\navailability_zone: z\nadvertise: '[fd00::1]'\n").unwrap();
    let control = placed.control.clone().unwrap();
    assert_eq!(control.identity, "10001/s2/a");
    assert_eq!(control.place.unwrap().shard.to_string(), "s2");
    assert_eq!(
        (control.advertise.as_deref(), control.availability_zone.as_deref()),
        (Some("fd00::1"), Some("z"))
    );
    assert_eq!(read("identity: one\n").unwrap().control.unwrap().identity, "one");
    for config in [pool, placed] {
        let text = config.to_yaml();
        let again = Config::from_layers(Settings::default(), Some(("again", &text))).unwrap();
        assert_eq!(again, config, "{text}");
    }
}

#[test]
fn several_processes_of_control_are_kept_in_their_order() {
    let text = WHOLE.replace("http://c:8053/", "[https://c:8443, 'http://[::1]:8053']");
    let config =
        Config::from_layers(Settings::default(), Some(("c.yaml", &format!("{text}control_ca: /ca\n"))));
    let config = config.unwrap();
    let control = config.control.clone().unwrap();
    let hosts: Vec<_> = control.endpoints.iter().map(|one| (one.host(), one.is_secure)).collect();
    assert_eq!(hosts, [("c", true), ("::1", false)]);
    assert_eq!(control.ca.as_deref(), Some(std::path::Path::new("/ca")));
    let again = Config::from_layers(Settings::default(), Some(("again", &config.to_yaml()))).unwrap();
    assert_eq!(again, config);
}

#[test]
fn what_takes_peers_is_allowed_where_control_names_them() {
    let config = read("ack: peer\nmiss: peer\nfailover: peer\n").unwrap();
    assert_eq!((config.ack, config.peers.len()), (Ack::Peer, 0));
}

#[test]
fn each_fault_has_its_place_and_its_remedy() {
    let says = |more: &str| read(more).unwrap_err();
    for (more, reason) in [
        ("peer: b:1\n", "peer: control says who the peers are; remove peer, or control"),
        ("app: 10001\n", "c.yaml:6:6: app: a place is a shard of an app; name the shard as well"),
        ("shard: s0\n", "c.yaml:6:8: shard: a place is a shard of an app; name the app as well"),
        ("app: 7\nshard: s0\n", "c.yaml:6:6: app: 7 is no app: an appid is a number from 10001 on"),
        ("app: 10001\nshard: x\n", "c.yaml:7:8: shard: `x` is no shard: a shard is named s0, s1, s2"),
        (
            "advertise: h:1\n",
            "c.yaml:6:12: advertise: `h:1` is no host; write a name or an address, without a port",
        ),
        ("identity: ''\n", "c.yaml:6:11: identity: it has to have 1 to 255 printable bytes"),
        (
            "listen: unix:/a\n",
            "c.yaml:6:9: listen: control tells apps where to connect; listen on host:port as well",
        ),
    ] {
        assert!(says(more).contains(reason), "{more}: {}", says(more));
    }
    for (text, reason) in [
        ("control: http://c:1\n", "c.yaml:1:10: control: it lets in whoever shows a token; name the file"),
        ("token_file: /t\n", "c.yaml:1:13: token_file: this is told to control, and there is none"),
        (
            "control: http://c:1\ntoken_file: /t\n",
            "control: the peers that it names have to reach this proxy",
        ),
        ("control_ca: /ca\n", "control_ca: this is told to control, and there is none"),
        ("control: []\ntoken_file: /t\n", "control: between 1 and 8 addresses of control can be named"),
        (
            "control: c:1\ntoken_file: /t\n",
            "control: `c:1` is no URL of control; write https://host:port or http://host:port",
        ),
        ("control: http://c\ntoken_file: /t\n", "control: `http://c` is no URL of control"),
        (
            "control: http://c:1\ntoken_file: /t\npeer_listen: 127.0.0.1:0\n",
            "peer_listen: 127.0.0.1:0 is no address that control could tell peers",
        ),
        (
            "site: Rack\ncontrol: http://c:1\ntoken_file: /t\npeer_listen: 127.0.0.1:7\n",
            "c.yaml:1:7: site: `Rack` has capital letters",
        ),
    ] {
        assert!(fault(text).contains(reason), "{text}: {}", fault(text));
    }
}

#[test]
fn a_file_that_is_read_again_names_no_peers() {
    let old = read("").unwrap();
    let text = "site: a\npeer_listen: 127.0.0.1:7\npeer: h:1\n";
    let fresh = Config::from_layers(Settings::default(), Some(("file", text))).unwrap();
    let reload = old.reload(&fresh, true);
    assert!(reload.now.peers.is_empty() && reload.now.control.is_some() && reload.changed.is_empty());
    assert!(
        ["control", "peer", "token_file"].iter().all(|name| reload.kept.contains(&(*name).to_owned())),
        "{:?}",
        reload.kept
    );
}

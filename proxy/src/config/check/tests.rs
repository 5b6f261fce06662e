use clap::{Args, CommandFactory, Parser};

use super::super::ConfigError;
use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    settings: Settings,
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    Config::from_layers(Settings::default(), Some(("c.yaml", text)))
}

fn from_flags(flags: &[&str]) -> Result<Config, ConfigError> {
    let given = Command::try_parse_from([&["proxy"], flags].concat()).unwrap();
    Config::from_layers(given.settings, None)
}

/// The first line of what a user reads.
fn fault(text: &str) -> String {
    from_file(text).unwrap_err().to_string().lines().next().unwrap().to_owned()
}

#[test]
fn nothing_said_gives_the_defaults_of_the_contract() {
    let config = from_flags(&[]).unwrap();
    assert_eq!(config.listen, [tcp("127.0.0.1:11211")]);
    assert_eq!(config.upstream, tcp("127.0.0.1:11210"));
    assert_eq!(config.admin, tcp("127.0.0.1:9150"));
    assert!((1..=4).contains(&config.workers));
    assert_eq!(config.backlog_bytes, 256 << 20);
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert!(config.peers.is_empty() && config.peer_listen.is_none() && !config.site.is_empty());
}

#[test]
fn flags_win_over_the_file_value_by_value() {
    let flags = Command::try_parse_from([
        "proxy",
        "--site",
        "a",
        "--peer-insecure",
        "--listen=unix:/x",
        "--listen=a:1",
    ]);
    let file = "site: b\nworkers: 3\nlisten: 127.0.0.1:1\n";
    let config = Config::from_layers(flags.unwrap().settings, Some(("c.yaml", file))).unwrap();
    assert_eq!((config.site.as_str(), config.workers, config.peer_insecure), ("a", 3, true));
    assert_eq!(config.listen, [Address::Unix("/x".into()), tcp("a:1")]);
}

#[test]
fn files_may_be_empty_and_lists_may_be_single() {
    for text in ["", "# nothing\n", "---\n", "listen:\n"] {
        assert_eq!(from_file(text).unwrap(), from_flags(&[]).unwrap(), "{text:?}");
    }
    assert_eq!(from_file("peer: b:1").unwrap().peers, ["b:1"]);
    assert_eq!(from_file("peer: [b:1, 'c:2']").unwrap().peers, ["b:1", "c:2"]);
}

#[test]
fn what_is_printed_reads_back() {
    let config =
        from_flags(&["--site=a", "--peer-listen=127.0.0.1:1", "--peer=b:1,c:2", "--upstream=unix:/m"])
            .unwrap();
    assert_eq!(from_file(&config.to_yaml()).unwrap(), config);
    assert!(config.summary().contains("backlog_bytes: 256MiB") && !config.summary().contains('\n'));
}

#[test]
fn faults_of_a_file_name_line_and_column() {
    let cases = [
        ("site: a\nsit: b\n", "c.yaml:2:1: there is no setting `sit`; did you mean `site`?"),
        ("peer-listen: a:1", "c.yaml:1:1: there is no setting `peer-listen`; did you mean `peer_listen`?"),
        (
            "channel: x",
            "c.yaml:1:1: there is no setting `channel`; `memcloud-proxy sidecar --help` lists them all",
        ),
        ("site: a\nsite: b\n", "c.yaml:1:1: duplicate entry with key \"site\""),
        (
            "site: a\nworkers: three\n",
            "c.yaml:2:10: workers: invalid type: string \"three\", expected a whole number",
        ),
        ("workers: -1\n", "c.yaml:1:10: workers: invalid type: integer `-1`, expected a whole number"),
        ("listen: [a:1,\n  b]\n", "c.yaml:2:3: listen[1]: `b` is no address;"),
        ("\nupstream: 11210\n", "c.yaml:2:11: upstream: `11210` is no address;"),
        ("drain_timeout: 10\n", "c.yaml:1:16: drain_timeout: `10` is no duration;"),
        ("backlog_bytes: 1T\n", "c.yaml:1:16: backlog_bytes: `1T` is no size;"),
        ("ack: quorum\n", "c.yaml:1:6: ack: unknown variant `quorum`, expected `local` or `peer`"),
        (
            "peer_insecure: maybe\n",
            "c.yaml:1:16: peer_insecure: invalid type: string \"maybe\", expected a boolean",
        ),
        ("site: [a\n", "c.yaml:2:1: did not find expected ',' or ']'"),
        ("site: a\n\tworkers: 1\n", "c.yaml:2:1: found a tab character that violates indentation"),
        ("just text\n", "c.yaml:1:1: invalid type: string \"just text\", expected settings, as in `site: a`"),
    ];
    for (text, message) in cases {
        assert!(fault(text).starts_with(message), "{text:?} gave {}", fault(text));
    }
}

#[test]
fn the_line_is_shown_with_a_caret() {
    let told = from_file("site: a\nupstream: nowhere\n").unwrap_err().to_string();
    let shown = told.split_once('\n').unwrap().1;
    assert_eq!(shown, "  |\n2 | upstream: nowhere\n  |           ^");
}

#[test]
fn faults_between_settings_name_place_and_remedy() {
    let many = format!("peer: [{}]", (1..=65).map(|n| format!("b:{n}")).collect::<Vec<_>>().join(", "));
    let cases = [
        (
            "ack: peer",
            "c.yaml:1:6: ack: there is no peer whose answer could be waited for; name one with peer, or use `local`",
        ),
        (
            "site: a.b",
            "c.yaml:1:7: site: `a.b` is no site name; use up to 63 letters, digits and inner hyphens, as in a DNS label",
        ),
        ("site: ''", "c.yaml:1:7: site: this machine has no host name to take; give the replica a name"),
        (
            "log_level: a=b=c",
            "c.yaml:1:12: log_level: `a=b=c` is no log filter; write error, warn, info, debug or trace, or levels by module",
        ),
        ("workers: 0", "c.yaml:1:10: workers: 0 is out of range; use 1 to 256"),
        ("shared_connections: 65", "c.yaml:1:21: shared_connections: 65 is out of range; use 1 to 64"),
        ("max_sessions: 0", "c.yaml:1:15: max_sessions: 0 is out of range; use 1 to 1048576"),
        ("max_sessions: 1048577", "c.yaml:1:15: max_sessions: 1048577 is out of range; use 1 to 1048576"),
        (
            "backlog_bytes: 1KiB",
            "c.yaml:1:16: backlog_bytes: 1KiB holds too little to bridge the shortest cut; use 1MiB or more",
        ),
        ("upstream_timeout: 0s", "c.yaml:1:19: upstream_timeout: 0 leaves no time at all; use 1ms or more"),
        ("drain_timeout: 25h", "c.yaml:1:16: drain_timeout: more than a day; use 24h or less"),
        ("warmup_timeout: 86400001ms", "c.yaml:1:17: warmup_timeout: more than a day; use 24h or less"),
        ("peer_timeout: 25h", "c.yaml:1:15: peer_timeout: more than a day; use 24h or less"),
        (
            "listen: []",
            "c.yaml:1:9: listen: the list is empty, so no app could connect; name an address or leave it out",
        ),
        ("admin: unix:/a", "c.yaml:1:8: admin: unix:/a is a unix socket; HTTP is served on host:port"),
        (
            "listen: 0.0.0.0:11210",
            "c.yaml:1:9: listen: 0.0.0.0:11210 is where memcached is said to be (upstream 127.0.0.1:11210), so the proxy would dial itself; give one of them another port",
        ),
        ("listen:\n- a:1\n- a:1", "c.yaml:1:1: listen: a:1 is taken by listen already; use another port"),
        (
            "# x\npeer_listen: localhost:11211",
            "c.yaml:2:14: peer_listen: localhost:11211 is taken by listen already; use another port",
        ),
        (
            "peer_listen: 0.0.0.0:1",
            "c.yaml:1:14: peer_listen: 0.0.0.0:1 can be reached from other machines, and whoever reaches it can write to this cache; listen on loopback (through a tunnel), or accept it with peer_insecure on a network you trust",
        ),
        ("peer: [b:1, b:1]", "c.yaml:1:7: peer: b:1 is named twice; name each peer once"),
        ("peer: unix:/b", "c.yaml:1:7: peer: unix:/b is a unix socket; a peer is host:port"),
        ("peer: b:0", "c.yaml:1:7: peer: b:0 has port 0; name the port of the peer's peer_listen"),
        (
            "peer: localhost:1\npeer_listen: 127.0.0.1:1",
            "c.yaml:1:7: peer: localhost:1 is this proxy's own peer_listen; name the other side's",
        ),
        (
            "peer: localhost:11211",
            "c.yaml:1:7: peer: localhost:11211 is where this proxy's apps connect; name the other side's peer_listen",
        ),
        (many.as_str(), "c.yaml:1:7: peer: 65 peers are named; 64 is the most"),
        (
            "tls_cert: a.pem",
            "c.yaml:1:11: tls_cert: this version does not speak TLS; remove the setting, and keep the traffic on a network you trust",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(fault(text), message, "{text}");
    }
}

#[test]
fn faults_of_flags_name_flag_and_variable() {
    let told = |flags: &[&str]| from_flags(flags).unwrap_err().to_string();
    assert_eq!(told(&["--workers=0"]), "--workers (or MEMCLOUD_WORKERS): 0 is out of range; use 1 to 256");
    let both = Config::from_layers(
        Settings { workers: Some(0), ..Settings::default() },
        Some(("c.yaml", "workers: 0")),
    );
    assert!(
        both.unwrap_err().to_string().starts_with("--workers"),
        "the flag is what counts, so it is named"
    );
}

#[test]
fn certificates_come_whole() {
    let path = || Some("f.pem".into());
    let both = "missing; certificate and key go together";
    assert_eq!(app_tls([path(), None]).unwrap_err(), Problem { setting: "tls_key", sentence: both.into() });
    assert_eq!(app_tls([None, path()]).unwrap_err().setting, "tls_cert");
    assert!(app_tls([path(), path()]).unwrap().is_some());
    assert_eq!(peer_tls([path(), path(), None]).unwrap_err().setting, "peer_tls_ca");
    assert_eq!(peer_tls([path(), None, path()]).unwrap_err().setting, "peer_tls_key");
    assert_eq!(peer_tls([None, None, path()]).unwrap_err().setting, "peer_tls_cert");
}

#[test]
fn unreadable_and_overlong_files_are_told() {
    let told = Config::load(Settings::default(), Some("/no/such/file".as_ref())).unwrap_err().to_string();
    assert!(told.starts_with("/no/such/file: No such file"), "{told}");
    assert!(from_file(&"#".repeat(1 << 20)).is_ok());
    assert_eq!(fault(&"#".repeat((1 << 20) + 1)), "c.yaml: the file has more than 1048576 bytes");
}

#[test]
fn as_much_as_is_allowed_is_allowed() {
    let peers = (1..=64).map(|n| format!("b:{n}")).collect::<Vec<_>>().join(", ");
    let config = from_file(&format!("peer: [{peers}]\nmax_sessions: 1048576")).unwrap();
    assert_eq!((config.peers.len(), config.max_sessions), (64, 1 << 20));
}

#[test]
fn every_default_stands_in_the_help() {
    let help = |id: &str| {
        let command = Settings::augment_args(clap::Command::new("proxy"));
        let arg = command.get_arguments().find(|arg| arg.get_id() == id).unwrap();
        arg.get_help().unwrap().to_string()
    };
    let config = from_flags(&[]).unwrap();
    for (id, text) in [
        ("listen", config.listen[0].to_string()),
        ("upstream", config.upstream.to_string()),
        ("admin", config.admin.to_string()),
        ("backlog_bytes", Size(config.backlog_bytes).to_string()),
        ("session_buffer_bytes", Size(config.session_buffer_bytes).to_string()),
        ("peer_timeout", Period(config.peer_timeout).to_string()),
        ("max_clock_skew", Period(config.max_clock_skew).to_string()),
        ("shared_connections", config.shared_connections.to_string()),
        ("max_sessions", config.max_sessions.to_string()),
        ("upstream_timeout", Period(config.upstream_timeout).to_string()),
        ("drain_timeout", Period(config.drain_timeout).to_string()),
        ("log_level", config.log_level),
    ] {
        assert!(help(id).contains(&format!("[default: {text}]")), "{id}: {}", help(id));
    }
}

#[test]
fn flag_variable_and_key_have_one_name() {
    let command = Command::command();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        assert_eq!(arg.get_long().map(|long| long.replace('-', "_")).as_deref(), Some(id));
        let variable = arg.get_env().unwrap().to_str().unwrap();
        assert_eq!(variable, format!("MEMCLOUD_{}", id.to_uppercase()));
        // Known as a key: the fault is about the value, or there is none.
        if let Err(error) = from_file(&format!("{id}: {{}}")) {
            assert!(!error.to_string().contains("there is no setting"), "{id}");
        }
    }
}

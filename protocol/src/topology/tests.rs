use proptest::prelude::*;

use super::names::OwnerName;
use super::*;

#[test]
fn an_appid_has_one_way_to_be_written() {
    assert_eq!("10001".parse::<AppId>(), Ok(AppId::FIRST));
    for text in ["", "0", "10000", "010001", "+10001", "10001 ", "1e5", "4294967296", "s0"] {
        assert_eq!(text.parse::<AppId>(), Err(NameError::AppId), "{text:?}");
    }
    assert_eq!(AppId(u32::MAX).next(), None);
}

#[test]
fn a_site_is_a_label() {
    assert_eq!("Rack-7".parse::<Site>().map(|site| site.to_string()), Ok("rack-7".into()));
    let long = "a".repeat(Site::BYTES_MAX);
    assert!(long.parse::<Site>().is_ok());
    for text in ["", "-a", "a-", "a.b", "a_b", "ä", &format!("{long}a")] {
        assert_eq!(text.parse::<Site>(), Err(NameError::Site), "{text:?}");
    }
}

#[test]
fn documents_with_names_that_are_none_are_refused() {
    assert!(serde_json::from_str::<AppId>("10001").is_ok());
    assert!(serde_json::from_str::<AppId>("7").is_err());
    assert!(serde_json::from_str::<ShardName>("\"s00\"").is_err());
    assert!(serde_json::from_str::<Site>("\"a b\"").is_err());
}

#[test]
fn a_topology_is_written_as_the_contract_says() {
    let topology = Topology {
        appid: AppId::FIRST,
        name: "shop".into(),
        revision: 7,
        ttl_seconds: 5,
        hash: HashMethod::Ketama,
        shards: vec![Shard {
            name: ShardName::numbered(0),
            replicas: vec![Replica {
                site: "a".parse().unwrap(),
                host: "10.0.0.1".into(),
                port: 11211,
                state: ReplicaState::Up,
                priority: 0,
                weight: 100,
            }],
        }],
    };
    let text = concat!(
        r#"{"appid":10001,"name":"shop","revision":7,"ttl_seconds":5,"hash":"ketama","shards":[{"name":"s0","replicas":"#,
        r#"[{"site":"a","host":"10.0.0.1","port":11211,"state":"up","priority":0,"weight":100}]}]}"#
    );
    assert_eq!(serde_json::to_string(&topology).unwrap(), text);
    assert_eq!(serde_json::from_str::<Topology>(text).unwrap(), topology);
}

#[test]
fn names_of_no_form_are_none() {
    let none = [
        "",
        "x",
        "_udp.10001",
        "_http._tcp.10001",
        "a.b.10001",
        "a.s0.b.10001",
        "_memcached._udp.s0.10001",
        "_memcached.10001",
    ];
    for name in none {
        let labels: Vec<&str> = name.split('.').collect();
        assert_eq!(OwnerName::parse(&labels), None, "{name}");
    }
    assert_eq!(OwnerName::parse(&[]), None);
}

fn owner_name() -> impl Strategy<Value = OwnerName> {
    (10_001..u32::MAX, any::<u16>(), "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", 0..7).prop_map(
        |(appid, shard, site, form)| {
            let (appid, shard) = (AppId(appid), ShardName(shard));
            match form {
                0 => OwnerName::AppService(appid),
                1 => OwnerName::ShardService(appid, shard),
                2 => OwnerName::Replica(appid, shard, Site(site)),
                3 => OwnerName::App(appid),
                4 => OwnerName::AppProtocol(appid),
                5 => OwnerName::Shard(appid, shard),
                _ => OwnerName::ShardProtocol(appid, shard),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_any_case(name in owner_name(), upper in any::<bool>()) {
        let text = name.to_string();
        let text = if upper { text.to_uppercase() } else { text };
        let labels: Vec<&str> = text.split('.').collect();
        prop_assert_eq!(OwnerName::parse(&labels), Some(name));
    }
}

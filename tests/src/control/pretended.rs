//! Replicas of which there is nothing but their word: enough for what control decides.

use serde_json::json;

use super::Control;

impl Control {
    /// A proxy on a machine of its own, `m<number>`, says who it is and that it is well. Answers with its replica's number.
    pub fn register(&self, number: u64) -> u64 {
        let name = format!("m{number}");
        let host = format!("10.0.{}.{}", number / 200, number % 200);
        let endpoint = |port: u64| json!({ "host": host, "port": port });
        let told = json!({
            "identity": name, "site": name, "machine": name, "address": endpoint(11211),
            "peer_address": endpoint(11212), "memory_bytes": 1 << 26, "proxy_version": "0.1.0",
        });
        let replica = self.ok("POST", "/v1/replicas", &told)["replica"].as_u64().unwrap();
        self.beat(replica, &[]);
        replica
    }

    /// It says that it is well, and the sites with which it is whole.
    pub fn beat(&self, replica: u64, whole_with: &[&str]) {
        let well = json!({ "ready": true, "in_sync": true, "upstream_up": true, "whole_with": whole_with });
        self.ok("POST", &format!("/v1/replicas/{replica}/heartbeat"), &well);
    }
}

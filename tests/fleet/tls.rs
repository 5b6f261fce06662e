//! Control over TLS: its API, its DNS and those who speak with it, with certificates made as people make them.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use memcloud_tests::authority::{Authority, Signed};
use memcloud_tests::process::Folder;
use memcloud_tests::sidecar::{Settings, Sidecar};
use memcloud_tests::{Control, Memcached, eventually, ports};

const WITHIN: Duration = Duration::from_secs(60);
const NAMES: &str = "DNS:control.example,IP:127.0.0.1";

/// A control that speaks nothing but TLS, but for DNS by UDP and TCP.
struct Secure {
    folder: Folder,
    authority: Authority,
    signed: Signed,
    control: Control,
    dns_tls: String,
}

impl Secure {
    fn start() -> Self {
        let folder = Folder::new();
        let authority = Authority::new("ca", &folder);
        let signed = authority.sign("control", NAMES);
        let dns_tls = ports::free_address();
        let (certificate, key) = (signed.certificate.to_str().unwrap(), signed.key.to_str().unwrap());
        let flags = ["--http-tls-cert", certificate, "--http-tls-key", key, "--dns-tls", &dns_tls];
        let control =
            Control::start_secure(&authority.ca(), &folder, &[&flags[..], &["--ttl", "1"]].concat());
        Self { folder, authority, signed, control, dns_tls }
    }

    /// Who stands in the certificate that is shown at an address.
    fn shown_at(&self, address: &str) -> String {
        let shown = Command::new("openssl")
            .args(["s_client", "-connect", address, "-CAfile"])
            .arg(self.authority.ca())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        text.lines().find(|line| line.starts_with("subject=")).unwrap_or_default().to_owned()
    }

    /// SRV of the app over TLS, as `kdig` has it.
    fn srv(&self) -> String {
        let (host, port) = self.dns_tls.split_once(':').unwrap();
        let ca = format!("+tls-ca={}", self.authority.ca().display());
        let name = "_memcached._tcp.10001.memcloud.internal.";
        let kdig = Command::new("kdig")
            .args([
                &format!("@{host}"),
                "-p",
                port,
                &ca,
                "+tls-hostname=control.example",
                "+short",
                name,
                "SRV",
            ])
            .stdin(Stdio::null())
            .output()
            .expect("kdig (knot-dnsutils) runs");
        String::from_utf8(kdig.stdout).unwrap()
    }

    fn agent(&self, urls: &str, ca: &Path) -> (Memcached, Sidecar) {
        let memcached = Memcached::start("memcached", &self.folder, &[]);
        let token = self.folder.path().join("token");
        let made =
            said(self.control.command(&["token", "create", "--scope", "agent", "--purpose", "proxies"]));
        std::fs::write(&token, made).unwrap();
        let (token, ca) = (token.to_str().unwrap(), ca.to_str().unwrap());
        let flags = ["--control", urls, "--control-ca", ca, "--token-file", token];
        let place = ["--machine", "m-a", "--app", "10001", "--shard", "s0"];
        let mut settings = Settings::new("a", memcached.address()).with(&flags).with(&place);
        settings.peer_listen = Some(ports::free_address());
        let sidecar = Sidecar::launch(settings, &self.folder);
        sidecar.wait_until_listening();
        (memcached, sidecar)
    }

    fn make_app(&self) {
        said(self.control.command(&["app", "create", "shop", "--quota", "2,2,16GiB", "--auto-publish"]));
    }
}

#[test]
fn commands_agents_and_dns_speak_tls_with_control_and_a_new_certificate_needs_no_restart() {
    let secure = Secure::start();
    secure.make_app();
    let url = secure.control.url();
    assert!(url.starts_with("https://"), "{url}");
    let (_memcached, sidecar) = secure.agent(&url, &secure.authority.ca());
    is(&sidecar, "placed", &url);
    eventually("DNS over TLS has it", WITHIN, || {
        let srv = secure.srv();
        (srv.starts_with("0 100 ") && srv.trim().ends_with(" a.s0.10001.memcloud.internal.")).then_some(())
    });

    let renewed = secure.authority.sign("renewed", NAMES);
    assert_eq!(secure.shown_at(secure.control.address()), "subject=CN = control");
    std::fs::copy(&renewed.key, &secure.signed.key).unwrap();
    std::fs::copy(&renewed.certificate, &secure.signed.certificate).unwrap();
    for address in [secure.control.address(), &secure.dns_tls] {
        eventually(&format!("the new one is shown at {address}"), WITHIN, || {
            (secure.shown_at(address) == "subject=CN = renewed").then_some(())
        });
    }
    said(secure.control.command(&["app", "list"]));
    // A broken one is not shown.
    std::fs::write(&secure.signed.certificate, "nonsense").unwrap();
    eventually("the log says so", WITHIN, || {
        secure.control.process().log().contains("the new certificate is of no use").then_some(())
    });
    assert_eq!(secure.shown_at(secure.control.address()), "subject=CN = renewed");
    is(&sidecar, "placed", &url);
}

#[test]
fn whoever_is_not_believed_and_whoever_speaks_the_wrong_thing_is_told_what_to_do() {
    let secure = Secure::start();
    secure.make_app();
    let url = secure.control.url();
    let other = Authority::new("other", &secure.folder);
    let with_ca = |ca: &Path| {
        let mut command = secure.control.command(&["app", "list"]);
        command.env("MEMCLOUD_CA", ca);
        refused(command)
    };
    let (code, says) = with_ca(&other.ca());
    let sentence = format!("its certificate is not signed by the CA in {}", other.ca().display());
    assert!(code == 69 && says.contains(&sentence), "{code} {says}");
    let (code, says) = with_ca(&secure.signed.key);
    assert!(code == 64 && says.contains("holds no certificate of a CA"), "{code} {says}");
    let mut by_name = secure.control.command(&["app", "list"]);
    by_name.env("MEMCLOUD_SERVER", url.replace("127.0.0.1", "localhost"));
    let (code, says) = refused(by_name);
    let sentence = "its certificate is not for localhost but for control.example, 127.0.0.1";
    assert!(code == 69 && says.contains(sentence), "{code} {says}");
    let mut plain = secure.control.command(&["app", "list"]);
    plain.env("MEMCLOUD_SERVER", url.replace("https", "http"));
    let (code, says) = refused(plain);
    assert!(code == 1 && says.contains("write https:// instead of http://"), "{code} {says}");

    let (_memcached, sidecar) = secure.agent(&url, &other.ca());
    eventually("the agent says so", WITHIN, || {
        let reason = sidecar.status()["control"]["reason"].clone();
        let says = reason.as_str()?;
        (says.contains("its certificate is not signed by") && says.contains("--control-ca")).then_some(())
    });
    // The file is read again.
    std::fs::copy(secure.authority.ca(), other.ca()).unwrap();
    is(&sidecar, "placed", &url);
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

/// What a command prints that goes well.
fn said(command: Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that does not, with its exit code.
fn refused(command: Command) -> (i32, String) {
    let output = output(command);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn is(sidecar: &Sidecar, state: &str, url: &str) {
    eventually(&format!("{state} by {url}"), WITHIN, || {
        let control = sidecar.status()["control"].clone();
        (control["state"] == state && control["up"] == true && control["url"] == url).then_some(())
    });
}

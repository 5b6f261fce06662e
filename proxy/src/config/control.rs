//! Control: where it is, how this replica calls itself there, and which place it asks for.

use std::path::PathBuf;

use memcloud_protocol::registration::WantedPlace;
use memcloud_protocol::topology::{AppId, ShardName};

use super::check::{Problem, refuse};
use super::settings::Settings;
use super::{Address, Config, Endpoint};

/// The settings of `--control`, good by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The processes of control, the first to be asked first.
    pub endpoints: Vec<Endpoint>,
    /// Whoever has signed their certificates; the system's where nobody is named.
    pub ca: Option<PathBuf>,
    /// Whoever can read this file can register; it is read again at each request.
    pub token_file: PathBuf,
    /// Without it the replica waits in the pool.
    pub place: Option<WantedPlace>,
    /// By which control knows this replica again, whatever its address is.
    pub identity: String,
    /// The host by which apps and peers reach this proxy, where it is not the one that it listens on.
    pub advertise: Option<String>,
    /// Replicas of one shard are kept on different machines.
    pub machine: String,
    /// And in different zones, where there is a choice.
    pub availability_zone: Option<String>,
}

impl Control {
    /// What the settings say of control; `None` without `--control`.
    pub(super) fn of(settings: &Settings, site: &str) -> Result<Option<Self>, Problem> {
        let Some(urls) = &settings.control else { return without(settings) };
        let Some(token_file) = settings.token_file.clone() else {
            return refuse(
                "control",
                "it lets in whoever shows a token; name the file that holds it with token_file",
            );
        };
        let place = place(settings)?;
        let machine = settings.machine.clone().or_else(super::check::machine).unwrap_or_default();
        let identity = match (&settings.identity, &place) {
            (Some(given), _) => given.clone(),
            // A site is unique in its shard: on whichever machine it comes back, it is the same replica.
            (None, Some(WantedPlace { appid, shard })) => format!("{appid}/{shard}/{site}"),
            (None, None) => format!("{machine}/{site}"),
        };
        let control = Self {
            endpoints: Endpoint::all(urls)?,
            ca: settings.control_ca.clone(),
            token_file,
            place,
            identity: short("identity", identity)?,
            advertise: settings.advertise.clone().map(|host| bare_host(&host)).transpose()?,
            machine: short("machine", machine)?,
            availability_zone: match settings.availability_zone.clone() {
                Some(zone) => Some(short("availability_zone", zone)?),
                None => None,
            },
        };
        Ok(Some(control))
    }

    /// What has to hold of the rest of the configuration.
    pub(super) fn check(config: &Config, names_peers: bool) -> Result<(), Problem> {
        if config.control.is_none() {
            return Ok(());
        }
        if names_peers {
            return refuse("peer", "control says who the peers are; remove peer, or control");
        }
        let dialed = |address: &Address| address.port().is_some_and(|port| port != 0);
        match &config.peer_listen {
            None => {
                return refuse(
                    "control",
                    "the peers that it names have to reach this proxy; give it a peer_listen, as host:port",
                );
            }
            Some(address) if !dialed(address) => {
                return refuse(
                    "peer_listen",
                    format!("{address} is no address that control could tell peers; use host:port"),
                );
            }
            Some(_) => {}
        }
        if !config.listen.iter().any(dialed) {
            return refuse("listen", "control tells apps where to connect; listen on host:port as well");
        }
        if config.site.bytes().any(|byte| byte.is_ascii_uppercase()) {
            let sentence = format!(
                "`{}` has capital letters, which the DNS does not tell from small ones; use small ones",
                config.site
            );
            return refuse("site", sentence);
        }
        Ok(())
    }

    /// The layer that reads back as this.
    pub(super) fn fill(self, settings: Settings) -> Settings {
        Settings {
            control: Some(self.endpoints.iter().map(ToString::to_string).collect()),
            control_ca: self.ca,
            app: self.place.as_ref().map(|place| place.appid.number()),
            shard: self.place.as_ref().map(|place| place.shard.to_string()),
            token_file: Some(self.token_file),
            identity: Some(self.identity),
            advertise: self.advertise,
            machine: Some(self.machine),
            availability_zone: self.availability_zone,
            ..settings
        }
    }
}

/// Its companions mean nothing alone.
fn without(settings: &Settings) -> Result<Option<Control>, Problem> {
    let alone = [
        ("app", settings.app.is_some()),
        ("shard", settings.shard.is_some()),
        ("token_file", settings.token_file.is_some()),
        ("control_ca", settings.control_ca.is_some()),
        ("identity", settings.identity.is_some()),
        ("advertise", settings.advertise.is_some()),
        ("machine", settings.machine.is_some()),
        ("availability_zone", settings.availability_zone.is_some()),
    ];
    match alone.into_iter().find(|(_, given)| *given) {
        Some((setting, _)) => refuse(
            setting,
            "this is told to control, and there is none; name it with control, or remove this",
        ),
        None => Ok(None),
    }
}

fn place(settings: &Settings) -> Result<Option<WantedPlace>, Problem> {
    let (app, shard) = match (settings.app, &settings.shard) {
        (None, None) => return Ok(None),
        (Some(app), Some(shard)) => (app, shard),
        (Some(_), None) => {
            return refuse(
                "app",
                "a place is a shard of an app; name the shard as well, as in s0, or neither and wait in the pool",
            );
        }
        (None, Some(_)) => {
            return refuse(
                "shard",
                "a place is a shard of an app; name the app as well, or neither and wait in the pool",
            );
        }
    };
    let appid = AppId::try_from(app).or_else(|error| refuse("app", format!("{app} is no app: {error}")))?;
    let shard: ShardName =
        shard.parse().or_else(|error| refuse("shard", format!("`{shard}` is no shard: {error}")))?;
    Ok(Some(WantedPlace { appid, shard }))
}

fn bare_host(host: &str) -> Result<String, Problem> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = if bare.contains(':') { format!("[{bare}]:1") } else { format!("{bare}:1") };
    match address.parse() {
        Ok(Address::Tcp(_)) => Ok(bare.to_owned()),
        _ => refuse("advertise", format!("`{host}` is no host; write a name or an address, without a port")),
    }
}

fn short(setting: &'static str, text: String) -> Result<String, Problem> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return refuse(
            setting,
            format!("it has to have 1 to {TEXT_BYTES_MAX} printable bytes; write another one"),
        );
    }
    Ok(text)
}

/// As control takes it.
const TEXT_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests;

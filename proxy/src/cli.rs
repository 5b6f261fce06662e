//! The command line: what can be asked of the program, and with which code it ends.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::config::{Address, Config, ConfigError, Period, Settings, Size};

/// A transparent sidecar in front of stock memcached that keeps replicas equal
#[derive(Debug, Parser)]
#[command(name = NAME, version, propagate_version = true, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run in front of one stock memcached
    Sidecar(Box<SidecarArgs>),
    /// Compare what replicas hold. Exit code 0: equal; 1: different; 2: they could not be compared
    Audit(AuditArgs),
    /// Say what is wrong in a configuration file, with line and column, or print it with all defaults
    CheckConfig {
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Print the manual page of the program, or of one of its commands
    Man {
        #[arg(value_hint = ValueHint::Other)]
        command: Option<String>,
    },
}

/// Flags win over the environment, which wins over the file
#[derive(Args, Debug)]
pub struct SidecarArgs {
    #[command(flatten)]
    pub settings: Settings,

    /// YAML with the names of the flags (`peer_listen: …`); unknown keys are errors
    #[arg(long, env = "MEMCLOUD_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// Reads all items of all replicas, while they are in use, and leaves nothing behind
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Where apps connect to a replica, `host:port` or `unix:/path`: its proxy, or memcached itself. At least two
    #[arg(long = "replica", value_name = "ADDR", required = true)]
    pub replicas: Vec<Address>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Delete every key that differs, on all replicas: a miss is always legal
    #[arg(long)]
    pub repair: bool,

    /// How long replication may take: what differs is looked at again after it
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub lag: Period,

    /// Keys to name of each kind of difference
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub samples: usize,

    /// Bytes a second read from each replica; 0: no bound
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub rate: Size,

    /// How long a replica may be silent while it owes an answer
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub timeout: Period,
}

impl AuditArgs {
    /// What is wrong with them beside each one by itself.
    pub fn fault(&self) -> Option<String> {
        let twice = self.replicas.iter().enumerate().find(|(at, addr)| self.replicas[..*at].contains(addr));
        match twice {
            Some((_, addr)) => Some(format!("{addr} is named twice; a replica always equals itself")),
            None if self.replicas.len() < 2 => {
                Some("one replica is equal to nothing; name another one with --replica".to_owned())
            }
            None => None,
        }
    }
}

impl SidecarArgs {
    /// The checked configuration.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.settings.clone(), self.config.as_deref())
    }
}

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    script
}

/// A manual page; nothing if there is no such command.
///
/// # Errors
/// None in practice: the page is written to memory.
pub fn manual(command: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            // Built commands carry the name that `man` is asked for: memcloud-proxy-sidecar.
            Some(found) => found.clone(),
            None => return Ok(None),
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    Ok(Some(text))
}

/// Writes an answer. A reader that has gone (`| head`) is no failure.
pub fn print(answer: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(answer).and_then(|()| out.flush());
}

/// An audit has found a difference.
pub const EXIT_DIFFERENT: u8 = 1;
/// An audit could not be carried out.
pub const EXIT_NOT_COMPARED: u8 = 2;
/// Wrong flags or a wrong configuration (`EX_USAGE` of sysexits).
pub const EXIT_BAD_CONFIG: u8 = 64;
/// An address could not be bound (`EX_UNAVAILABLE`).
pub const EXIT_UNAVAILABLE: u8 = 69;
/// Anything else (`EX_SOFTWARE`).
pub const EXIT_FAILED: u8 = 70;

const NAME: &str = "memcloud-proxy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn later_commands_are_not_offered() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("sidecar") && help.contains("audit") && !help.contains("route"), "{help}");
    }

    #[test]
    fn an_audit_needs_two_replicas() {
        let fault = |args: &[&str]| match Cli::try_parse_from([&["memcloud-proxy", "audit"], args].concat()) {
            Ok(Cli { command: Command::Audit(args) }) => args.fault(),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(&["--replica", "a:1", "--replica", "b:1"]), None);
        assert!(fault(&["--replica", "a:1"]).is_some_and(|fault| fault.contains("another one")));
        assert!(
            fault(&["--replica", "a:1", "--replica", "a:1"]).is_some_and(|fault| fault.contains("twice"))
        );
        assert!(Cli::try_parse_from(["memcloud-proxy", "audit"]).is_err());
    }

    #[test]
    fn pages_and_scripts_are_written() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(script.contains("peer-listen"), "{shell}");
        }
        let page = String::from_utf8(manual(Some("sidecar")).unwrap().unwrap()).unwrap();
        assert!(page.contains("backlog") && page.contains("memcloud\\-proxy\\-sidecar"), "{page}");
        assert!(manual(None).unwrap().is_some());
        assert_eq!(manual(Some("nothing")).unwrap(), None);
    }
}

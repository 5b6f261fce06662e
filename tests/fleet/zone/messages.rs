//! What `dig` and `kdig` print, read again.

use std::fs;
use std::process::{Command, Stdio};

use memcloud_tests::process::Folder;

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// For `dig`: `+tcp`, `+bufsize=512`.
    pub(crate) how: &'static str,
}

/// A message, its records sorted, in small letters.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) code: String,
    pub(crate) flags: Vec<String>,
    pub(crate) answer: Vec<String>,
    pub(crate) authority: Vec<String>,
    pub(crate) additional: Vec<String>,
}

impl Question {
    pub(crate) fn new(name: &str, kind: &'static str, how: &'static str) -> Self {
        Self { name: name.to_owned(), kind, how }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.how.contains("+tcp")
    }
}

impl Message {
    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one == flag)
    }

    /// Data of the answer alone.
    pub(crate) fn data(&self) -> Vec<String> {
        let data = |record: &String| record.splitn(5, ' ').nth(4).unwrap_or_default().to_owned();
        let mut all: Vec<String> = self.answer.iter().map(data).collect();
        all.sort();
        all
    }

    /// All messages that were printed.
    pub(crate) fn read(printed: &str) -> Vec<Self> {
        let mut messages: Vec<Self> = Vec::new();
        let mut section = "";
        for line in printed.lines() {
            if let Some((_, rest)) = line.split_once("->>HEADER<<-") {
                let code = rest.split_once("status: ").map_or("", |(_, rest)| rest);
                let code = code.split([',', ';']).next().unwrap_or_default();
                messages.push(Self { code: code.to_owned(), ..Self::default() });
            }
            let Some(message) = messages.last_mut() else { continue };
            if let Some(flags) = line.strip_prefix(";; flags:").or(line.strip_prefix(";; Flags:")) {
                let flags = flags.split(';').next().unwrap_or_default();
                message.flags = flags.split_whitespace().map(str::to_owned).collect();
            } else if let Some(name) =
                line.strip_prefix(";; ").and_then(|line| line.strip_suffix(" SECTION:"))
            {
                section = name;
            } else if !line.is_empty() && !line.starts_with(';') {
                message.take(section, line);
            }
        }
        for message in &mut messages {
            for records in [&mut message.answer, &mut message.authority, &mut message.additional] {
                records.sort();
            }
        }
        messages
    }

    fn take(&mut self, section: &str, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let record = words.join(" ").to_ascii_lowercase();
        match section {
            "ANSWER" => self.answer.push(record),
            "AUTHORITY" => self.authority.push(record),
            "ADDITIONAL" => self.additional.push(record),
            _ => panic!("a record in no section: {line}"),
        }
    }
}

/// Has `dig` ask all of them; what is cut stays cut when `+ignore` is among how it is asked.
pub(crate) fn dig(port: u16, questions: &[Question], folder: &Folder) -> Vec<Message> {
    let mut answered: Vec<(usize, Message)> = Vec::new();
    for transport in ["+notcp", "+tcp"] {
        let asked = |(_, one): &(usize, &Question)| one.is_tcp() == (transport == "+tcp");
        let (places, asked): (Vec<usize>, Vec<&Question>) =
            questions.iter().enumerate().filter(asked).unzip();
        if !asked.is_empty() {
            answered.extend(places.into_iter().zip(batch(port, &asked, transport, folder)));
        }
    }
    answered.sort_by_key(|(place, _)| *place);
    answered.into_iter().map(|(_, message)| message).collect()
}

/// In turn, from a file. There `dig` does not heed what a line says of TCP.
fn batch(port: u16, questions: &[&Question], transport: &str, folder: &Folder) -> Vec<Message> {
    let lines: String =
        questions.iter().map(|one| format!("-q {} -t {} {}\n", one.name, one.kind, one.how)).collect();
    let file = folder.path().join(format!("questions-{port}{transport}"));
    fs::write(&file, lines).unwrap();
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port.to_string(), transport, "+nocookie", "+tries=3", "+time=10"]);
    command.args(["+noall", "+comments", "+stats", "+answer", "+authority", "+additional", "-f"]).arg(file);
    let printed = printed(&mut command);
    let mut servers = printed.lines().filter(|line| line.starts_with(";; SERVER:"));
    // What was cut over UDP is asked again over TCP.
    assert!(transport == "+notcp" || servers.all(|line| line.ends_with("(TCP)")), "it was asked over TCP");
    let messages = Message::read(&printed);
    assert_eq!(messages.len(), questions.len(), "each is answered");
    messages
}

/// Has `kdig` ask one, or several in one go.
pub(crate) fn kdig(port: u16, arguments: &str) -> Vec<Message> {
    let mut command = Command::new("kdig");
    command.args(["@127.0.0.1", "-p", &port.to_string()]).args(arguments.split_whitespace());
    Message::read(&printed(&mut command))
}

fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("dig and kdig are installed by tests/setup");
    String::from_utf8(output.stdout).unwrap()
}

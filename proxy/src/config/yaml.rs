//! The only module that reads or writes YAML.
//!
//! The crate behind it is archived by its author and stays for its error positions; operators write the files,
//! nobody sends them over a network, and their size is bounded. Keeping it in one place keeps it replaceable.

use serde_yaml::{Deserializer, Value};

use super::settings::Settings;

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What is wrong in a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) place: Option<Place>,
    pub(super) sentence: String,
}

/// Reads a file's text as one layer of settings.
pub(super) fn read(text: &str) -> Result<Settings, Fault> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Fault {
            place: None,
            sentence: format!("the file has more than {FILE_BYTES_MAX} bytes"),
        });
    }
    // Untyped first: an empty file or one of comments is no settings at all, and a key given twice inside a
    // nested map is refused only here.
    match serde_yaml::from_str::<Value>(text) {
        Ok(Value::Null) => return Ok(Settings::default()),
        Ok(_) => {}
        Err(error) => return Err(fault("", &error)),
    }
    serde_path_to_error::deserialize(Deserializer::from_str(text))
        .map_err(|error| fault(&error.path().to_string(), error.inner()))
}

/// The settings as a file that reads back as the same settings.
pub(super) fn write(settings: &Settings) -> String {
    serde_yaml::to_string(settings).unwrap_or_else(|error| format!("# cannot be written: {error}\n"))
}

/// Where the value of a top-level key stands; the key itself where the value is on lines of its own.
pub(super) fn place_of(key: &str, text: &str) -> Option<Place> {
    let rest_of = |line: &str| Some(line.strip_prefix(key)?.trim_start().strip_prefix(':')?.to_owned());
    text.lines().enumerate().find_map(|(index, line)| {
        let value = rest_of(line)?;
        let blanks = value.len() - value.trim_start().len();
        let column = match value.trim_start() {
            "" => 1,
            comment if comment.starts_with('#') => 1,
            _ => line.len() - value.len() + blanks + 1,
        };
        Some(Place { line: index + 1, column })
    })
}

fn fault(path: &str, error: &serde_yaml::Error) -> Fault {
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    let mut sentence = error.to_string();
    if let Some(Place { line, column }) = place {
        sentence = sentence.replacen(&format!(" at line {line} column {column}"), "", 1);
    }
    // Rust's names for things are not the operator's.
    for (theirs, ours) in [("usize", "a whole number"), ("struct Settings", "settings, as in `site: a`")] {
        sentence = sentence.replace(&format!("expected {theirs}"), &format!("expected {ours}"));
    }
    if let Some(better) = unknown_name(&sentence) {
        return Fault { place, sentence: better };
    }
    // The crate names the path itself in some messages and not in others; ours stands there once.
    let plain = sentence.strip_prefix(&format!("{path}: ")).unwrap_or(&sentence);
    let sentence = match path {
        "" | "." => plain.to_owned(),
        path => format!("{path}: {plain}"),
    };
    Fault { place, sentence }
}

/// The list of all names helps less than the one that was meant.
fn unknown_name(sentence: &str) -> Option<String> {
    let (_, rest) = sentence.split_once("unknown field `")?;
    let unknown = rest.split('`').next()?;
    let known = rest.split('`').skip(2).step_by(2);
    let nearest = known.map(|name| (distance(unknown, name), name)).min();
    Some(match nearest {
        Some((changes, name)) if changes <= 3 => {
            format!("there is no setting `{unknown}`; did you mean `{name}`?")
        }
        _ => format!("there is no setting `{unknown}`; `memcloud-proxy sidecar --help` lists them all"),
    })
}

/// How many letters to change, add or drop.
fn distance(from: &str, to: &str) -> usize {
    let mut costs: Vec<usize> = (0..=to.chars().count()).collect();
    for (row, a) in from.chars().enumerate() {
        let mut diagonal = row;
        let mut left = row + 1;
        for (cost, b) in costs.iter_mut().skip(1).zip(to.chars()) {
            let best = (diagonal + usize::from(a != b)).min(left + 1).min(*cost + 1);
            diagonal = std::mem::replace(cost, best);
            left = best;
        }
        if let Some(first) = costs.first_mut() {
            *first = row + 1;
        }
    }
    costs.last().copied().unwrap_or_default()
}

/// Far above any real file; a bound all the same.
const FILE_BYTES_MAX: usize = 1 << 20;

//! What may differ between two runs of one script: CAS numbers, times, and the server's own counters.

/// A text answer, line by line, with such numbers replaced by `#`.
pub fn text(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.len());
    for line in answer.split_inclusive(|&byte| byte == b'\n') {
        match std::str::from_utf8(line).ok().and_then(mask_line) {
            Some(masked) => out.extend(masked.into_bytes()),
            None => out.extend(line),
        }
    }
    out
}

/// A masked line, or nothing when it stays as it is.
fn mask_line(line: &str) -> Option<String> {
    let ending = &line[line.trim_end_matches(['\r', '\n']).len()..];
    let tokens: Vec<&str> = line.trim_end_matches(['\r', '\n']).split(' ').collect();
    let masked: Vec<String> = match *tokens.first()? {
        "VALUE" if tokens.len() == 5 => with(&tokens, 4, "#"),
        "STAT" if tokens.len() >= 3 => vec!["STAT".to_owned(), name(tokens[1]), "#".to_owned()],
        "ITEM" => tokens
            .iter()
            .map(|token| if number(token) { "#".to_owned() } else { (*token).to_owned() })
            .collect(),
        "HD" | "VA" | "EN" | "NS" | "EX" | "NF" => tokens.iter().map(|token| flag(token)).collect(),
        "ME" => tokens.iter().map(|token| pair(token)).collect(),
        first if first.starts_with("key=") => tokens.iter().map(|token| pair(token)).collect(),
        _ => return None,
    };
    Some(masked.join(" ") + ending)
}

fn with(tokens: &[&str], at: usize, text: &str) -> Vec<String> {
    let mut out: Vec<String> = tokens.iter().map(|&token| token.to_owned()).collect();
    out[at] = text.to_owned();
    out
}

/// `stats conns` and the like name file descriptors.
fn name(token: &str) -> String {
    match token.split_once(':') {
        Some((first, rest)) if number(first) => format!("#:{rest}"),
        _ => token.to_owned(),
    }
}

/// A flag of a meta answer: `c` (but `c0`), `t` and `l` carry numbers that pass with time.
fn flag(token: &str) -> String {
    match token.split_at_checked(1) {
        Some((letter @ ("c" | "t" | "l"), rest)) if number(rest) && rest != "0" => format!("{letter}#"),
        _ => token.to_owned(),
    }
}

fn pair(token: &str) -> String {
    match token.split_once('=') {
        Some((word @ ("exp" | "la" | "cas"), value)) if number(value) => format!("{word}=#"),
        _ => token.to_owned(),
    }
}

/// Digits only; `-1` says "never" and stays.
fn number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Binary replies: the CAS of a header, when it is not 0, becomes ones; the values of statistics are blanked.
pub fn binary(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.len());
    let mut rest = answer;
    while rest.len() >= 24 && rest[0] == 0x81 {
        let body = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let end = (24 + body).min(rest.len());
        let mut frame = rest[..end].to_vec();
        if frame[16..24] != [0; 8] {
            frame[16..24].fill(1);
        }
        if frame[1] == 0x10 && body > 0 {
            // Only the name of a statistic counts.
            let name = 24 + usize::from(frame[3]);
            frame.truncate(name);
            frame[8..12].fill(0);
        }
        out.extend(frame);
        rest = &rest[end..];
    }
    out.extend(rest);
    out
}

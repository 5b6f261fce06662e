//! What may differ between two runs of one script: CAS numbers, times, and the server's own counters; and where somebody
//! else reads at the same time, the padding of numbers.

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

/// Numbers without the spaces behind them, in values of text answers. A number that loses a digit "MAY be space-padded at
/// the end, but this is purely an implementation optimization" (protocol.txt on `decr`): memcached pads what it changes in
/// place, and changes in place unless somebody else is being sent the item at that moment.
pub fn unpadded_text(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.len());
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        match padded_value(line, rest) {
            Some((line, number, len)) => {
                out.extend(line.into_bytes());
                out.extend(number);
                rest = &rest[len..];
            }
            None => out.extend(line),
        }
    }
    out.extend(rest);
    out
}

/// The line before a padded number as it is without padding, the number, and how long it was.
fn padded_value<'a>(line: &[u8], behind: &'a [u8]) -> Option<(String, &'a [u8], usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut tokens: Vec<&str> = line.split(' ').collect();
    let at = match *tokens.first()? {
        "VA" => 1,
        "VALUE" => 3,
        _ => return None,
    };
    let token = *tokens.get(at)?;
    let len: usize = token.trim_end().parse().ok()?;
    let number = unpadded(behind.get(..len)?)?;
    let shorter = token.replace(token.trim_end(), &number.len().to_string());
    tokens[at] = &shorter;
    Some((tokens.join(" "), number, len))
}

/// The number, if there are spaces behind it.
fn unpadded(value: &[u8]) -> Option<&[u8]> {
    let number = value.trim_ascii_end();
    let spaces = &value[number.len()..];
    let padded = !spaces.is_empty() && spaces.iter().all(|&byte| byte == b' ');
    (padded && !number.is_empty() && number.iter().all(u8::is_ascii_digit)).then_some(number)
}

/// The same in the values of binary replies.
pub fn unpadded_binary(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.len());
    let mut rest = answer;
    while rest.len() >= 24 && rest[0] == 0x81 {
        let body = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]) as usize;
        let end = (24 + body).min(rest.len());
        let value = 24 + usize::from(rest[4]) + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let mut frame = rest[..end].to_vec();
        if let Some(number) = rest.get(value..end).and_then(unpadded) {
            frame.truncate(value + number.len());
            let body = u32::try_from(frame.len() - 24).unwrap_or(u32::MAX);
            frame[8..12].copy_from_slice(&body.to_be_bytes());
        }
        out.extend(frame);
        rest = &rest[end..];
    }
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_number_is_as_long_as_the_number() {
        let padded = b"VA 2 t-1\r\n2 \r\nVALUE n 0 3\r\n10 \r\nVA 2 k\r\n42\r\nVA 2\r\nx \r\nMN\r\n";
        let expected = b"VA 1 t-1\r\n2\r\nVALUE n 0 2\r\n10\r\nVA 2 k\r\n42\r\nVA 2\r\nx \r\nMN\r\n";
        assert_eq!(unpadded_text(padded), expected);
    }

    #[test]
    fn and_so_it_is_in_a_packet() {
        let packet = |value: &[u8]| {
            let mut frame = vec![0; 24];
            (frame[0], frame[4], frame[11]) = (0x81, 4, 4 + value.len() as u8);
            [frame, vec![0; 4], value.to_vec()].concat()
        };
        let all = |values: [&[u8]; 3]| values.map(packet).concat();
        assert_eq!(unpadded_binary(&all([b"9 ", b"x ", b"10"])), all([b"9", b"x ", b"10"]));
    }
}

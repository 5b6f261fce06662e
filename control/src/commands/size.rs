//! Sizes as people write and read them: `64MiB`, `2g`, or plain bytes.

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Bytes of what somebody wrote. `k`, `m`, `g` and `t`, with or without `B` or `iB` behind, count in 1024s, as memcached's `-m` does.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let says = || format!("`{text}` is no size: write 67108864, 64MiB or 2g");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(says()),
    };
    let number: u64 = digits.parse().map_err(|_| says())?;
    number.checked_mul(1 << shift).ok_or_else(says)
}

/// In the largest unit that leaves no rest.
pub(super) fn show(bytes: u64) -> String {
    let whole = |&&(_, shift): &&(&str, u32)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift);
    match UNITS.iter().find(whole) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_there_and_back() {
        for (text, bytes) in [("0", 0), ("64MiB", 64 << 20), ("2g", 2 << 30), ("1tb", 1 << 40), ("7", 7)] {
            assert_eq!(parse(text), Ok(bytes));
        }
        for text in ["", "MiB", "-1", "1.5g", "64 MiB", "1x", "99999999999t"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!([show(64 << 20), show(1536 << 20), show(7)], ["64MiB", "1536MiB", "7"]);
    }
}

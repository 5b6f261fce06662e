//! Values with a unit: `10s`, `500ms`, `256MiB`. A bare number of seconds or of megabytes is how outages are
//! configured, so durations must name their unit; a bare size is bytes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A length of time as it is written in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A number of bytes as it is written in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Why a text is no period or no size.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    #[error("`{0}` is no duration; write a number and ms, s, m or h, as in 500ms or 10s")]
    Period(String),
    #[error("`{0}` is no size; write a number and KiB, MiB or GiB, as in 256MiB; a bare number is bytes")]
    Size(String),
    #[error("`{0}` is too large to count")]
    TooLarge(String),
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let millis = parse(text, &PERIOD_UNITS).map_err(|fault| fault.name(text, UnitError::Period))?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZE_UNITS).map(Self).map_err(|fault| fault.name(text, UnitError::Size))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &PERIOD_UNITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &SIZE_UNITS)
    }
}

enum Fault {
    Form,
    Overflow,
}

impl Fault {
    fn name(self, text: &str, form: fn(String) -> UnitError) -> UnitError {
        match self {
            Self::Form => form(text.to_owned()),
            Self::Overflow => UnitError::TooLarge(text.to_owned()),
        }
    }
}

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, Fault> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Fault::Form);
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(Fault::Form)?;
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(Fault::Overflow)
}

/// In the largest unit that divides it, so that what is printed reads as what was written.
fn write(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fitting = units.iter().filter(|(_, factor)| value.is_multiple_of(*factor));
    match fitting.max_by_key(|(_, factor)| *factor) {
        Some((name, factor)) if value > 0 => write!(f, "{}{name}", value / factor),
        _ => write!(f, "{value}{}", units.first().map_or("", |(name, _)| name)),
    }
}

const PERIOD_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("5 s", 5_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap().0, Duration::from_millis(millis));
        }
        for text in ["", "10", "s", "-1s", "1.5s", "10 sec", "10S"] {
            assert_eq!(text.parse::<Period>().unwrap_err(), UnitError::Period(text.to_owned()));
        }
        assert_eq!(
            "99999999999999999999s".parse::<Period>().unwrap_err().to_string(),
            "`99999999999999999999s` is too large to count"
        );
        assert_eq!(
            "10".parse::<Period>().unwrap_err().to_string(),
            "`10` is no duration; write a number and ms, s, m or h, as in 500ms or 10s"
        );
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("123", 123), ("1KiB", 1024), ("1MB", 1_000_000), ("256MiB", 256 << 20)]
        {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes);
        }
        assert_eq!(
            "256M".parse::<Size>().unwrap_err().to_string(),
            "`256M` is no size; write a number and KiB, MiB or GiB, as in 256MiB; a bare number is bytes"
        );
    }

    #[test]
    fn what_is_printed_reads_as_what_was_written() {
        for text in ["1ms", "1500ms", "10s", "90s", "2m", "24h"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["1", "1KiB", "1500KiB", "256MiB", "1GB", "3GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string().parse::<Size>(), text.parse());
        }
        assert_eq!(Size(256 << 20).to_string(), "256MiB");
        assert_eq!(Period(Duration::ZERO).to_string(), "0ms");
    }
}

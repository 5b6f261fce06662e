//! What a run has measured.

use std::fmt;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::reply::Seen;

/// Requests answered inside the measured time, and everything that went wrong at any time.
#[derive(Debug)]
pub(crate) struct Tally {
    latency_ns: Histogram<u64>,
    /// Of the measured time.
    pub(crate) elapsed_ns: u64,
    /// CPU of the named processes in it, and of the generator itself.
    pub(crate) cpu_ns: Vec<(String, u64)>,
    pub(crate) own_cpu_ns: u64,
    pub(crate) seen: Seen,
    /// Requests without an answer at the end.
    pub(crate) unanswered: u64,
    pub(crate) broken: Vec<String>,
}

impl Tally {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).context("histogram")?,
            elapsed_ns: 0,
            cpu_ns: Vec::new(),
            own_cpu_ns: 0,
            seen: Seen::default(),
            unanswered: 0,
            broken: Vec::new(),
        })
    }

    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.latency_ns.saturating_record(latency_ns.max(1));
    }

    pub(crate) fn add(&mut self, seen: Seen) {
        self.seen.values += seen.values;
        self.seen.misses += seen.misses;
        self.seen.wrong += seen.wrong;
        self.seen.errors += seen.errors;
    }

    /// Nothing but right answers.
    pub(crate) fn is_clean(&self) -> bool {
        let Seen { misses, wrong, errors, .. } = self.seen;
        misses + wrong + errors + self.unanswered == 0 && self.broken.is_empty()
    }

    pub(crate) fn complaints(&self) -> &[String] {
        &self.broken
    }

    pub(crate) fn answered(&self) -> u64 {
        self.latency_ns.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        ratio(self.answered(), self.elapsed_ns) * 1e9
    }

    pub(crate) fn percentile_us(&self, percent: f64) -> f64 {
        ratio(self.latency_ns.value_at_quantile(percent / 100.0), 1_000)
    }

    /// Microseconds of CPU for each answered request.
    pub(crate) fn per_request_us(&self, cpu_ns: u64) -> f64 {
        ratio(cpu_ns, self.answered().max(1)) / 1e3
    }

    pub(crate) fn to_json(&self) -> Value {
        let cpu: serde_json::Map<String, Value> =
            self.cpu_ns.iter().map(|(name, ns)| (name.clone(), json!(self.per_request_us(*ns)))).collect();
        json!({
            "requests": self.answered(),
            "seconds": ratio(self.elapsed_ns, 1_000_000_000),
            "per_second": self.per_second(),
            "p50_us": self.percentile_us(50.0),
            "p99_us": self.percentile_us(99.0),
            "p999_us": self.percentile_us(99.9),
            "cpu_us": cpu,
            "own_cpu_us": self.per_request_us(self.own_cpu_ns),
            "values": self.seen.values,
            "misses": self.seen.misses,
            "wrong": self.seen.wrong,
            "errors": self.seen.errors,
            "unanswered": self.unanswered,
            "broken": self.broken.len(),
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.0} requests/s ({} in {:.2} s)",
            self.per_second(),
            self.answered(),
            ratio(self.elapsed_ns, 1_000_000_000)
        )?;
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| self.percentile_us(percent));
        writeln!(f, "p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us")?;
        write!(f, "CPU us/request: generator {:.2}", self.per_request_us(self.own_cpu_ns))?;
        for (name, ns) in &self.cpu_ns {
            write!(f, ", {name} {:.2}", self.per_request_us(*ns))?;
        }
        let Seen { values, misses, wrong, errors } = self.seen;
        let (unanswered, broken) = (self.unanswered, self.broken.len());
        write!(
            f,
            "\n{values} values, {misses} misses, {wrong} wrong, {errors} errors, {unanswered} unanswered, {broken} complaints"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds of a short run are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A minute: longer than any run waits for an answer.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(latencies_us: impl Iterator<Item = u64>) -> Tally {
        let mut tally = Tally::new().unwrap();
        latencies_us.for_each(|us| tally.record(us * 1_000));
        tally.elapsed_ns = 500_000_000;
        tally
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= right * 0.002
    }

    #[test]
    fn percentiles_and_rates_are_those_of_the_recorded() {
        let tally = tally(1..=1_000);
        assert!(near(tally.percentile_us(50.0), 500.0), "{}", tally.percentile_us(50.0));
        assert!(near(tally.percentile_us(99.0), 990.0));
        assert!(near(tally.percentile_us(99.9), 999.0));
        assert!(near(tally.per_second(), 2_000.0));
        assert!(near(tally.per_request_us(5_000_000), 5.0));
    }

    #[test]
    fn a_tally_of_nothing_divides_by_nothing() {
        let tally = Tally::new().unwrap();
        assert_eq!(
            (tally.per_second(), tally.per_request_us(7_000), tally.percentile_us(99.0)),
            (0.0, 7.0, 0.0)
        );
    }

    #[test]
    fn anything_but_right_answers_is_not_clean() {
        assert!(tally(1..=1).is_clean());
        let bad = [
            Seen { misses: 1, ..Seen::default() },
            Seen { wrong: 1, ..Seen::default() },
            Seen { errors: 1, ..Seen::default() },
        ];
        for seen in bad {
            let mut tally = tally(1..=1);
            tally.add(seen);
            assert!(!tally.is_clean(), "{seen:?}");
        }
        let mut late = tally(1..=1);
        late.unanswered = 1;
        assert!(!late.is_clean());
    }

    #[test]
    fn the_longest_latency_is_kept_at_the_bound() {
        let tally = tally([120_000_000].into_iter());
        assert!(near(tally.percentile_us(50.0), 60_000_000.0), "{}", tally.percentile_us(50.0));
    }

    #[test]
    fn json_names_each_process() {
        let mut tally = tally(1..=10);
        tally.cpu_ns = vec![("proxy".to_owned(), 30_000), ("store".to_owned(), 50_000)];
        let json = tally.to_json();
        assert_eq!(
            (json["cpu_us"]["proxy"].as_f64(), json["cpu_us"]["store"].as_f64()),
            (Some(3.0), Some(5.0))
        );
        assert_eq!(json["requests"], 10);
    }
}

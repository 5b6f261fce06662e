//! What is shown of control: in `/status` and in metrics.

/// How this replica stands with control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Which control is asked.
    pub url: String,
    /// Where it stands.
    pub standing: Standing,
    /// Its number there.
    pub replica: Option<u64>,
    /// App and shard.
    pub place: Option<(u32, String)>,
    /// Why control was not reached, or what it refuses.
    pub trouble: Option<String>,
    /// What was counted.
    pub tally: Tally,
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Control does not know it yet.
    #[default]
    Registering,
    /// It waits for a place.
    Pool,
    /// It is being filled by the others of its shard.
    Joining,
    /// It serves a shard.
    Placed,
}

/// Requests to control, by kind and outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: [[u64; Outcome::ALL.len()]; Request::ALL.len()],
    /// When control has answered last, in milliseconds since 1970.
    pub heard: Option<u64>,
}

/// What control is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who we are.
    Register,
    /// How we are.
    Heartbeat,
    /// What we are for: the long poll.
    Assignment,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// Control says no.
    Refused,
    /// Control was not reached, or is in trouble itself.
    Failed,
}

impl Standing {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Pool => "pool",
            Self::Joining => "joining",
            Self::Placed => "placed",
        }
    }
}

impl Tally {
    pub(super) fn count(&mut self, request: Request, outcome: Outcome) {
        if let Some(count) =
            self.counts.get_mut(request as usize).and_then(|row| row.get_mut(outcome as usize))
        {
            *count += 1;
        }
    }

    /// Every cell, by the labels of metrics.
    pub fn cells(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let rows = Request::ALL.into_iter().zip(&self.counts);
        rows.flat_map(|(request, row)| {
            Outcome::ALL
                .into_iter()
                .zip(row)
                .map(move |(outcome, count)| (request.label(), outcome.label(), *count))
        })
    }
}

impl Request {
    const ALL: [Self; 3] = [Self::Register, Self::Heartbeat, Self::Assignment];

    fn label(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Heartbeat => "heartbeat",
            Self::Assignment => "assignment",
        }
    }
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

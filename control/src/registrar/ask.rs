//! A wish on its way: the rule, and whoever waits for its answer.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::View;
use crate::registry::change::Change;
use crate::registry::policy::Actor;
use crate::rules::{Refusal, Wish};
use crate::store::{CommitError, StoreError};

/// Why a wish was not granted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store does not take it; or it may have, and could not say so.
    #[error(transparent)]
    Store(#[from] CommitError),
    #[error("control has more wishes waiting than it can grant: try again in a moment")]
    Busy,
    #[error("control is stopping: try again in a moment")]
    Stopping,
}

/// A wish without its type.
pub(super) trait Ask: Send {
    fn decide(&mut self, view: &View, now: Timestamp) -> Result<Change, Refusal>;
    fn end(self: Box<Self>, ended: Result<(), AskError>);
}

struct Asked<Rule, Answer> {
    actor: Actor,
    rule: Rule,
    decided: Option<Answer>,
    waiting: oneshot::Sender<Result<Answer, AskError>>,
}

pub(super) fn asked<Answer, Rule>(
    actor: Actor,
    rule: Rule,
) -> (Box<dyn Ask>, oneshot::Receiver<Result<Answer, AskError>>)
where
    Answer: Send + 'static,
    Rule: FnMut(Wish<'_>, &View) -> Result<(Change, Answer), Refusal> + Send + 'static,
{
    let (waiting, answer) = oneshot::channel();
    (Box::new(Asked { actor, rule, decided: None, waiting }), answer)
}

impl<Answer, Rule> Ask for Asked<Rule, Answer>
where
    Answer: Send,
    Rule: FnMut(Wish<'_>, &View) -> Result<(Change, Answer), Refusal> + Send,
{
    fn decide(&mut self, view: &View, now: Timestamp) -> Result<Change, Refusal> {
        let wish = Wish { registry: &view.registry, actor: &self.actor, now };
        let (change, answer) = (self.rule)(wish, view)?;
        self.decided = Some(answer);
        Ok(change)
    }

    fn end(self: Box<Self>, ended: Result<(), AskError>) {
        let answer = match (ended, self.decided) {
            (Ok(()), Some(answer)) => Ok(answer),
            (Ok(()), None) => Err(AskError::Stopping),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone; what was decided stays decided.
        let _ = self.waiting.send(answer);
    }
}

impl From<StoreError> for AskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

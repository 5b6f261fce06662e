//! A bar on standard error, for whoever sits before a terminal; nothing anywhere else.

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of so many items on all replicas. The bar hides itself where standard error is no terminal.
    pub(super) fn new(items: u64) -> Self {
        let bar = ProgressBar::new(items);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Items are added while it runs: then the bar stays full.
    pub(super) fn advance(&self, items: u64) {
        self.0.inc(items);
    }

    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

const TEMPLATE: &str = "{elapsed} {wide_bar} {human_pos} of {human_len} items, {per_sec}, {eta} left";

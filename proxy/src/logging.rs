//! Logs go to standard error, for people or as one JSON object a line; standard output stays free for answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Changes what is logged, by a filter as in `--log-level`.
pub type SetLevel = Box<dyn Fn(&str)>;

/// Sets up logging for the whole process. A second call changes nothing.
pub fn install(format: LogFormat, level: &str) -> SetLevel {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => {
            let ansi = std::io::stderr().is_terminal();
            let builder = builder.with_ansi(ansi).with_target(false).compact().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            Box::new(move |level| drop(handle.reload(filter(level))))
        }
    }
}

/// The configuration has parsed it before; should the two readings differ, too much log beats none.
fn filter(level: &str) -> EnvFilter {
    EnvFilter::builder().parse(level).unwrap_or_default()
}

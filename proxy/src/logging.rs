//! Logs go to standard error, for people or as one JSON object a line; standard output stays free for answers.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sets up logging for the whole process. A second call changes nothing.
pub fn install(format: LogFormat, level: &str) {
    // The configuration has parsed it before; should the two readings differ, too much log beats none.
    let filter = EnvFilter::builder().parse(level).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Human => {
            builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).compact().try_init()
        }
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
    drop(installed);
}

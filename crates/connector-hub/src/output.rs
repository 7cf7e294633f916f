//! What a person or a script sees: exit codes, errors, JSON and tables.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use connector_core::{Error, ErrorKind};
use serde::Serialize;

/// The operation failed.
pub(crate) const FAILED: u8 = 1;
/// Bad usage or configuration.
pub(crate) const USAGE: u8 = 2;
/// An approval is needed.
pub(crate) const APPROVAL: u8 = 3;
/// Nothing was found.
pub(crate) const NOTHING: u8 = 4;
/// Try again later: throttled, open breaker, queued.
pub(crate) const LATER: u8 = 75;

/// The exit code of an error.
pub(crate) fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Config | ErrorKind::Unsupported | ErrorKind::Invalid => USAGE,
        ErrorKind::ApprovalRequired => APPROVAL,
        ErrorKind::NotFound => NOTHING,
        ErrorKind::Throttled | ErrorKind::CircuitOpen | ErrorKind::Overloaded | ErrorKind::Quota => LATER,
        _ => FAILED,
    }
}

/// A mistake in how a command was called that says itself what to do.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Prints an error with what to do about it, and gives its exit code.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<Error>() {
        Some(ours) => {
            eprintln!("error: {ours}");
            let mut source = std::error::Error::source(ours);
            while let Some(cause) = source {
                eprintln!("  cause: {cause}");
                source = cause.source();
            }
            eprintln!("  next: {}", ours.kind().advice());
            ExitCode::from(exit_code(ours))
        }
        None => {
            eprintln!("error: {error:#}");
            let usage = error.downcast_ref::<connector_manifest::Diagnostics>().is_some() || error.downcast_ref::<Usage>().is_some();
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

/// What clap says about the command line, with its own exit codes: 0 for help, 2 for a mistake.
pub(crate) fn usage(error: clap::Error) -> ExitCode {
    // A pipe that is closed already is no reason to say more.
    let _unheard = error.print().is_err();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE))
}

/// Text from elsewhere, which must not move the cursor or colour the terminal: control characters are shown, not obeyed. Line ends stay.
fn tame(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut tamed, c| {
        if c.is_control() && c != '\n' {
            tamed.extend(c.escape_default())
        } else {
            tamed.push(c)
        }
        tamed
    })
}

/// Prints pairs, one on a line: a record for people.
pub(crate) fn record(pairs: &[(&str, String)]) -> Result<()> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = pairs.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name:<width$}  {}\n", tame(value)));
    text(&lines.collect::<String>())
}

/// Prints a text as it is. A reader that went away (`| head`) is no failure: [`failure`] ends quietly then.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a line.
pub(crate) fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Prints one JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Prints a table.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    for row in rows {
        table.add_row(row.iter().map(|cell| tame(cell)));
    }
    // The first column is what people copy into the next command.
    if let Some(first) = table.column_mut(0) {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    line(&table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_elsewhere_is_shown_and_not_obeyed() {
        assert_eq!(tame("read\u{1b}]0;pwn\u{7}\r\nwrite"), "read\\u{1b}]0;pwn\\u{7}\\r\nwrite");
    }
}

//! What is wrong with a manifest, and exactly where.
//!
//! Owns positions and their wording (`file:line:col: message`). Refuses the values of a manifest in messages where they may be secrets.

use std::{error::Error as StdError, fmt};

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The manifest cannot be used.
    Error,
    /// It can be used, but something in it will probably not do what was meant.
    Warning,
    /// It could say more.
    Hint,
}

impl Severity {
    /// `error`, `warning` or `hint`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named to the parser.
    pub file: String,
    /// The line, from 1; 0 if there is no text behind it (a manifest read from JSON).
    pub line: u32,
    /// The column in characters, from 1; 0 if there is no text behind it.
    pub col: u32,
    /// How much it matters.
    pub severity: Severity,
    /// The key it is about: `tools[0].params[1].type`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}:{}: ", self.file, self.line, self.col)?;
        } else if !self.file.is_empty() {
            write!(f, "{}: ", self.file)?;
        }
        if self.severity != Severity::Error {
            write!(f, "{}: ", self.severity.as_str())?;
        }
        if self.line == 0 && !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Findings, one per line when shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them makes the manifest unusable.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Those that make the manifest unusable.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter().filter(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// In the order of file and position, the same finding only once.
    pub(crate) fn sorted(mut self) -> Self {
        self.0.sort_by(|a, b| (&a.file, a.line, a.col, a.severity).cmp(&(&b.file, b.line, b.col, b.severity)));
        self.0.dedup();
        self
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, diagnostic) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl StdError for Diagnostics {}

impl From<Diagnostics> for connector_core::Error {
    /// A [`connector_core::ErrorKind::Config`] error with the findings that matter most: the errors if there are any.
    fn from(diagnostics: Diagnostics) -> Self {
        let shown = if diagnostics.has_errors() { Diagnostics(diagnostics.errors().cloned().collect()) } else { diagnostics };
        Self::config(shown.to_string())
    }
}

impl IntoIterator for Diagnostics {
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    type Item = Diagnostic;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_file_line_column_and_message() {
        let at = |line, severity| Diagnostic {
            file: "erp.yaml".into(),
            line,
            col: 3,
            severity,
            key: "tools[0].method".into(),
            message: "`GTE` is not accepted".into(),
        };
        assert_eq!(at(7, Severity::Error).to_string(), "erp.yaml:7:3: `GTE` is not accepted");
        assert_eq!(at(7, Severity::Hint).to_string(), "erp.yaml:7:3: hint: `GTE` is not accepted");
        assert_eq!(at(0, Severity::Error).to_string(), "erp.yaml: `tools[0].method`: `GTE` is not accepted");
        let both = Diagnostics(vec![at(7, Severity::Hint), at(9, Severity::Error)]);
        let error = connector_core::Error::from(both);
        assert_eq!(error.kind(), connector_core::ErrorKind::Config);
        assert_eq!(error.message(), "erp.yaml:9:3: `GTE` is not accepted");
    }
}

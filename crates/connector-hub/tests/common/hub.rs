//! The command line as a person or a script uses it, in a folder of its own.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

pub(crate) struct Hub {
    pub(crate) dir: tempfile::TempDir,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The command, with nothing of the machine's own environment: a developer may have real credentials there.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_connector-hub"));
        command.env_clear().env("USER", "ada").current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The same by another person.
    pub(crate) fn run_as(&self, user: &str, args: &[&str]) -> Output {
        self.command(args).env("USER", user).output().unwrap()
    }

    /// The same with something on standard input.
    pub(crate) fn pipe(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses before it reads closes the pipe; that is no failure of the test.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        json(&self.run(args), args)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }
}

pub(crate) fn json(output: &Output, args: &[&str]) -> Value {
    assert!(output.status.success(), "{args:?}: {}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?} did not print JSON: {error}"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything it said.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", stdout(output), stderr(output))
}

//! Opens an address in the person's browser. The address goes as one argument to one program, never through a shell.

use std::process::{Command, Stdio};

/// `true` if something was asked to open it; whether it did, only the person sees.
pub(super) fn open(url: &str) -> bool {
    let (program, first): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        // `start` is a word of the shell; this is what it calls.
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else {
        ("xdg-open", &[])
    };
    let spawned = Command::new(program).args(first).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    match spawned {
        Ok(mut child) => {
            // Somebody has to take its exit, or it stays behind as a zombie.
            std::thread::spawn(move || child.wait().is_ok());
            true
        }
        Err(_) => false,
    }
}

//! What the process refuses before anything else: core dumps, being read by others, and panics that print what they were working on.

use std::panic::PanicHookInfo;

use connector_core::redact;

/// The most of a panic's own words that is shown.
const MOST: usize = 300;

/// Makes the process keep what is in its memory to itself. Comes before anything secret is there.
pub(crate) fn harden() {
    std::panic::set_hook(Box::new(report));
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // The hard limit, too: nothing that runs in this process can raise it again.
        if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
            eprintln!("warning: core dumps could not be switched off ({error}); a crash may write memory to disk");
        }
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            eprintln!("warning: other processes of this user may read this one's memory ({error})");
        }
    }
}

/// A panic's place and scrubbed words. Never its payload as it is: whoever panics may have formatted a secret into it.
fn report(info: &PanicHookInfo<'_>) {
    let (place, words) = told(info);
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    if tracing::enabled!(tracing::Level::ERROR) {
        // Inside a call's span, so that the line carries its correlation id.
        tracing::error!(place, thread, "a defect: {words}; the call's other log lines carry the same correlation id, report them together");
    } else {
        eprintln!(
            "error: a defect at {place} (thread {thread}): {words}\n  next: run it again with RUST_LOG=info and report the lines around this one"
        );
    }
}

/// What may be told of a panic.
fn told(info: &PanicHookInfo<'_>) -> (String, String) {
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), |place| format!("{}:{}", place.file(), place.line()));
    (place, redact::scrub(info.payload_as_str().unwrap_or("no message"), MOST))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[test]
    fn a_panic_tells_its_place_and_not_what_it_was_working_on() {
        static TOLD: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
        std::panic::set_hook(Box::new(|info| TOLD.lock().unwrap_or_else(PoisonError::into_inner).push(told(info))));
        let thread = std::thread::spawn(|| panic!("no answer to {:?} for ada@example.com\n\u{1b}[2J", "Bearer pat-na1-0123456789abcdef"));
        assert!(thread.join().is_err());
        let thread = std::thread::spawn(|| std::panic::panic_any(7_u8));
        assert!(thread.join().is_err());
        drop(std::panic::take_hook());
        let told = TOLD.lock().unwrap();
        let (place, words) = &told[0];
        assert!(place.contains("process.rs:"), "{place}");
        assert!(words.starts_with("no answer to") && !words.contains("0123456789abcdef") && !words.contains("ada@"), "{words}");
        assert!(!words.contains('\n') && !words.contains('\u{1b}'), "{words}");
        assert_eq!(told[1].1, "no message");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_core_is_written_and_nobody_reads_along() {
        use rustix::process::{Resource, dumpable_behavior, getrlimit};
        harden();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }
}

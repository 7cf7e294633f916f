//! A vendor's own Python client, as the judge of a fake. Each library and version is installed once, with pip, into a folder of its own in the
//! user's cache.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A Python that has the library.
#[derive(Debug, Clone)]
pub struct Python {
    program: PathBuf,
    library: String,
}

impl Python {
    /// The Python that has this version of this package; installs it if it must. `None` where that is not possible: the test skips, and this
    /// has said so.
    ///
    /// # Panics
    /// In CI (environment variable `CI`) instead of giving `None`: there nothing is skipped.
    pub async fn with(package: &str, version: &str) -> Option<Self> {
        let (wanted, library) = ((package.to_owned(), version.to_owned()), format!("{package} {version}"));
        let found = tokio::task::spawn_blocking(move || install(&wanted.0, &wanted.1)).await.unwrap_or_else(|lost| Err(lost.to_string()));
        match found {
            Ok(program) => Some(Self { program, library }),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "{library} is needed in CI: {why}");
                #[allow(clippy::print_stderr, reason = "a skip is said")]
                {
                    eprintln!("skipped: {library} is not here and could not be installed: {why}");
                }
                None
            }
        }
    }

    /// Runs a script and gives what it printed.
    ///
    /// # Panics
    /// With what the script said, if it fails.
    pub async fn run(&self, script: impl AsRef<Path>, args: &[&str]) -> String {
        let (program, script) = (self.program.clone(), script.as_ref().to_string_lossy().into_owned());
        let args: Vec<String> = std::iter::once(script).chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let ran = tokio::task::spawn_blocking(move || run(&program, &args)).await.unwrap_or_else(|lost| Err(lost.to_string()));
        ran.unwrap_or_else(|why| panic!("{}: {why}", self.library))
    }
}

fn install(package: &str, version: &str) -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = cache.join("connectors-sdk").join(package).join(version);
    let python = folder.join("bin/python");
    let check = format!("from importlib.metadata import version as v; assert v('{package}') == '{version}'");
    let has_it = || run(&python, &["-c".to_owned(), check.clone()]);
    if has_it().is_err() {
        run(Path::new("python3"), &["-m", "venv", &folder.to_string_lossy()].map(str::to_owned))?;
        let wanted = format!("{package}=={version}");
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &wanted].map(str::to_owned))?;
    }
    has_it().map(|_| python).map_err(|why| format!("it was installed and is not there: {why}"))
}

fn run(program: &Path, args: &[String]) -> Result<String, String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_says_why() {
        let script = |text: &str| run(Path::new("sh"), &["-c".to_owned(), text.to_owned()]);
        assert_eq!(script("echo yes").unwrap(), "yes\n");
        assert_eq!(script("echo half; echo no >&2; exit 1").unwrap_err(), "half\n\nno");
        assert!(run(Path::new("/nowhere/python"), &[]).unwrap_err().starts_with("/nowhere/python: "));
    }
}

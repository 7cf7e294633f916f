//! Watches files of custom connectors by polling, and keeps the last good version of each.
//!
//! Owns what changed since the last look and what is wrong with the newest version. Refuses to take a connector away because its file is
//! half written or wrong: only a file that stays away takes its connector with it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use connector_manifest::Diagnostics;
use sha2::{Digest as _, Sha256};

use crate::custom::{self, CustomConnector};

/// A file changed this recently may change again without a new time stamp, so its content is looked at in any case.
const COARSE: Duration = Duration::from_secs(3);
/// A file must be missing in this many looks in a row before its connector goes: editors replace files in two steps.
const GONE_AFTER: u32 = 2;

/// What a look found to be new.
#[derive(Debug, Clone)]
pub enum Change {
    /// There is a new connector, or a new version of one.
    Loaded(Arc<CustomConnector>),
    /// A file cannot be used. `kept` names the connector whose last good version stays.
    Rejected {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        diagnostics: Diagnostics,
        /// The connector that goes on as it was.
        kept: Option<String>,
    },
    /// The connector's file is gone, or declares another connector now.
    Removed {
        /// Its id.
        id: String,
    },
}

/// A file that cannot be used as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
    /// The connector that goes on with its last good version.
    pub kept: Option<String>,
}

#[derive(Debug, Default)]
struct Seen {
    stamp: Option<(SystemTime, u64)>,
    hash: Option<[u8; 32]>,
    good: Option<Arc<CustomConnector>>,
    wrong: Option<Diagnostics>,
    missing: u32,
}

/// Watches files, and the `.yaml` and `.yml` files of folders (not of folders inside them).
#[derive(Debug)]
pub struct Watcher {
    sources: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, Seen>,
}

impl Watcher {
    /// Watches these files and folders. Nothing is read before the first [`Watcher::scan`].
    pub fn new(sources: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { sources: sources.into_iter().collect(), seen: BTreeMap::new() }
    }

    /// Looks once. `now` is wall time. Reads files, so call it where blocking is allowed.
    pub fn scan(&mut self, now: SystemTime) -> Vec<Change> {
        let mut changes = Vec::new();
        let files = self.files();
        for (path, seen) in &mut self.seen {
            if !files.contains_key(path) {
                seen.missing += 1;
            }
        }
        let gone: Vec<PathBuf> = self.seen.iter().filter(|(_, seen)| seen.missing >= GONE_AFTER).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some(good) = self.seen.remove(&path).and_then(|seen| seen.good) {
                changes.push(Change::Removed { id: good.id.clone() });
            }
        }
        for (path, found) in files {
            self.look(path, found, now, &mut changes);
        }
        changes
    }

    /// The last good version of each connector.
    pub fn connectors(&self) -> impl Iterator<Item = &Arc<CustomConnector>> {
        self.seen.values().filter_map(|seen| seen.good.as_ref())
    }

    /// The files that cannot be used as they are now.
    pub fn problems(&self) -> Vec<Problem> {
        let wrong = self.seen.iter().filter_map(|(path, seen)| Some((path, seen, seen.wrong.as_ref()?)));
        wrong.map(|(path, seen, diagnostics)| Problem { path: path.clone(), diagnostics: diagnostics.clone(), kept: kept(seen) }).collect()
    }

    /// Says that the newest version of a connector could not be used after all, for a reason only the caller knows. `previous` stays.
    pub fn reject(&mut self, refused: &CustomConnector, previous: Option<Arc<CustomConnector>>, message: String) -> Problem {
        let diagnostics = custom::problem(&refused.path.display().to_string(), "", message);
        let seen = self.seen.entry(refused.path.clone()).or_default();
        seen.good = previous;
        seen.wrong = Some(diagnostics.clone());
        Problem { path: refused.path.clone(), diagnostics, kept: kept(seen) }
    }

    /// The files there are, with their metadata or why there is none.
    fn files(&self) -> BTreeMap<PathBuf, Result<(SystemTime, u64), Diagnostics>> {
        let mut files = BTreeMap::new();
        for source in &self.sources {
            match std::fs::read_dir(source) {
                Ok(entries) => {
                    let yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml");
                    let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
                    for path in entries.flatten().map(|entry| entry.path()).filter(|path| yaml(path) && !hidden(path) && path.is_file()) {
                        if let Some(stamp) = stamp(&path).transpose() {
                            files.insert(path, stamp);
                        }
                    }
                }
                // Not a folder: a file, or nothing.
                Err(_) => match stamp(source).transpose() {
                    Some(stamp) => {
                        files.insert(source.clone(), stamp);
                    }
                    None if !self.seen.contains_key(source) => {
                        let message = "there is no such file or folder; correct the path under `manifests`";
                        files.insert(source.clone(), Err(custom::problem(&source.display().to_string(), "", message.into())));
                    }
                    None => {}
                },
            }
        }
        files
    }

    fn look(&mut self, path: PathBuf, found: Result<(SystemTime, u64), Diagnostics>, now: SystemTime, changes: &mut Vec<Change>) {
        let seen = self.seen.entry(path.clone()).or_default();
        seen.missing = 0;
        let bytes = match found {
            Ok(stamp) => {
                let settled = now.duration_since(stamp.0).is_ok_and(|age| age > COARSE);
                if seen.stamp == Some(stamp) && settled {
                    return;
                }
                // Only a stamp that had time to settle when it was read proves that nothing changed since.
                seen.stamp = settled.then_some(stamp);
                custom::bytes(&path)
            }
            Err(diagnostics) => Err(diagnostics),
        };
        let read = bytes.and_then(|bytes| {
            let hash: [u8; 32] = Sha256::digest(&bytes).into();
            if seen.hash == Some(hash) {
                return Ok(None);
            }
            seen.hash = Some(hash);
            custom::from_bytes(&path, &bytes).map(Some)
        });
        match read {
            Ok(None) => {}
            Ok(Some(connector)) => {
                let rival = self.seen.iter().find(|(other, seen)| **other != path && seen.good.as_ref().is_some_and(|good| good.id == connector.id));
                if let Some((other, _)) = rival {
                    let message = format!("`{}` is already declared by {}; give one of them another `id:`", connector.id, other.display());
                    let diagnostics = custom::problem(&path.display().to_string(), "id", message);
                    return self.wrong(path, diagnostics, changes);
                }
                let connector = Arc::new(connector);
                let seen = self.seen.entry(path).or_default();
                seen.wrong = None;
                if let Some(old) = seen.good.replace(connector.clone())
                    && old.id != connector.id
                {
                    changes.push(Change::Removed { id: old.id.clone() });
                }
                changes.push(Change::Loaded(connector));
            }
            Err(diagnostics) => self.wrong(path, diagnostics, changes),
        }
    }

    fn wrong(&mut self, path: PathBuf, diagnostics: Diagnostics, changes: &mut Vec<Change>) {
        let seen = self.seen.entry(path.clone()).or_default();
        if seen.wrong.as_ref() == Some(&diagnostics) {
            return;
        }
        seen.wrong = Some(diagnostics.clone());
        changes.push(Change::Rejected { path, diagnostics, kept: kept(seen) });
    }
}

fn kept(seen: &Seen) -> Option<String> {
    seen.good.as_ref().map(|good| good.id.clone())
}

/// When a file was changed and how long it is; `None` if it is not there.
fn stamp(path: &Path) -> Result<Option<(SystemTime, u64)>, Diagnostics> {
    match std::fs::metadata(path) {
        Ok(data) => Ok(Some((data.modified().unwrap_or(SystemTime::UNIX_EPOCH), data.len()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(custom::problem(&path.display().to_string(), "", format!("the file cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests;

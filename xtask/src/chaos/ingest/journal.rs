//! A file whose lines are on the disk before anybody is told so: what was acknowledged, what was done.
//!
//! Owns the flush. Lines of many writers share one flush, so that the harness does not wear the disk out by itself.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};

/// Lines that may wait; more writers wait for a place.
const QUEUE: usize = 1024;
/// Lines that share a flush at most.
const BATCH: usize = 512;

type Line = (String, oneshot::Sender<std::io::Result<()>>);

/// The way into the file. Its thread ends with the last of these.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    lines: mpsc::Sender<Line>,
}

impl Journal {
    /// A new file.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let (lines, inbox) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("journal".into()).spawn(move || run(file, inbox)).context("starting a thread")?;
        Ok(Self { lines })
    }

    /// Writes one line; it is durable when this returns.
    pub(crate) async fn append(&self, line: &str) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.lines.send((format!("{line}\n"), answer)).await.ok().context("the journal has ended")?;
        answered.await.context("the journal has ended")?.context("writing the journal")
    }
}

fn run(mut file: File, mut inbox: mpsc::Receiver<Line>) {
    while let Some((mut text, first)) = inbox.blocking_recv() {
        let mut waiting = vec![first];
        while waiting.len() < BATCH
            && let Ok((more, answer)) = inbox.try_recv()
        {
            text.push_str(&more);
            waiting.push(answer);
        }
        let outcome = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        for answer in waiting {
            // Whoever stopped waiting needs no answer.
            drop(answer.send(match &outcome {
                Ok(()) => Ok(()),
                Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_of_many_writers_are_all_there_when_they_return() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acked");
        let journal = Journal::create(&path).unwrap();
        let writes = (0..40).map(|n| {
            let journal = journal.clone();
            async move { journal.append(&format!("e-{n}")).await }
        });
        futures_util::future::try_join_all(writes).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 40);
    }
}

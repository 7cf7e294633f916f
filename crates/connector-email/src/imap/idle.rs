//! Waiting for news in an open mailbox (RFC 2177). While a session waits it runs no command.

use std::time::Duration;

use connector_core::{Error, Result};

use super::{
    command::Command,
    failure::{self, Errand},
    session::{Done, Session},
    wire::{Answer, Kind},
};

/// How often a server without IDLE is asked (fact sheet §3.9).
pub(crate) const POLL: Duration = Duration::from_secs(60);

impl Session {
    /// Waits until something happens in the open mailbox, at most `most`. `false`: nothing did.
    pub(crate) async fn wait_for_news(&mut self, most: Duration) -> Result<bool> {
        if !self.has("IDLE") && !self.has("IMAP4REV2") {
            tokio::time::sleep(most.min(POLL)).await;
            let mut news = false;
            self.run(Errand::Other, Command::new("NOOP"), &mut |words| {
                news |= is_news(&words);
                Ok(())
            })
            .await?;
            return Ok(news);
        }
        let tag = self.next_tag();
        self.spoil();
        self.wire().write(format!("{tag} IDLE\r\n").as_bytes()).await?;
        let mut news = false;
        loop {
            match self.wire().answer().await? {
                Answer::Continue(_) => break,
                Answer::Data(words) => news |= is_news(&words),
                Answer::Status(status) if status.kind == Kind::Bye => return Err(failure::of(&status, Errand::Other)),
                Answer::Status(_) => {}
                Answer::Tagged(_, status) => return Err(failure::of(&status, Errand::Other)),
            }
        }
        let end = tokio::time::Instant::now() + most;
        while !news {
            match tokio::time::timeout_at(end, self.wire().answer_whenever()).await {
                Err(_) => break,
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Answer::Data(words))) => news |= is_news(&words),
                Ok(Ok(Answer::Status(status))) if status.kind == Kind::Bye => return Err(failure::of(&status, Errand::Other)),
                // `* OK Still here`.
                Ok(Ok(Answer::Status(_) | Answer::Continue(_))) => {}
                Ok(Ok(Answer::Tagged(_, status))) => {
                    return Err(Error::protocol("the mail server ended IDLE by itself").with_context("status", format!("{:?}", status.kind)));
                }
            }
        }
        self.wire().write(b"DONE\r\n").await?;
        self.finish(&tag, Errand::Other, Done::default(), &mut |words| {
            news |= is_news(&words);
            Ok(())
        })
        .await?;
        Ok(news)
    }
}

/// Whether it tells of messages that came, went or changed.
fn is_news(words: &[super::value::Value]) -> bool {
    words.get(1).is_some_and(|what| what.is("EXISTS") || what.is("EXPUNGE") || what.is("FETCH"))
        || words.first().is_some_and(|what| what.is("VANISHED"))
}

//! News between processes over Redis: `PUBLISH` on the way out, `SUBSCRIBE` on the way in, over a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use connector_core::{
    error::{Error, ErrorKind, Result},
    fleet::{LocalPubSub, MOST_NOTICE, Notice},
};
use futures_util::StreamExt as _;
use redis::{RedisError, aio::PubSub};

use super::{
    link::{CONNECT, fault},
    target::Target,
};

/// How long to wait before the first and the last of the attempts to listen again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// So often the connection is tried when nothing is said over it, so that one that broke in silence is found.
const PROBE: Duration = Duration::from_secs(10);

/// Topic and body as one message.
pub(super) fn message(topic: &str, body: &[u8]) -> Result<Vec<u8>> {
    if body.len() > MOST_NOTICE || topic.contains('\n') {
        return Err(Error::new(ErrorKind::Invalid, format!("news must be at most {MOST_NOTICE} bytes, and its topic one line")));
    }
    Ok([topic.as_bytes(), b"\n", body].concat())
}

fn notice(message: &[u8]) -> Option<Notice> {
    let at = message.iter().position(|byte| *byte == b'\n')?;
    let topic = std::str::from_utf8(&message[..at]).ok()?;
    Some(Notice::Message { topic: topic.into(), body: Bytes::copy_from_slice(&message[at + 1..]) })
}

/// Listens on `channel` for as long as it runs.
pub(super) async fn listen(target: Target, channel: String, heard: LocalPubSub) {
    let mut wait = BACKOFF.0;
    loop {
        match tokio::time::timeout(CONNECT, subscribe(&target, &channel)).await {
            Ok(Ok(session)) => {
                // What was said while nobody listened is lost.
                heard.hand(Notice::Missed);
                wait = BACKOFF.0;
                hear(session, &heard).await;
                tracing::debug!(target: "connectors::fleet", "the connection for news from the Redis server ended");
            }
            Ok(Err(error)) => tracing::debug!(target: "connectors::fleet", error = %fault(&error), "no connection for news from the Redis server"),
            Err(_) => tracing::debug!(target: "connectors::fleet", "the Redis server does not answer"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

async fn subscribe(target: &Target, channel: &str) -> Result<PubSub, RedisError> {
    let mut session = PubSub::new(&target.login, target.open().await?).await?;
    session.subscribe(channel).await?;
    Ok(session)
}

/// Passes on what is heard until the connection ends.
async fn hear(session: PubSub, heard: &LocalPubSub) {
    let (mut sink, mut stream) = session.split();
    loop {
        match tokio::time::timeout(PROBE, stream.next()).await {
            Ok(Some(message)) => match notice(message.get_payload_bytes()) {
                Some(notice) => heard.hand(notice),
                None => tracing::debug!(target: "connectors::fleet", "news of another shape than ours; another program uses this channel"),
            },
            Ok(None) => return,
            Err(_) => {
                if !matches!(tokio::time::timeout(CONNECT, sink.ping::<String>()).await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_keep_their_shape() {
        let body = b"a\nb\xff".as_slice();
        assert_eq!(notice(&message("cache", body).unwrap()), Some(Notice::Message { topic: "cache".into(), body: Bytes::from_static(body) }));
        assert_eq!(notice(b"no line"), None);
        assert!(message("a\nb", b"").is_err() && message("a", &[0; MOST_NOTICE + 1]).is_err());
    }
}

//! What this process tells the others of its fleet and hears from them: dropped replies, pauses that vendors asked for.
//!
//! Owns the tasks and the form of the news about replies. Refuses to lose a drop: what cannot be told is told again until it is, and who may
//! have missed some drops everything.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use connector_core::{
    fleet::{MOST_NOTICE, Notice, PubSub},
    resilience::{Limits, share_pauses},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinHandle,
};

use crate::cache::{Cache, Key};

/// What [`Notice`]s about dropped replies are about.
const TOPIC: &str = "cache";
/// How long after a drop could not be told it is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// The tags of one message: who says it takes eight bytes, each tag its length.
const MOST_TAGS: usize = (MOST_NOTICE - 8) / size_of::<Key>();

/// The tasks. Dropping them ends them.
#[derive(Debug)]
pub(crate) struct FleetTasks(Vec<JoinHandle<()>>);

impl Drop for FleetTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Starts to tell and to hear. `news`: `None` where there is nobody to talk to.
pub(crate) fn start(news: Option<&Arc<dyn PubSub>>, cache: &Arc<Cache>, limits: &Arc<Limits>) -> FleetTasks {
    let mut tasks = Vec::new();
    if cache.unsaid().is_some() {
        // Listening begins here, so that nothing said from now on is missed.
        let heard = news.map(|news| (news.clone(), news.subscribe()));
        tasks.push(tokio::spawn(share_drops(cache.clone(), heard)));
    }
    if let Some(news) = news {
        tasks.push(tokio::spawn(share_pauses(limits.clone(), news.clone())));
    }
    FleetTasks(tasks)
}

async fn share_drops(cache: Arc<Cache>, news: Option<(Arc<dyn PubSub>, Receiver<Notice>)>) {
    let mut own = [0; 8];
    if let Err(error) = getrandom::fill(&mut own) {
        tracing::warn!(%error, "no random number for this process; it obeys its own news as well, which does no harm");
    }
    let (news, mut heard) = news.map_or((None, None), |(news, heard)| (Some(news), Some(heard)));
    loop {
        let Some(unsaid) = cache.unsaid() else { return };
        let waiting = !unsaid.is_empty();
        let said = async {
            match &mut heard {
                Some(heard) => heard.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = said => match said {
                Ok(Notice::Message { topic, body }) if &*topic == TOPIC => hear(&cache, own, &body),
                Ok(Notice::Message { .. }) => {}
                Ok(Notice::Missed) | Err(RecvError::Lagged(_)) => cache.drop_all_here(),
                // Whoever tells is gone; there is nobody left to hear.
                Err(RecvError::Closed) => heard = None,
            },
            () = unsaid.more() => tell(&cache, own, news.as_deref()).await,
            () = tokio::time::sleep(AGAIN), if waiting => tell(&cache, own, news.as_deref()).await,
        }
    }
}

/// Who says it, then the tags; none at all means everything.
fn message(own: [u8; 8], tags: &[Key]) -> Bytes {
    own.into_iter().chain(tags.iter().flatten().copied()).collect()
}

fn hear(cache: &Cache, own: [u8; 8], body: &[u8]) {
    let Some((from, tags)) = body.split_first_chunk::<8>() else { return cache.drop_all_here() };
    if *from == own && own != [0; 8] {
        return;
    }
    match tags.as_chunks::<{ size_of::<Key>() }>() {
        (tags, []) if !tags.is_empty() => tags.iter().for_each(|tag| cache.drop_here(*tag)),
        // Everything, or something that is not understood.
        _ => cache.drop_all_here(),
    }
}

async fn tell(cache: &Cache, own: [u8; 8], news: Option<&dyn PubSub>) {
    let Some(unsaid) = cache.unsaid() else { return };
    if let (Some(second), Some(told)) = (cache.second(), unsaid.take_for_store()) {
        let tags: Option<Vec<Key>> = told.as_ref().map(|tags| tags.iter().copied().collect());
        if second.drop_tags(tags.as_deref()).await.is_err() {
            unsaid.give_back_for_store(told);
        }
    }
    if let (Some(news), Some(told)) = (news, unsaid.take_for_news()) {
        let tags: Vec<Key> = told.iter().flatten().copied().collect();
        let parts: Vec<&[Key]> = if told.is_none() { vec![&[]] } else { tags.chunks(MOST_TAGS).collect() };
        for (at, part) in parts.iter().enumerate() {
            if let Err(error) = news.publish(TOPIC, message(own, part)).await {
                tracing::debug!(%error, "dropped replies cannot be told to the fleet now");
                let rest: HashSet<Key> = parts[at..].iter().flat_map(|part| part.iter().copied()).collect();
                unsaid.give_back_for_news(told.is_some().then_some(rest));
                break;
            }
        }
    }
}

//! Typed operations: what `xtask codegen` generates one struct of per tool, and the builder a caller awaits.

use std::{
    collections::HashSet,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    client::Client,
    connector::{Args, Connector, Cursor, Decode, ItemError, OpCall, OpReply, ReplyMeta},
    context::{Actor, CallCx},
    error::{Error, Result},
};

/// The arguments of one operation, typed. Serialises to the arguments of the tool of the same name.
pub trait Operation: Serialize + Send + Sync {
    /// What it gives.
    type Output: DeserializeOwned + Send + 'static;
    /// The tool's name.
    const NAME: &'static str;
}

/// An operation that lists things page by page.
pub trait ListOperation: Operation {
    /// One listed thing.
    type Item: Send + 'static;
    /// The things on one page.
    fn items(page: Self::Output) -> Vec<Self::Item>;
}

/// A typed call, ready to be refined and awaited.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<O> {
    connector: Arc<dyn Connector>,
    cx: CallCx,
    operation: O,
    cursor: Option<Cursor>,
}

/// One page of a listing, or the whole of a reply with its facts.
#[derive(Debug)]
pub struct Page<T> {
    /// The output.
    pub output: T,
    /// Where the listing goes on.
    pub next: Option<Cursor>,
    /// The items that failed, for batch operations.
    pub partial: Vec<ItemError>,
    /// How the reply came to be.
    pub meta: ReplyMeta,
}

impl<O: Operation> Call<O> {
    /// A call of `operation` through `client` in the client's own context.
    pub fn new(client: &Client, operation: O) -> Self {
        Self { cx: client.cx().clone(), connector: client.connector().clone(), operation, cursor: None }
    }

    /// Sets optional arguments through the operation's own setters: `.with(|op| op.limit(10))`.
    pub fn with(mut self, set: impl FnOnce(O) -> O) -> Self {
        self.operation = set(self.operation);
        self
    }

    /// Calls in another context.
    pub fn cx(mut self, cx: CallCx) -> Self {
        self.cx = cx;
        self
    }

    /// The key under which this exact write happens at most once.
    pub fn idempotency_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.cx.idempotency_key = Some(key.into());
        self
    }

    /// Who is behind the call.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.cx.actor = actor;
        self
    }

    /// Stops waiting after this time, waits and retries included.
    pub fn within(mut self, time: Duration) -> Self {
        self.cx = self.cx.with_deadline(crate::clock::Instant::now() + time);
        self
    }

    /// Goes on from this cursor.
    pub fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Sends it and gives the output with its facts: next cursor, failed items, attempts.
    ///
    /// # Errors
    /// Whatever the connector reports, after the policy's retries.
    pub async fn send(mut self) -> Result<Page<O::Output>> {
        let args = arguments(&self.operation)?;
        let operation = name::<O>(&*self.connector);
        self.cx.operation = Some(operation.clone());
        let call = OpCall::new(operation, args).with_cursor(self.cursor).decoding::<O::Output>();
        let reply = self.connector.call(&self.cx, call).await?;
        page(reply)
    }

    /// All pages, asked for one after the other as the stream is read.
    pub fn pages(self) -> BoxStream<'static, Result<Page<O::Output>>>
    where
        O: 'static,
    {
        self.replies(Decode::of::<O::Output>(), page).boxed()
    }

    /// All pages as the vendor wrote them, for passing records on without building them. Each is checked only as far as finding the next
    /// page takes; `connector_manifest::records` splits one into its records.
    pub fn unread_pages(self) -> BoxStream<'static, Result<OpReply>>
    where
        O: 'static,
    {
        self.replies(Decode::unread(), Ok).boxed()
    }

    /// Walks through the pages and makes of each what `read` does. Ends after the first failure.
    fn replies<T: Send + 'static>(self, decode: Decode, read: fn(OpReply) -> Result<T>) -> impl Stream<Item = Result<T>> + Send + 'static
    where
        O: 'static,
    {
        // A vendor that names a page twice sends its reader in circles; the hashes of all cursors seen are small beside one page.
        let cx = self.cx.with_operation(name::<O>(&*self.connector));
        let start = arguments(&self.operation).map(|args| Walk { connector: self.connector, cx, args, seen: HashSet::new() });
        stream::try_unfold((Some(self.cursor), start), move |(cursor, walk)| async move {
            let Some(cursor) = cursor else { return Ok(None) };
            let mut walk = walk?;
            let reply = walk.next::<O>(cursor, decode).await?;
            let next = reply.next.clone().map(Some);
            Ok(Some((read(reply)?, (next, Ok(walk)))))
        })
    }

    /// All listed things, page after page.
    pub fn items(self) -> BoxStream<'static, Result<O::Item>>
    where
        O: ListOperation + 'static,
        O::Output: Sync,
    {
        self.pages().map_ok(|page| stream::iter(O::items(page.output).into_iter().map(Ok))).try_flatten().boxed()
    }
}

/// A listing on its way from page to page.
struct Walk {
    connector: Arc<dyn Connector>,
    cx: CallCx,
    args: Args,
    seen: HashSet<u64>,
}

impl Walk {
    async fn next<O: Operation>(&mut self, cursor: Option<Cursor>, decode: Decode) -> Result<OpReply> {
        let call = OpCall { decode: Some(decode), ..OpCall::new(name::<O>(&*self.connector), self.args.clone()).with_cursor(cursor) };
        let reply = self.connector.call(&self.cx, call).await?;
        if let Some(next) = &reply.next
            && !self.seen.insert(next.mark())
        {
            return Err(Error::protocol(format!("`{}` goes in circles: the vendor named a page that was read already", O::NAME))
                .with_vendor_code("CursorLoop"));
        }
        Ok(reply)
    }
}

impl<O: Operation + 'static> IntoFuture for Call<O> {
    type Output = Result<O::Output>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.send().await.map(|page| page.output) })
    }
}

/// The operation's name as the connector keeps it, so that no call has to allocate it.
fn name<O: Operation>(connector: &dyn Connector) -> Arc<str> {
    connector.spec().operation(O::NAME).map_or_else(|| O::NAME.into(), |op| op.name.clone())
}

fn arguments<O: Operation>(operation: &O) -> Result<Args> {
    match serde_json::to_value(operation) {
        Ok(Value::Object(args)) => Ok(args.into()),
        Ok(Value::Null) => Ok(Args::default()),
        Ok(_) => Err(Error::internal(format!("the arguments of `{}` are not an object", O::NAME))),
        Err(error) => Err(Error::invalid(format!("the arguments of `{}` cannot be written as JSON", O::NAME)).with_source(error)),
    }
}

fn page<T: DeserializeOwned + Send + 'static>(mut reply: OpReply) -> Result<Page<T>> {
    let next = reply.next.take();
    let partial = std::mem::take(&mut reply.partial);
    let meta = std::mem::take(&mut reply.meta);
    Ok(Page { output: reply.into_output()?, next, partial, meta })
}

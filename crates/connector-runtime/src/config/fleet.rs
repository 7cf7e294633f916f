//! The `fleet:` section of `hub.yaml`: what several hubs share besides their state store.
//!
//! Owns the keys. Refuses secrets in plain text; the program that embeds the runtime connects.

use serde::Deserialize;

use super::{plain_secret, substitute};

/// What the hubs of a fleet share: exact limits, a cache of replies, news. Nothing of it is needed for correctness.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetConfig {
    /// A Redis server: `${REDIS_URL}`, or `redis://host:6379/0` where it needs no password.
    pub redis: Option<String>,
    /// An Upstash database, over its REST API.
    pub upstash: Option<UpstashConfig>,
    /// The most hubs there ever are: 8. While Redis is out of reach each uses that part of every limit.
    pub max_processes: Option<u32>,
}

/// An Upstash database.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstashConfig {
    /// `https://NAME.upstash.io`, or a reference to it.
    pub url: String,
    /// Its REST token, a reference such as `${UPSTASH_REDIS_TOKEN}`.
    pub token: String,
}

impl std::fmt::Debug for FleetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (redis, upstash) = (self.redis.is_some(), self.upstash.is_some());
        f.debug_struct("FleetConfig").field("redis", &redis).field("upstash", &upstash).field("max_processes", &self.max_processes).finish()
    }
}

impl std::fmt::Debug for UpstashConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstashConfig").finish_non_exhaustive()
    }
}

impl FleetConfig {
    /// What is wrong, each with the path of its key.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if let Some(redis) = self.redis.as_ref().filter(|redis| redis.contains('@') && !substitute::is_reference(redis)) {
            let user_and_password = redis.split_once("://").map_or(redis.as_str(), |(_, rest)| rest);
            let password = user_and_password.split('@').next().and_then(|both| both.split_once(':')).map_or("", |(_, password)| password);
            if !substitute::is_reference(password) {
                found.push(("fleet.redis".to_owned(), plain_secret("redis_url")));
            }
        }
        if self.upstash.as_ref().is_some_and(|upstash| !substitute::is_reference(&upstash.token)) {
            found.push(("fleet.upstash.token".to_owned(), plain_secret("upstash_redis_token")));
        }
        if self.redis.is_some() && self.upstash.is_some() {
            found.push(("fleet".to_owned(), "either `redis` or `upstash`: limits are counted in one place".to_owned()));
        }
        if self.max_processes == Some(0) {
            found.push(("fleet.max_processes".to_owned(), "at least 1".to_owned()));
        }
        found
    }
}

//! What this hub shares with the others of its fleet: news, exact limits and a cache of replies.
//!
//! Owns the connection to Redis or Upstash as `fleet:` or the environment names it. Refuses to need it: a hub starts and works without,
//! as long as what is configured makes sense.

use std::sync::Arc;

use anyhow::Result;
use connector_core::fleet::PubSub;
use connector_http::HttpTransport;
use connector_runtime::{HubConfig, RuntimeBuilder};
use connector_state::{RedisFleet, UpstashFleet};
use secrecy::SecretString;

/// The most hubs of a fleet if nothing is said.
const MOST_PROCESSES: u32 = 8;
/// Where Redis is, if `hub.yaml` does not say.
const REDIS_URL: &str = "CONNECTORS_REDIS_URL";
/// Where Upstash is and its token, if `hub.yaml` does not say.
const UPSTASH: (&str, &str) = ("UPSTASH_REDIS_URL", "UPSTASH_REDIS_TOKEN");

/// Where the fleet meets.
enum Place {
    Redis(SecretString),
    Upstash { url: String, token: SecretString },
}

/// Finds out where: `hub.yaml` first, then the environment.
fn place(config: &HubConfig, env: impl Fn(&str) -> Option<String> + Send + Sync + Clone + 'static) -> Result<Option<Place>> {
    let fleet = &config.fleet;
    if let Some(url) = &fleet.redis {
        return Ok(Some(Place::Redis(HubConfig::fill("fleet.redis", url, env)?.into())));
    }
    if let Some(upstash) = &fleet.upstash {
        let url = HubConfig::fill("fleet.upstash.url", &upstash.url, env.clone())?;
        return Ok(Some(Place::Upstash { url, token: HubConfig::fill("fleet.upstash.token", &upstash.token, env)?.into() }));
    }
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(url) = set(REDIS_URL) {
        return Ok(Some(Place::Redis(url.into())));
    }
    Ok(match (set(UPSTASH.0), set(UPSTASH.1)) {
        (Some(url), Some(token)) => Some(Place::Upstash { url, token: token.into() }),
        _ => None,
    })
}

/// The runtime in its fleet, and where it meets in words. `news`: what the state store brings for telling each other something.
///
/// # Errors
/// [`connector_core::ErrorKind::Config`] if an address or a token will not do. A server that does not answer is no error.
pub(super) async fn join(
    builder: RuntimeBuilder,
    config: &HubConfig,
    news: Option<Arc<dyn PubSub>>,
) -> Result<(RuntimeBuilder, Option<&'static str>)> {
    let most = config.fleet.max_processes.unwrap_or(MOST_PROCESSES);
    Ok(match place(config, |name| std::env::var(name).ok())? {
        None => (news.into_iter().fold(builder, RuntimeBuilder::pubsub), None),
        Some(Place::Redis(url)) => {
            let redis = Arc::new(RedisFleet::connect(&url).await?);
            // The store's own news need no second server; without them Redis carries the news too.
            let news = news.unwrap_or_else(|| redis.clone());
            (builder.pubsub(news).shared_limits(redis.clone(), most).shared_cache(redis), Some("Redis"))
        }
        Some(Place::Upstash { url, token }) => {
            let transport = HttpTransport::builder().egress(config.egress.policy()?).build()?;
            let upstash = Arc::new(UpstashFleet::new(Arc::new(transport), &url, &token)?);
            let builder = news.into_iter().fold(builder, RuntimeBuilder::pubsub);
            (builder.shared_limits(upstash.clone(), most).shared_cache(upstash), Some("Upstash"))
        }
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn found(yaml: &str, env: &'static [(&'static str, &'static str)]) -> Option<String> {
        let config = HubConfig::parse("hub.yaml", yaml).unwrap();
        let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        place(&config, env).unwrap().map(|place| match place {
            Place::Redis(url) => url.expose_secret().to_owned(),
            Place::Upstash { url, token } => format!("{url} {}", token.expose_secret()),
        })
    }

    #[test]
    fn the_file_comes_first_and_then_the_environment() {
        let env: &[_] = &[("R", "redis://u:p@r"), ("CONNECTORS_REDIS_URL", "redis://e"), ("T", "t")];
        assert_eq!(found("fleet: { redis: \"${R}\" }", env).as_deref(), Some("redis://u:p@r"));
        assert_eq!(found("fleet: { upstash: { url: \"https://x.upstash.io\", token: \"${T}\" } }", env).as_deref(), Some("https://x.upstash.io t"));
        assert_eq!(found("fleet: { max_processes: 3 }", env).as_deref(), Some("redis://e"));
        let upstash: &[_] = &[("UPSTASH_REDIS_URL", "https://y"), ("UPSTASH_REDIS_TOKEN", "t")];
        assert_eq!(found("", upstash).as_deref(), Some("https://y t"));
        assert_eq!(found("", &upstash[..1]), None);
    }

    #[test]
    fn secrets_in_plain_text_are_refused() {
        for yaml in [
            "fleet: { redis: \"redis://u:hunter2@r\" }",
            "fleet: { upstash: { url: \"https://x\", token: hunter2 } }",
            "fleet: { redis: \"${R}\", upstash: { url: \"https://x\", token: \"${T}\" } }",
            "fleet: { max_processes: 0 }",
        ] {
            let problems = HubConfig::parse("hub.yaml", yaml).unwrap_err().to_string();
            let named = ["plain text", "either `redis` or `upstash`", "at least 1"].iter().any(|reason| problems.contains(reason));
            assert!(named && !problems.contains("hunter2"), "{problems}");
        }
        assert!(HubConfig::parse("hub.yaml", "fleet: { redis: \"redis://u:${P}@r\" }").is_ok());
    }
}

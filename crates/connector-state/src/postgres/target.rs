//! Where the server is: the connection URL, and whether TLS is used.
//!
//! Owns the reading of the URL. Refuses to show it: it holds a password, so errors name parameters and never values. Refuses modes of
//! TLS that do not check the certificate, and a plain connection over a network unless the URL asks for it.

use std::{path::Path, sync::Arc, time::Duration};

use connector_core::error::{Error, Result};
use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::Verifier;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long a connection attempt to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without traffic the other side is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// The server and how to speak to it.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

/// What the URL asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing: TLS unless the server is on this machine.
    Default,
    Plain,
    Verified,
}

impl Target {
    /// Reads the URL.
    pub(super) fn parse(url: &SecretString) -> Result<Self> {
        let url = url.expose_secret();
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(Error::config("the connection URL of the state store must start with postgres://"));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut mode = Mode::Default;
        let mut authority: Option<String> = None;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| Error::config("a parameter of the connection URL is not UTF-8"))?;
            match name {
                "sslmode" => mode = ssl_mode(&value)?,
                "sslrootcert" => authority = Some(value.into_owned()).filter(|path| path != "system"),
                _ => rest.push(pair),
            }
        }
        let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        // The parser's error may quote what it could not read, and that may be a part of a password.
        let mut config: Config = plain.parse().map_err(|_| {
            Error::config(
                "the connection URL of the state store is not valid: postgres://user:password@host:port/database?sslmode=verify-full, special characters as %XX",
            )
        })?;
        let tls = mode == Mode::Verified || (mode == Mode::Default && !is_local(&config));
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        // Several hosts may be named; only the one that takes writes will do.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("connectors");
        }
        config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        Ok(Self { config, tls: MakeRustlsConnect::new(client_config(tls, authority.as_deref())?) })
    }
}

fn ssl_mode(value: &str) -> Result<Mode> {
    match value {
        "disable" => Ok(Mode::Plain),
        // libpq checks no certificate for `require`; who asks for TLS gets all of it here.
        "require" | "verify-full" => Ok(Mode::Verified),
        _ => Err(Error::config(
            "this `sslmode` of the connection URL is not supported: `verify-full` (or `require`, which means the same here) or `disable`",
        )),
    }
}

/// Whether every host is this machine, where there is no network to listen on.
fn is_local(config: &Config) -> bool {
    let named = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    named && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// TLS 1.2 and 1.3 with ring, handed over explicitly: no process-wide default is read or set.
fn client_config(used: bool, authority: Option<&str>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").with_source(error))?;
    // Without TLS there is nobody to trust, and no certificate store need be there.
    let roots = match authority {
        _ if !used => RootCertStore::empty(),
        Some(path) => roots_in(Path::new(path))?,
        None => {
            let verifier = Verifier::new(provider).map_err(|error| {
                Error::config("this machine has no usable certificate store; name the authority of the PostgreSQL server with `sslrootcert`")
                    .with_source(error)
            })?;
            // The name of rustls' door for any verifier of one's own; this one is the platform's and checks chain, name and dates.
            return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth());
        }
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots_in(path: &Path) -> Result<RootCertStore> {
    let unusable = || Error::config(format!("the file `{}` named by `sslrootcert` holds no usable PEM certificate", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable().with_source(error))? {
        roots.add(certificate.map_err(|error| unusable().with_source(error))?).map_err(|error| unusable().with_source(error))?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use connector_core::ErrorKind;

    use super::*;

    fn parse(url: &str) -> Result<Target> {
        Target::parse(&SecretString::from(url))
    }

    #[test]
    fn tls_is_on_wherever_there_is_a_network() {
        for (url, mode) in [
            ("postgres://u@localhost/db", SslMode::Disable),
            ("postgres://u@127.0.0.1:5432/db", SslMode::Disable),
            ("postgres:///db?host=/run/postgresql", SslMode::Disable),
            ("postgres://u@db.example.com/db?sslmode=disable", SslMode::Disable),
            ("postgres://u@localhost,db.example.com/db?sslmode=disable", SslMode::Disable),
        ] {
            assert_eq!(parse(url).unwrap().config.get_ssl_mode(), mode, "{url}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let authority = rcgen::generate_simple_self_signed(["db.example.com".to_owned()]).unwrap();
        std::fs::write(&path, authority.cert.pem()).unwrap();
        for url in ["postgres://u@db.example.com/db", "postgres://u@localhost,db.example.com/db", "postgres://u@localhost/db?sslmode=require"] {
            let url = format!("{url}{}sslrootcert={}", if url.contains('?') { '&' } else { '?' }, path.display());
            assert_eq!(parse(&url).unwrap().config.get_ssl_mode(), SslMode::Require, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_showing_it() {
        for url in [
            "mysql://u:hunter2@db/x",
            "postgres://u:hunter2@db:port/x",
            "postgres://u:hunter2@db/x?sslmode=hunter2",
            "postgres://u:hunter2@db/x?sslmode=prefer",
            "postgres://u:hunter2@db/x?hunter2=1",
            "postgres://u:hunter2@db/x?sslmode=disable&connect_timeout=hunter2",
            "postgres://u:hunter2@db/x?sslrootcert=/no/such/file",
        ] {
            let Err(error) = parse(url) else { panic!("{url} was taken") };
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            let mut shown = format!("{error} {error:?}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                shown.push_str(&format!("{cause} {cause:?}"));
                source = cause.source();
            }
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
}

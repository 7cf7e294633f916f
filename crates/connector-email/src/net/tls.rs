//! TLS: versions 1.2 and 1.3, the machine's roots or bundled ones through the platform's verifier, and a private CA where a connection names
//! one. A server's own certificate may be named there, too (many mail servers have one that nobody signed): then exactly that one is taken, for
//! the host it names. Refuses any way to skip verification: there is none.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use connector_core::{Error, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    version::{TLS12, TLS13},
};
use rustls_platform_verifier::{BuilderVerifierExt as _, Verifier};
use tokio_rustls::TlsConnector;

/// How many distinct CA files are kept ready. More than that is a mistake in a hub file.
const MAX_KEPT: usize = 64;

/// Makes TLS clients, one for each CA file in use.
#[derive(Default)]
pub(crate) struct Tls {
    /// By the file's path; empty: the machine's roots alone.
    made: Mutex<HashMap<String, TlsConnector>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// The client that also trusts the certificates in `ca_file` (PEM), if one is named.
    pub(crate) async fn client(&self, ca_file: Option<&str>) -> Result<TlsConnector> {
        let key = ca_file.unwrap_or_default();
        if let Some(made) = self.made.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(made.clone());
        }
        let extra = match ca_file {
            Some(path) => {
                let unread = |error: std::io::Error| Error::config("the file named by `ca_file` cannot be read").with_source(error);
                certificates(&tokio::fs::read(path).await.map_err(unread)?)?
            }
            None => Vec::new(),
        };
        let made = TlsConnector::from(Arc::new(config(extra)?));
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_KEPT {
            kept.insert(key.to_owned(), made.clone());
        }
        Ok(made)
    }
}

fn config(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig> {
    let unusable = |error: rustls::Error| Error::config("TLS cannot be set up on this machine").with_source(error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13, &TLS12]).map_err(unusable)?;
    Ok(if extra.is_empty() {
        builder.with_platform_verifier().map_err(unusable)?.with_no_client_auth()
    } else {
        let platform = Verifier::new_with_extra_roots(extra.clone(), provider).map_err(unusable)?;
        // The name of rustls' door for a verifier one makes oneself; this is the platform's, with more roots.
        builder.dangerous().with_custom_certificate_verifier(Arc::new(WithNamed { platform, named: extra })).with_no_client_auth()
    })
}

/// The platform's verifier, and certificates that are trusted as they are.
#[derive(Debug)]
struct WithNamed {
    platform: Verifier,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for WithNamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The handshake's signature proves that the server has its key; who put it into the file vouches for it as long as it is there.
        if self.named.iter().any(|named| named.as_ref() == end_entity.as_ref()) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.platform.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.platform.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.platform.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Error::config("the file named by `ca_file` holds no certificate in PEM form")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_a_config_error() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            assert_eq!(certificates(pem.as_bytes()).unwrap_err().kind(), connector_core::ErrorKind::Config);
        }
    }

    #[tokio::test]
    async fn a_ca_file_that_is_not_there_is_named_by_its_setting_only() {
        let Err(error) = Tls::default().client(Some("/nowhere/secret-name.pem")).await else { panic!("it was read") };
        assert!(error.message().contains("`ca_file`") && !error.to_string().contains("secret-name"), "{error}");
    }
}

//! TLS: which versions, which roots, which provider.
//!
//! Owns the one `rustls` configuration, handed to the HTTP client explicitly. Refuses process-wide defaults (a library does not
//! install them) and any way to skip verification: there is none.

use std::sync::Arc;

use connector_core::error::{Error, Result};
use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    client::danger::ServerCertVerifier,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

/// TLS 1.2 and 1.3, HTTP/2 preferred, the platform's roots or the bundled ones, and `extra` roots.
pub(crate) fn client_config(extra: &[CertificateDer<'static>]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(&provider, extra)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").with_source(error))?
        .dangerous() // the name of rustls' door for any verifier of one's own; this one verifies chain, name and dates
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(not(feature = "bundled-roots"))]
fn verifier(provider: &Arc<CryptoProvider>, extra: &[CertificateDer<'static>]) -> Result<Arc<dyn ServerCertVerifier>> {
    use rustls_platform_verifier::Verifier;

    // The platform's store must stand on its own: with extra roots the verifier would hide that it is empty.
    let platform = Verifier::new(provider.clone()).and_then(|verifier| match extra {
        [] => Ok(verifier),
        extra => Verifier::new_with_extra_roots(extra.iter().cloned(), provider.clone()),
    });
    match platform {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => {
            // Slim images have no certificate store; a client that cannot be built at all would be worse.
            tracing::warn!(%error, "no usable certificate store on this machine, using the bundled roots");
            bundled(provider, extra)
        }
    }
}

#[cfg(feature = "bundled-roots")]
fn verifier(provider: &Arc<CryptoProvider>, extra: &[CertificateDer<'static>]) -> Result<Arc<dyn ServerCertVerifier>> {
    bundled(provider, extra)
}

/// Mozilla's roots as compiled in.
fn bundled(provider: &Arc<CryptoProvider>, extra: &[CertificateDer<'static>]) -> Result<Arc<dyn ServerCertVerifier>> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra {
        roots.add(root.clone()).map_err(|error| Error::config("an extra root certificate cannot be used as a trust anchor").with_source(error))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
    Ok(verifier.map_err(|error| Error::internal("the bundled root certificates cannot be used").with_source(error))?)
}

/// The certificates of a PEM file.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::config("the extra root certificates hold no `BEGIN CERTIFICATE` block")),
        Err(error) => Err(Error::config("the extra root certificates are not PEM").with_source(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_roots_work_without_a_certificate_store() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        bundled(&provider, &[]).unwrap();
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 50);
        assert!(CryptoProvider::get_default().is_none(), "no process-wide provider may be installed");
    }

    #[test]
    fn both_http_versions_are_offered() {
        assert_eq!(client_config(&[]).unwrap().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_file_without_certificates_is_a_config_error() {
        for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
            assert_eq!(certificates(pem.as_bytes()).unwrap_err().kind(), connector_core::ErrorKind::Config);
        }
    }
}

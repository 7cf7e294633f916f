//! TLS: which versions, which roots, which provider.
//!
//! Owns the one `rustls` configuration, handed to the HTTP client explicitly. Refuses process-wide defaults (a library does not
//! install them) and any way to skip verification: there is none.

use std::sync::{Arc, OnceLock};

use connector_core::error::{Error, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime, pem::PemObject as _},
    version::{TLS12, TLS13},
};

/// TLS 1.2 and 1.3, HTTP/2 preferred, the platform's roots or the bundled ones, and `extra` roots.
pub(crate) fn client_config(extra: &[CertificateDer<'static>]) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // Read now, so that a mistake comes out where it was made and not at the first handshake.
    roots_of(extra, Vec::new())?;
    let verifier = LazyVerifier { provider: provider.clone(), extra: extra.to_vec(), loaded: OnceLock::new() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| Error::internal("the TLS provider lacks TLS 1.2 and 1.3").with_source(error))?
        .dangerous() // the name of rustls' door for any verifier of one's own; this one verifies chain, name and dates
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Loads the roots at the first handshake: reading a certificate store takes milliseconds, and many programs that make a transport
/// (a listing on the command line, a sandbox on loopback) never need one.
#[derive(Debug)]
struct LazyVerifier {
    provider: Arc<CryptoProvider>,
    extra: Vec<CertificateDer<'static>>,
    loaded: OnceLock<Result<Arc<dyn ServerCertVerifier>>>,
}

impl ServerCertVerifier for LazyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.loaded.get_or_init(|| verifier(&self.provider, &self.extra)) {
            Ok(verifier) => verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            Err(error) => Err(rustls::Error::General(error.message().to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
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
    let roots = roots_of(extra, webpki_roots::TLS_SERVER_ROOTS.to_vec())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
    Ok(verifier.map_err(|error| Error::internal("the bundled root certificates cannot be used").with_source(error))?)
}

fn roots_of(extra: &[CertificateDer<'static>], known: Vec<TrustAnchor<'static>>) -> Result<RootCertStore> {
    let mut roots = RootCertStore { roots: known };
    for root in extra {
        roots.add(root.clone()).map_err(|error| Error::config("an extra root certificate cannot be used as a trust anchor").with_source(error))?;
    }
    Ok(roots)
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
    fn this_machines_roots_or_the_bundled_ones_can_be_loaded() {
        verifier(&Arc::new(rustls::crypto::ring::default_provider()), &[]).unwrap();
    }

    #[test]
    fn a_certificate_that_is_none_is_a_config_error_at_once() {
        let error = client_config(&[CertificateDer::from(vec![1, 2, 3])]).unwrap_err();
        assert_eq!(error.kind(), connector_core::ErrorKind::Config);
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

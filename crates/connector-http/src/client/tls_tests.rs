//! TLS: whom the transport believes. Certificates are made on the spot; the servers really speak TLS.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use connector_core::error::{ErrorKind, Retry};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use super::*;
use crate::testing::{FakeLookup, cx, get};

/// A certificate authority made for one test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, adjusted.
    fn issue(&self, name: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        adjust(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Serves one connection with this identity; gives back its address and, later, whether a request got through.
fn serve(identity: Identity, alpn: &[&str]) -> (SocketAddr, std::thread::JoinHandle<Option<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![identity.certificate], identity.key).unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        Some(String::from_utf8_lossy(&head).into_owned())
    });
    (address, server)
}

/// Asks `https://{host}` with a transport that trusts `roots`, and says what the server got to see.
async fn ask(host: &str, identity: Identity, roots: &str) -> (Result<u16>, Option<String>) {
    ask_in(host, identity, roots, "http/1.1").await
}

async fn ask_in(host: &str, identity: Identity, roots: &str, protocol: &str) -> (Result<u16>, Option<String>) {
    let (address, server) = serve(identity, &[protocol]);
    let transport = HttpTransport::builder()
        .egress(EgressPolicy::new().allow_loopback().allow_port(address.port()))
        .extra_root_certificates(roots)
        .lookup(FakeLookup::new(&[&["127.0.0.1"]]))
        .build()
        .unwrap();
    let mut request = get(&format!("https://{host}:{}/", address.port()));
    request.head.headers.insert("x-api-key", HeaderValue::from_static("canary"));
    let outcome = transport.send(&cx("https://vendor.example"), request).await.map(|response| response.status().as_u16());
    (outcome, tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap())
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_believed() {
    let authority = Authority::new();
    for host in ["vendor.example", "127.0.0.1"] {
        let (outcome, seen) = ask(host, authority.issue(host, |_| {}), &authority.pem).await;
        assert_eq!(outcome.unwrap(), 200);
        assert!(seen.unwrap().contains("x-api-key: canary"));
    }
}

#[tokio::test]
async fn expired_early_foreign_and_self_signed_certificates_are_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let (other, host) = (Authority::new(), "vendor.example");
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&own_key).unwrap();
    let self_signed = Identity { certificate: own.der().clone(), key: PrivateKeyDer::try_from(own_key.serialize_der()).unwrap() };
    for (what, identity) in [
        ("expired", authority.issue(host, |params| (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)))),
        (
            "not yet valid",
            authority.issue(host, |params| (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1))),
        ),
        ("wrong host", authority.issue("other.example", |_| {})),
        ("parent's name", authority.issue("example", |_| {})),
        ("unknown authority", other.issue(host, |_| {})),
        ("self-signed", self_signed),
    ] {
        let (outcome, seen) = ask(host, identity, &authority.pem).await;
        let error = outcome.expect_err(what);
        assert_eq!((error.kind(), error.retry()), (ErrorKind::NotSent, Retry::Never), "{what}: {error}");
        assert!(error.message().contains("certificate"), "{what}: {error}");
        assert_eq!(seen, None, "{what}: the request must not have been sent");
    }
}

#[tokio::test]
async fn a_certificate_for_a_name_does_not_hold_for_its_address() {
    let authority = Authority::new();
    let (outcome, seen) = ask("127.0.0.1", authority.issue("vendor.example", |_| {}), &authority.pem).await;
    assert_eq!((outcome.unwrap_err().kind(), seen), (ErrorKind::NotSent, None));
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let plain = crate::testing::RawServer::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let transport = crate::testing::local().connect_timeout(Duration::from_millis(200)).build().unwrap();
    let error = transport.send(&cx("https://vendor.example"), get(&plain.url("/").replace("http:", "https:"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSent, "{error}");
}

#[tokio::test]
async fn http2_is_spoken_to_a_server_that_offers_it() {
    let authority = Authority::new();
    let (outcome, seen) = ask_in("vendor.example", authority.issue("vendor.example", |_| {}), &authority.pem, "h2").await;
    // The server agrees to HTTP/2, looks at the preface and answers nonsense.
    assert_eq!(seen.as_deref(), Some("PRI * HTTP/2.0\r\n\r\n"));
    assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::NotSent | ErrorKind::Transient));
}

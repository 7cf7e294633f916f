//! TLS from the first octet and STARTTLS, with a certificate made on the spot; what an attacker in the middle would do.

use crate::clients::message;
use crate::raw::{Raw, alice};
use connector_sandbox::mail::{MailServer, known};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

struct Identity {
    server: Arc<rustls::ServerConfig>,
    client: TlsConnector,
    pem: String,
}

fn identity() -> Identity {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![pair.cert.der().clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    Identity { server: Arc::new(server), client: TlsConnector::from(Arc::new(client)), pem: pair.cert.pem() }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

#[tokio::test]
async fn imap_under_tls_from_the_first_octet() {
    let identity = identity();
    let server = MailServer::builder().tls(identity.server.clone()).start().await.unwrap();
    let stream = TcpStream::connect(server.imaps().unwrap()).await.unwrap();
    let stream = identity.client.connect(localhost(), stream).await.unwrap();
    let mut client = async_imap::Client::new(stream);
    client.read_response().await.unwrap().unwrap();
    let mut session = client.login(known::ALICE, known::ALICE_PASSWORD).await.map_err(|(error, _)| error).unwrap();
    assert_eq!(session.select("INBOX").await.unwrap().exists, 14);
    server.stop().await;
}

#[tokio::test]
async fn imap_starttls_comes_before_the_password() {
    let identity = identity();
    let server = MailServer::builder().tls(identity.server.clone()).start().await.unwrap();
    let (mut imap, greeting) = Raw::connect(server.imap()).await;
    assert!(greeting.contains("STARTTLS LOGINDISABLED") && !greeting.contains("AUTH="), "{greeting}");
    let login = format!("a LOGIN {} {}", known::ALICE, known::ALICE_PASSWORD);
    assert!(imap.imap(&login).await[0].starts_with("a NO [PRIVACYREQUIRED]"));
    assert_eq!(imap.imap("b STARTTLS").await, ["b OK Begin TLS negotiation now"]);
    let mut imap = Raw::over(identity.client.connect(localhost(), imap.into_inner()).await.unwrap());
    let capabilities = imap.imap("c CAPABILITY").await[0].clone();
    assert!(!capabilities.contains("STARTTLS") && capabilities.contains("AUTH=PLAIN"), "{capabilities}");
    assert!(imap.imap(&login).await[0].starts_with("a OK"));
}

#[tokio::test]
async fn lettre_starts_tls_and_submits() {
    let identity = identity();
    let server = MailServer::builder().tls(identity.server.clone()).start().await.unwrap();
    let parameters = || {
        let certificate = Certificate::from_pem(identity.pem.as_bytes()).unwrap();
        TlsParameters::builder("localhost".to_owned()).add_root_certificate(certificate).build_rustls().unwrap()
    };
    for (addr, tls) in [(server.smtp(), Tls::Required(parameters())), (server.submissions().unwrap(), Tls::Wrapper(parameters()))] {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(addr.port()).tls(tls);
        let transport = transport.credentials(Credentials::new(known::ALICE.to_owned(), known::ALICE_PASSWORD.to_owned())).build();
        transport.send(message("<tls@x>", "bob@example.test")).await.unwrap();
    }
    assert_eq!(server.accepted().len(), 2);
    // Without TLS there is no AUTH to be had, and no sending.
    let (mut smtp, _) = Raw::connect(server.smtp()).await;
    assert!(!smtp.smtp("EHLO c").await.contains("AUTH"));
    assert_eq!(smtp.smtp("AUTH PLAIN AGEAYg==").await, "538 5.7.11 Encryption required for the requested authentication mechanism");
    assert_eq!(smtp.smtp("MAIL FROM:<a@x.test>").await, "530 5.7.0 Must issue a STARTTLS command first");
}

#[tokio::test]
async fn a_stripped_starttls_is_gone_and_the_password_is_wanted_in_plain_text() {
    let server = MailServer::builder().tls(identity().server).faults(|faults| faults.strip_starttls(true)).start().await.unwrap();
    let (mut imap, greeting) = Raw::connect(server.imap()).await;
    assert!(!greeting.contains("STARTTLS") && greeting.contains("AUTH=PLAIN"), "{greeting}");
    assert_eq!(imap.imap("a STARTTLS").await, ["a BAD STARTTLS is not offered here"]);
    alice(&server).await;
    let (mut smtp, _) = Raw::connect(server.smtp()).await;
    let offered = smtp.smtp("EHLO c").await;
    assert!(!offered.contains("STARTTLS") && offered.contains("AUTH PLAIN"), "{offered}");
    assert_eq!(smtp.smtp("STARTTLS").await, "502 5.5.1 STARTTLS is not offered here");
}

#[tokio::test]
async fn a_line_injected_after_starttls_is_there_to_be_noticed() {
    let server = MailServer::builder().tls(identity().server).faults(|faults| faults.inject_after_starttls(true)).start().await.unwrap();
    let (mut imap, _) = Raw::connect(server.imap()).await;
    imap.imap("a STARTTLS").await;
    assert_eq!(imap.line().await.unwrap(), "* CAPABILITY IMAP4rev1 AUTH=PLAIN INJECTED");
}

#[tokio::test]
async fn what_a_client_sent_ahead_of_tls_is_thrown_away() {
    let identity = identity();
    let server = MailServer::builder().tls(identity.server.clone()).start().await.unwrap();
    let (mut imap, _) = Raw::connect(server.imap()).await;
    imap.send("a STARTTLS\r\nb LOGOUT").await;
    assert_eq!(imap.line().await.unwrap(), "a OK Begin TLS negotiation now");
    let mut imap = Raw::over(identity.client.connect(localhost(), imap.into_inner()).await.unwrap());
    assert!(imap.imap("c CAPABILITY").await[0].starts_with("* CAPABILITY"), "the early LOGOUT was not obeyed");
}

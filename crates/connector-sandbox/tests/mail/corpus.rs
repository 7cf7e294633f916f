//! Mail nobody here wrote, delivered and fetched with async-imap: its parser is strict about ENVELOPE and BODYSTRUCTURE, and every octet must
//! come back. Skipped where the material is absent.

use crate::clients::session;
use connector_sandbox::mail::{MailServer, known};
use futures_util::TryStreamExt as _;
use std::path::PathBuf;

/// The folder of real mail, or `None` (which only a developer's machine may be).
fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("CONNECTORS_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join("mail");
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "shared/mail is missing; set CONNECTORS_SHARED");
    eprintln!("skipped: shared/mail is absent");
    None
}

/// As mail travels: every line ends in CRLF.
fn on_the_wire(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len());
    for byte in octets {
        if *byte == b'\n' && wire.last() != Some(&b'\r') {
            wire.push(b'\r');
        }
        wire.push(*byte);
    }
    wire
}

#[tokio::test]
async fn every_real_message_is_kept_and_its_structure_can_be_parsed() {
    let Some(folder) = folder() else { return };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    files.sort();
    assert!(files.len() > 50);
    let server = MailServer::builder().empty().start().await.unwrap();
    let sent: Vec<Vec<u8>> = files.iter().map(|file| on_the_wire(&std::fs::read(file).unwrap())).collect();
    for (file, octets) in files.iter().zip(&sent) {
        server.deliver(known::ALICE, "INBOX", &std::fs::read(file).unwrap()).unwrap();
        assert!(octets.len() > 10, "{}", file.display());
    }
    let mut imap = session(&server, known::ALICE, known::ALICE_PASSWORD).await;
    imap.examine("INBOX").await.unwrap();
    let items = "(UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])";
    let fetched: Vec<_> = imap.uid_fetch("1:*", items).await.unwrap().try_collect().await.unwrap();
    assert_eq!(fetched.len(), files.len());
    for (message, (file, octets)) in fetched.iter().zip(files.iter().zip(&sent)) {
        assert!(message.body() == Some(octets), "{} came back changed", file.display());
        assert_eq!(message.size, Some(u32::try_from(octets.len()).unwrap()));
        assert!(message.envelope().is_some() && message.bodystructure().is_some(), "{}", file.display());
    }
    // The header and the text are the message, and nothing of it is in both.
    let pieces: Vec<_> = imap.uid_fetch("1:*", "(UID BODY.PEEK[HEADER] BODY.PEEK[TEXT])").await.unwrap().try_collect().await.unwrap();
    for (message, octets) in pieces.iter().zip(&sent) {
        assert_eq!([message.header().unwrap(), message.text().unwrap()].concat(), *octets);
    }
}

//! The demo's mail: owns the promises of `demo/corpus.rs`, and refuses to look at what the hub does with the messages.
//! The module is private to the binary, so it is compiled in here a second time.

#[path = "../src/demo/corpus.rs"]
mod corpus;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use corpus::{CONFIGURATION_ITEMS, CONTACTS, DemoMessage, Expectation, SUPPORT_MAILBOX, generate, load_dir};
use mail_parser::{HeaderValue, Message, MessageParser, MimeHeaders as _};

fn template_of(message: &DemoMessage) -> &str {
    message.file.split_once('-').expect("generated names are NNNN-template.eml").1
}

fn parse(message: &DemoMessage) -> Message<'_> {
    MessageParser::default().parse(&message.bytes).unwrap_or_else(|| panic!("{} does not parse", message.file))
}

fn text_of(message: &Message<'_>) -> String {
    (0..message.text_body_count()).filter_map(|i| message.body_text(i)).collect()
}

fn find<'a>(messages: &'a [DemoMessage], template: &str) -> &'a DemoMessage {
    messages.iter().find(|m| template_of(m) == format!("{template}.eml")).unwrap_or_else(|| panic!("no {template} generated"))
}

#[test]
fn same_seed_same_bytes_and_another_seed_other_bytes() {
    assert_eq!(generate(7, 120), generate(7, 120));
    assert_ne!(generate(7, 120), generate(8, 120));
    assert_eq!(generate(7, 0), []);
    assert_eq!(generate(7, 120)[..40], generate(7, 40)[..], "a longer run starts like a shorter one");
}

#[test]
fn messages_ids_and_names_are_distinct() {
    for seed in [0, 1, 42, u64::MAX] {
        let messages = generate(seed, 1000);
        assert_eq!(messages.len(), 1000);
        assert_eq!(messages.iter().map(|m| &m.bytes).collect::<HashSet<_>>().len(), 1000);
        assert_eq!(messages.iter().map(|m| &m.file).collect::<HashSet<_>>().len(), 1000);
        let ids: Vec<_> = messages.iter().filter_map(|m| m.message_id.as_ref()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.len() > 950, "only broken mail may lack an id, {} have one", ids.len());
    }
}

#[test]
fn two_hundred_messages_use_every_template() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/demo-mail")).unwrap();
    let on_disk: BTreeSet<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    assert!(on_disk.len() >= 24);
    for seed in 0..20 {
        let messages = generate(seed, 200);
        let used: BTreeSet<String> = messages.iter().map(|m| template_of(m).to_owned()).collect();
        assert_eq!(used, on_disk, "seed {seed}");
    }
}

#[test]
fn most_mail_is_from_people_and_little_is_broken() {
    let mut count = BTreeMap::new();
    for message in generate(3, 910) {
        *count.entry(message.expectation).or_insert(0) += 1;
    }
    let expected = [(Expectation::Ticket, 600), (Expectation::FollowUp, 150), (Expectation::AutoReply, 100), (Expectation::Broken, 60)];
    assert_eq!(count, BTreeMap::from(expected));
}

#[test]
fn no_placeholder_is_left_and_lines_end_in_crlf() {
    for message in generate(11, 200) {
        assert!(!message.bytes.windows(2).any(|w| w == b"{{" || w == b"}}"), "{}", message.file);
        let bare = message.bytes.windows(2).filter(|w| w[1] == b'\n' && w[0] != b'\r').count();
        assert_eq!(bare, 0, "{}", message.file);
    }
}

#[test]
fn follow_ups_refer_to_earlier_requests_of_the_same_person() {
    let messages = generate(5, 400);
    let mut earlier: BTreeMap<String, String> = BTreeMap::new();
    let mut deepest = 0;
    for message in &messages {
        let Some(id) = &message.message_id else { continue };
        let parsed = parse(message);
        let sender = || parsed.from().unwrap().first().unwrap().address().unwrap().to_owned();
        if message.expectation == Expectation::FollowUp {
            let refs: Vec<String> = [parsed.references(), parsed.in_reply_to()].into_iter().flat_map(ids_of).collect();
            assert!(!refs.is_empty(), "{} names no parent", message.file);
            for reference in &refs {
                assert_eq!(earlier.get(reference), Some(&sender()), "{} refers to {reference}", message.file);
            }
            deepest = deepest.max(refs.len());
        }
        if matches!(message.expectation, Expectation::Ticket | Expectation::FollowUp) {
            earlier.insert(id.clone(), sender());
        }
    }
    assert!(deepest >= 3, "threads should grow past one answer, longest reference list is {deepest}");
}

fn ids_of(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(one) => vec![one.to_string()],
        HeaderValue::TextList(many) => many.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn everything_but_broken_mail_has_sender_id_date_and_text() {
    for message in generate(9, 200).iter().filter(|m| m.expectation != Expectation::Broken) {
        let parsed = parse(message);
        assert_eq!(parsed.message_id(), message.message_id.as_deref(), "{}", message.file);
        let sender = parsed.from().and_then(|f| f.first()).and_then(|a| a.address()).unwrap_or_default();
        assert!(sender.contains('@'), "{}: {sender}", message.file);
        let machine = sender.starts_with("MAILER-DAEMON@");
        assert!(machine || CONTACTS.iter().any(|c| c.email == sender), "{}: {sender}", message.file);
        let date = parsed.date().unwrap_or_else(|| panic!("{} has no date", message.file));
        assert!(date.is_valid() && date.year == 2026, "{}: {date}", message.file);
        let text = text_of(&parsed);
        assert!(!text.trim().is_empty() && !text.contains('\u{fffd}'), "{}: {text}", message.file);
        let subject = parsed.subject().unwrap_or_default();
        assert!(!subject.is_empty() && !subject.contains("=?") && !subject.contains('\u{fffd}'), "{}: {subject}", message.file);
    }
}

#[test]
fn requests_name_one_configuration_item() {
    for message in generate(13, 200).iter().filter(|m| m.expectation == Expectation::Ticket) {
        let parsed = parse(message);
        let inner = parsed.attachments().filter_map(|part| part.message()).map(text_of).collect::<String>();
        let text = format!("{}\n{}\n{inner}", parsed.subject().unwrap_or_default(), text_of(&parsed));
        let named: Vec<_> = CONFIGURATION_ITEMS.iter().filter(|item| mentions(&text, item)).collect();
        let expected = usize::from(template_of(message) != "en-no-item.eml");
        assert_eq!(named.len(), expected, "{} names {named:?}:\n{text}", message.file);
        let to = parsed.to().and_then(|to| to.first()).and_then(|a| a.address());
        assert_eq!(to, Some(SUPPORT_MAILBOX), "{}", message.file);
    }
}

/// `item` as a whole word; a hyphen belongs to the word, as in `vm-billing-01`.
fn mentions(text: &str, item: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == item)
}

#[test]
fn charsets_and_encoded_names_survive() {
    let messages = generate(1, 200);
    let cases = [
        ("de-latin1", "Störung: Gerät antwortet nicht", "Karin Abel (Einkauf München)|Sven Gruber (Büro)", "außerdem läuft die Übertragung"),
        ("fr-windows-1252", "Problème d’accès à", "Chloé Eriksen", "« délai dépassé »"),
        ("pl-latin2", "Błąd połączenia", "Oskar Ito (księgowość)", "Dzień dobry"),
        ("ja-iso-2022-jp", "接続できません", "ヒロ・ヤンセン", "エラーは「タイムアウト」です"),
        ("zh-gb2312", "系统无法访问", "梅", "页面一直显示超时"),
        ("ar-utf8", "الخادم لا يستجيب", "فريد", "نرجو المساعدة"),
        ("he-utf8", "תקלה בשרת", "נור", "אין גישה אל"),
        ("en-emoji", "🔥 Production is on fire 🚒", "", "👩‍👩‍👧‍👦"),
    ];
    for (template, subject, names, text) in cases {
        let parsed = parse(find(&messages, template));
        assert!(parsed.subject().unwrap().starts_with(subject), "{template}: {:?}", parsed.subject());
        let name = parsed.from().and_then(|f| f.first()).and_then(|a| a.name()).unwrap_or_default();
        assert!(names.is_empty() || names.split('|').any(|n| n == name), "{template}: {name}");
        assert!(text_of(&parsed).contains(text), "{template}: {}", text_of(&parsed));
    }
}

#[test]
fn attachments_carry_their_names_and_bytes() {
    let messages = generate(2, 200);
    let attachments = |template: &str| -> Vec<(String, Vec<u8>)> {
        let parsed = parse(find(&messages, template));
        let read = parsed.attachments().map(|a| (a.attachment_name().unwrap_or_default().to_owned(), a.contents().to_vec()));
        read.collect()
    };
    let csv = attachments("en-attachment-csv");
    assert_eq!(csv[0].0, "export.csv");
    assert!(csv[0].1.starts_with(b"invoice,customer,amount,currency\r\n"));
    let two = attachments("en-two-attachments");
    assert_eq!(two.iter().map(|a| a.0.as_str()).collect::<Vec<_>>(), ["service.log", "Rückrufliste €.csv"]);
    let picture = attachments("en-screenshot-png");
    assert_eq!((picture[0].0.as_str(), &picture[0].1[..8]), ("lamp.png", &b"\x89PNG\r\n\x1a\n"[..]));
    assert_eq!(parse(find(&messages, "en-forward")).attachments().filter(|a| a.message().is_some()).count(), 1);
}

/// Header inspection of a folder must come to the expectation the generator declares, whatever the order of the threads.
#[test]
fn a_folder_of_generated_mail_is_judged_as_declared() {
    let folder = tempfile::tempdir().unwrap();
    let messages = generate(21, 300);
    for message in &messages {
        std::fs::write(folder.path().join(&message.file), &message.bytes).unwrap();
    }
    let loaded = load_dir(folder.path()).unwrap();
    assert_eq!(loaded.len(), messages.len());
    for (loaded, made) in loaded.iter().zip(&messages) {
        assert_eq!((&loaded.file, &loaded.message_id, &loaded.bytes), (&made.file, &made.message_id, &made.bytes));
        // some damage only shows below the headers; then the message looks like a request
        let looks_whole = made.expectation == Expectation::Broken && loaded.expectation == Expectation::Ticket;
        assert!(looks_whole || loaded.expectation == made.expectation, "{}: {:?}", made.file, loaded.expectation);
    }
}

#[test]
fn a_folder_with_odd_files_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("1-empty.eml", b"");
    write("2-binary", &[0, 159, 146, 150, 255, 10, 10, 58]);
    write("3-lf-only.eml", b"From: ada@acme.test\nMessage-ID: <one@acme.test>\nSubject: hi\n\ntext");
    write("4-answer.eml", b"from: b@x.test\r\nMESSAGE-ID:\r\n <two@x.test>\r\nReferences: <gone@x.test>\r\n\t<one@acme.test>\r\n\r\n");
    write("5-same-lost-parent.eml", b"From: c@x.test\r\nMessage-ID: <three@x.test>\r\nIn-Reply-To: <gone@x.test>\r\n\r\n");
    write("6-not-automatic.eml", b"From: d@x.test\r\nMessage-ID: <four@x.test>\r\nAuto-Submitted: no\r\n\r\n");
    write("7-empty-return-path.eml", b"Return-Path: <>\r\nFrom: d@x.test\r\nMessage-ID: <five@x.test>\r\n\r\n");
    write("README.md", b"not mail");
    write(".hidden", b"not mail");
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let loaded = load_dir(folder.path()).unwrap();
    let seen: Vec<_> = loaded.iter().map(|m| (m.file.as_str(), m.message_id.as_deref(), m.expectation)).collect();
    assert_eq!(
        seen,
        [
            ("1-empty.eml", None, Expectation::Broken),
            ("2-binary", None, Expectation::Broken),
            ("3-lf-only.eml", Some("one@acme.test"), Expectation::Ticket),
            ("4-answer.eml", Some("two@x.test"), Expectation::FollowUp),
            ("5-same-lost-parent.eml", Some("three@x.test"), Expectation::FollowUp),
            ("6-not-automatic.eml", Some("four@x.test"), Expectation::Ticket),
            ("7-empty-return-path.eml", Some("five@x.test"), Expectation::AutoReply),
        ]
    );
}

#[test]
fn a_missing_folder_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_dir(&folder.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn the_sandbox_knows_everybody_but_newcomers() {
    let sandbox = connector_sandbox::Sandbox::builder().start("127.0.0.1:0").await.unwrap();
    let in_crm: HashSet<String> = sandbox.hubspot().contact_emails().into_iter().collect();
    for contact in CONTACTS {
        assert_eq!(in_crm.contains(contact.email), contact.voice != "new", "{}", contact.email);
    }
}

#[test]
fn contacts_are_well_formed() {
    for contact in CONTACTS {
        assert!(contact.email.contains('@') && contact.header_name.is_ascii() && contact.first_name.is_ascii(), "{contact:?}");
    }
    assert_eq!(CONTACTS.iter().map(|c| c.email).collect::<HashSet<_>>().len(), CONTACTS.len());
    assert!(CONTACTS.iter().any(|c| c.voice == "new"), "somebody no CRM knows");
}

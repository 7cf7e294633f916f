//! What a connection says about its servers: a preset or a host, and what differs from it.
//!
//! Owns the presets and the reading of settings. Refuses secrets (they are credentials) and plaintext except on loopback.
//! Presets: fact sheet §1; hosts and ports from Thunderbird's published provider list and the providers' own help pages.

use connector_core::{CallCx, Error, Result, redact};

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    /// TLS from the first byte (RFC 8314).
    Tls,
    /// TLS after STARTTLS, or not at all: never plaintext.
    StartTls,
    /// No TLS: this machine only, and only if said.
    Plain,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
}

/// The SASL mechanism a connection insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mechanism {
    Plain,
    Login,
    XOAuth2,
    OAuthBearer,
}

impl Mechanism {
    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::XOAuth2 => "XOAUTH2",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }
}

/// A provider's servers.
#[derive(Debug)]
pub(crate) struct Preset {
    pub(crate) name: &'static str,
    pub(crate) imap: &'static str,
    pub(crate) smtp: (&'static str, u16, Security),
    /// The provider keeps a copy of what is sent by itself; another one would be a duplicate.
    pub(crate) keeps_sent: bool,
}

/// The providers that are known by name.
pub(crate) const PRESETS: [Preset; 9] = [
    Preset { name: "gmail", imap: "imap.gmail.com", smtp: ("smtp.gmail.com", 465, Security::Tls), keeps_sent: true },
    Preset { name: "outlook", imap: "outlook.office365.com", smtp: ("smtp.office365.com", 587, Security::StartTls), keeps_sent: true },
    Preset { name: "hotmail", imap: "outlook.office365.com", smtp: ("smtp-mail.outlook.com", 587, Security::StartTls), keeps_sent: true },
    Preset { name: "yahoo", imap: "imap.mail.yahoo.com", smtp: ("smtp.mail.yahoo.com", 465, Security::Tls), keeps_sent: false },
    Preset { name: "aol", imap: "imap.aol.com", smtp: ("smtp.aol.com", 465, Security::Tls), keeps_sent: false },
    Preset { name: "fastmail", imap: "imap.fastmail.com", smtp: ("smtp.fastmail.com", 465, Security::Tls), keeps_sent: false },
    Preset { name: "icloud", imap: "imap.mail.me.com", smtp: ("smtp.mail.me.com", 587, Security::StartTls), keeps_sent: false },
    Preset { name: "zoho", imap: "imap.zoho.com", smtp: ("smtp.zoho.com", 465, Security::Tls), keeps_sent: false },
    Preset { name: "gmx", imap: "imap.gmx.net", smtp: ("mail.gmx.net", 465, Security::Tls), keeps_sent: false },
];

/// Everything the settings say.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) imap: Server,
    pub(crate) smtp: Server,
    pub(crate) mechanism: Option<Mechanism>,
    /// The mailbox's own address: who mail comes from, and the user of a token.
    pub(crate) address: Option<String>,
    pub(crate) display_name: Option<String>,
    /// Whether we put what we send into the folder of sent mail.
    pub(crate) saves_sent: bool,
    pub(crate) ca_file: Option<String>,
    /// The longest message that is fetched or sent, in bytes.
    pub(crate) max_message: usize,
}

/// 25 MiB, what most providers take.
const MAX_MESSAGE: usize = 25 * 1024 * 1024;
/// The most that can be asked for.
const MAX_MESSAGE_CEILING: usize = 150 * 1024 * 1024;

impl Settings {
    /// The settings of the call's connection.
    ///
    /// # Errors
    /// [`connector_core::ErrorKind::Config`] that names the setting and what it may be.
    pub(crate) fn of(cx: &CallCx) -> Result<Self> {
        let connection = &cx.connection;
        let setting = |name: &str| connection.setting(name).map(str::trim).filter(|value| !value.is_empty());
        let base = connection.base_url.host_str().unwrap_or_default();
        let named = setting("preset").unwrap_or(base);
        let preset = PRESETS.iter().find(|preset| preset.name == named);
        if let (Some(wanted), None) = (setting("preset"), preset)
            && wanted != "custom"
        {
            let known = PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join("`, `");
            return Err(Error::config(format!("`{}` is no preset; accepted: `{known}`, `custom`", redact::printable(wanted, 40))));
        }
        // A host that is only a preset's name, or `custom`, is no server.
        let base_host = (base.contains('.') || base == "localhost" || base.starts_with('[')).then(|| base.to_owned());
        let host = |name: &str, fallback: Option<&str>| {
            let host = setting(name).map(str::to_owned).or_else(|| fallback.map(str::to_owned)).or_else(|| base_host.clone());
            host.ok_or_else(|| Error::config(format!("connection `{}` needs the setting `preset` or `{name}`", connection.id)))
        };
        let imap_security = security(setting("imap_security"), Security::Tls, "imap_security")?;
        let imap_port = port(setting("imap_port"), "imap_port")?
            .or_else(|| connection.base_url.port().filter(|_| base_host.is_some()))
            .unwrap_or(if imap_security == Security::Tls { 993 } else { 143 });
        let smtp_default = preset.map_or(Security::Tls, |preset| preset.smtp.2);
        let smtp_security = security(setting("smtp_security"), smtp_default, "smtp_security")?;
        let preset_port = preset.filter(|preset| preset.smtp.2 == smtp_security).map(|preset| preset.smtp.1);
        let smtp_port = port(setting("smtp_port"), "smtp_port")?.or(preset_port).unwrap_or(if smtp_security == Security::Tls { 465 } else { 587 });
        if smtp_port == 25 {
            return Err(Error::config("port 25 is for relays between servers, not for submission; use 465 or 587"));
        }
        let allowed = setting("allow_plaintext_loopback") == Some("true");
        if !allowed && (imap_security == Security::Plain || smtp_security == Security::Plain) {
            return Err(Error::config(
                "`none` would send the password in the clear; it is only for this machine, and then the setting `allow_plaintext_loopback: true` says so",
            ));
        }
        let address = setting("address").map(str::to_owned);
        Ok(Self {
            imap: Server { host: host("imap_host", preset.map(|preset| preset.imap))?, port: imap_port, security: imap_security },
            smtp: Server { host: host("smtp_host", preset.map(|preset| preset.smtp.0))?, port: smtp_port, security: smtp_security },
            mechanism: mechanism(setting("mechanism"))?,
            address,
            display_name: setting("display_name").map(str::to_owned),
            saves_sent: match setting("save_sent") {
                None | Some("auto") => !preset.is_some_and(|preset| preset.keeps_sent),
                Some("always") => true,
                Some("never") => false,
                Some(_) => return Err(Error::config("`save_sent` is `auto`, `always` or `never`")),
            },
            ca_file: setting("ca_file").map(str::to_owned),
            max_message: match setting("max_message_bytes") {
                None => MAX_MESSAGE,
                Some(text) => match text.parse() {
                    Ok(bytes) if (1..=MAX_MESSAGE_CEILING).contains(&bytes) => bytes,
                    _ => return Err(Error::config(format!("`max_message_bytes` is a number from 1 to {MAX_MESSAGE_CEILING}"))),
                },
            },
        })
    }
}

fn security(text: Option<&str>, otherwise: Security, name: &str) -> Result<Security> {
    match text {
        None => Ok(otherwise),
        Some("tls") => Ok(Security::Tls),
        Some("starttls") => Ok(Security::StartTls),
        Some("none") => Ok(Security::Plain),
        Some(_) => Err(Error::config(format!("`{name}` is `tls`, `starttls` or `none`"))),
    }
}

fn port(text: Option<&str>, name: &str) -> Result<Option<u16>> {
    let wrong = || Error::config(format!("`{name}` is a number from 1 to 65535"));
    text.map(|text| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)).transpose()
}

fn mechanism(text: Option<&str>) -> Result<Option<Mechanism>> {
    Ok(Some(match text {
        None | Some("auto") => return Ok(None),
        Some("plain") => Mechanism::Plain,
        Some("login") => Mechanism::Login,
        Some("xoauth2") => Mechanism::XOAuth2,
        Some("oauthbearer") => Mechanism::OAuthBearer,
        Some(_) => return Err(Error::config("`mechanism` is `auto`, `plain`, `login`, `xoauth2` or `oauthbearer`")),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_core::{Connection, ErrorKind};

    use super::*;

    fn settings(base: &str, given: &[(&str, &str)]) -> Result<Settings> {
        let connection =
            given.iter().fold(Connection::new("email", base).unwrap(), |connection, (name, value)| connection.with_setting(*name, *value));
        Settings::of(&CallCx::new(Arc::new(connection)))
    }

    fn server(host: &str, port: u16, security: Security) -> Server {
        Server { host: host.into(), port, security }
    }

    #[test]
    fn a_preset_is_all_that_is_needed() {
        let gmail = settings("https://gmail", &[("preset", "gmail")]).unwrap();
        assert_eq!(gmail.imap, server("imap.gmail.com", 993, Security::Tls));
        assert_eq!(gmail.smtp, server("smtp.gmail.com", 465, Security::Tls));
        assert!(!gmail.saves_sent, "Gmail keeps sent mail itself");
        let icloud = settings("https://icloud", &[("preset", "icloud")]).unwrap();
        assert_eq!((icloud.smtp, icloud.saves_sent), (server("smtp.mail.me.com", 587, Security::StartTls), true));
    }

    #[test]
    fn a_base_url_names_one_host_for_both_and_settings_differ_from_it() {
        let plain = settings("https://mail.example.com", &[]).unwrap();
        assert_eq!((plain.imap, plain.smtp), (server("mail.example.com", 993, Security::Tls), server("mail.example.com", 465, Security::Tls)));
        let given = [("imap_security", "starttls"), ("smtp_host", "smtp.example.com"), ("smtp_security", "starttls")];
        let other = settings("https://127.0.0.1:19143", &given).unwrap();
        assert_eq!((other.imap, other.smtp), (server("127.0.0.1", 19_143, Security::StartTls), server("smtp.example.com", 587, Security::StartTls)));
    }

    #[test]
    fn mistakes_name_the_setting() {
        for (given, said) in [
            (vec![("preset", "gmial")], "`gmial` is no preset"),
            (vec![("preset", "custom")], "needs the setting `preset` or `imap_host`"),
            (vec![("preset", "gmail"), ("imap_port", "0")], "`imap_port`"),
            (vec![("preset", "gmail"), ("smtp_port", "25")], "port 25"),
            (vec![("preset", "gmail"), ("imap_security", "none")], "allow_plaintext_loopback"),
            (vec![("preset", "gmail"), ("mechanism", "gssapi")], "`mechanism`"),
            (vec![("preset", "gmail"), ("max_message_bytes", "999999999999")], "`max_message_bytes`"),
        ] {
            let error = settings("https://custom", &given).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(said), "{given:?}: {error}");
        }
    }
}

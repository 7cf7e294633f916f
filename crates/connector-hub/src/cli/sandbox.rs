//! `sandbox`: the fake vendors alone, the mail server among them.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
};

use anyhow::Result;
use connector_sandbox::{Sandbox, mail::MailServer};

use super::Faults;
use crate::output;

/// The vendor that is not spoken to over HTTP and so has listeners of its own.
const EMAIL: &str = "email";

pub(super) async fn run(listen: SocketAddr, vendors: &[String], faults: Faults, seed: u64, as_json: bool) -> Result<ExitCode> {
    let mail = if vendors.is_empty() || vendors.iter().any(|vendor| vendor == EMAIL) { Some(mail_server(listen).await?) } else { None };
    let mut builder = Sandbox::builder().seed(seed).faults(faults.profile());
    for vendor in vendors.iter().filter(|vendor| *vendor != EMAIL) {
        builder = builder.vendor(vendor);
    }
    let sandbox = if vendors.iter().all(|vendor| vendor == EMAIL) && !vendors.is_empty() { None } else { Some(start(builder, listen).await?) };
    let mut rows = sandbox.as_ref().map(Sandbox::table).unwrap_or_default();
    rows.extend(mail.as_ref().map(MailServer::table));
    if as_json {
        output::json(&rows)?;
    } else {
        let credentials = |row: &connector_sandbox::TableRow| {
            row.credentials.iter().map(|credential| format!("{} = {}", credential.name, credential.value)).collect::<Vec<_>>().join("\n")
        };
        output::table(
            &["vendor", "base URL", "credentials for tests"],
            rows.iter().map(|row| vec![row.vendor.to_owned(), row.base_url.clone(), credentials(row)]),
        )?;
        match &sandbox {
            Some(sandbox) => eprintln!("the sandbox runs until Ctrl-C; its control API is at http://{}/_sandbox/", sandbox.addr()),
            None => eprintln!("the mail server runs until Ctrl-C"),
        }
    }
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}

async fn start(builder: connector_sandbox::Builder, listen: SocketAddr) -> Result<Sandbox> {
    builder.start(&listen.to_string()).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidInput => anyhow::anyhow!("{error}, or {EMAIL}"),
        _ => error.into(),
    })
}

/// The mail server on the two ports after the sandbox's own, or on any free ones if that is any free one too.
async fn mail_server(listen: SocketAddr) -> Result<MailServer> {
    let at = |ip: IpAddr, offset: u16| SocketAddr::new(ip, if listen.port() == 0 { 0 } else { listen.port().saturating_add(offset) });
    Ok(MailServer::builder().imap_at(at(listen.ip(), 1)).smtp_at(at(listen.ip(), 2)).start().await?)
}

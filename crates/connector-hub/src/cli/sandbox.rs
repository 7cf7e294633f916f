//! `sandbox`: the fake vendors alone.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::Result;
use connector_sandbox::Sandbox;

use super::Faults;
use crate::output;

pub(super) async fn run(listen: SocketAddr, vendors: &[String], faults: Faults, seed: u64, as_json: bool) -> Result<ExitCode> {
    let mut builder = Sandbox::builder().seed(seed).faults(faults.profile());
    for vendor in vendors {
        builder = builder.vendor(vendor);
    }
    let sandbox = builder.start(&listen.to_string()).await?;
    let rows = sandbox.table();
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
        eprintln!("the sandbox runs until Ctrl-C; its control API is at http://{}/_sandbox/", sandbox.addr());
    }
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::SUCCESS)
}

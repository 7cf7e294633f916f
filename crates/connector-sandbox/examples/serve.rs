//! The fakes alone, for another program to talk to: `cargo run -p connector-sandbox --example serve -- 127.0.0.1:8099 light`.
#![allow(clippy::print_stdout, reason = "printing the table is what this example is for")]

use connector_sandbox::{FaultProfile, Sandbox};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let faults: FaultProfile = args.next().as_deref().unwrap_or("none").parse()?;
    let sandbox = Sandbox::builder().faults(faults).start(addr).await?;
    for row in sandbox.table() {
        println!("{:<11} {}", row.vendor, row.base_url);
        for credential in row.credentials {
            println!("{:<11}   {} = {}", "", credential.name, credential.value);
        }
    }
    std::future::pending().await
}

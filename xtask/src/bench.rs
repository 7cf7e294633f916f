//! `cargo xtask bench`: the benches in release, and one table of their figures with ratios against the baseline of the same run.
//!
//! A bench prints its figures as lines `BENCH {"bench":..,"figure":..,"unit":..,"baseline":..,"ratio":..,"target":..}`; everything else it
//! prints is passed on to stderr.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::workspace::root;

/// One measured figure.
#[derive(Debug, Serialize, Deserialize)]
struct Figure {
    bench: String,
    figure: f64,
    unit: String,
    /// The same figure of the baseline, where there is one.
    baseline: Option<f64>,
    /// Figure ÷ baseline.
    ratio: Option<f64>,
    /// What was aimed at, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Whether it was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// The benches that print figures: crate and bench target.
const BENCHES: [(&str, &str); 2] = [("connectors", "figures"), ("connector-hub", INGRESS)];
/// The one that is asked for by its own name and takes options of its own.
const INGRESS: &str = "ingress";

pub(crate) fn run(json: bool, filter: Option<&str>, options: &[String]) -> Result<()> {
    let wants_ingress = filter == Some(INGRESS);
    if !options.is_empty() && !wants_ingress {
        bail!("only `bench {INGRESS}` takes options: `bench {INGRESS} --rps 1000 --secs 60 --assert p99=100ms,max=1s`");
    }
    let mut figures = Vec::new();
    for (package, bench) in BENCHES.iter().filter(|(_, bench)| filter.is_none() || (*bench == INGRESS) == wants_ingress) {
        let mut command = Command::new("cargo");
        command.args(["bench", "--locked", "--package", package, "--all-features", "--bench", bench, "--"]);
        command.args(filter.filter(|_| !wants_ingress)).args(options);
        let output = command.current_dir(root()).stderr(Stdio::inherit()).output().context("starting cargo bench")?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match line.strip_prefix("BENCH ") {
                Some(figure) => figures.push(serde_json::from_str::<Figure>(figure).with_context(|| format!("reading `{figure}`"))?),
                None => eprintln!("{line}"),
            }
        }
        if !output.status.success() {
            bail!("`cargo bench -p {package} --bench {bench}` failed");
        }
    }
    let text = serde_json::to_string_pretty(&figures)?;
    let path = root().join("target/bench.json");
    fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    if json {
        println!("{text}");
        return Ok(());
    }
    println!("{:<58} {:>12} {:<12} {:>12} {:>7}  target", "bench", "figure", "unit", "baseline", "ratio");
    for figure in &figures {
        let number = |value: Option<f64>| value.map(|value| format!("{value:.2}")).unwrap_or_default();
        let met = match figure.met {
            Some(true) => " ✓",
            Some(false) => " ✗",
            None => "",
        };
        println!(
            "{:<58} {:>12.2} {:<12} {:>12} {:>7}  {}{met}",
            figure.bench,
            figure.figure,
            figure.unit,
            number(figure.baseline),
            number(figure.ratio),
            figure.target.as_deref().unwrap_or("")
        );
    }
    Ok(())
}

//! `worker-agents config`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::settings;

#[derive(Args)]
pub(super) struct ConfigArgs {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = settings()?;
    if args.json {
        let settings: Vec<_> = config
            .settings
            .iter()
            .map(|s| json!({ "name": s.name, "value": s.value, "origin": s.origin.to_string(), "help": s.help }))
            .collect();
        println!("{}", json!({ "settings": settings, "warnings": config.warnings }));
        return Ok(ExitCode::SUCCESS);
    }
    let width = config.settings.iter().map(|setting| setting.name.len()).max().unwrap_or_default();
    for setting in &config.settings {
        let value = if setting.value.is_empty() { "(unset)" } else { &setting.value };
        println!("{:width$}  {value}  [{}]  {}", setting.name, setting.origin, setting.help);
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

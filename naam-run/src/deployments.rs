//! `naam-run deploy`, `undeploy` and `grant`.

use crate::args::{Deploy, GrantChoice};
use crate::failure::Failure;
use naamc::quantity::{at_most, counted, grouped};
use runtime::control::client::Control;
use runtime::supervisor::api;
use runtime::supervisor::records::{Binding, DeploymentRecord, Grant, Limits};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Deploys a bundle file.
pub fn deploy(control: &Control, options: &Deploy, as_json: bool) -> Result<(), Failure> {
    let bytes = std::fs::read(&options.file).map_err(|error| {
        Failure::usage(format!("{}: {error}", options.file.display()))
            .hint("build a bundle with `naamc build HANDLERS.c -o HANDLERS.naam`")
    })?;
    let mut constants = BTreeMap::new();
    for (name, text) in &options.constants {
        let value = serde_json::from_str(text).map_err(|_| {
            Failure::usage(format!("--set {name}={text}: the value is not JSON"))
                .hint("numbers as they are, text in quotes: '\"text\"'")
        })?;
        if constants.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("--set {name} is there twice")));
        }
    }
    let mut bindings = BTreeMap::new();
    for (declared, bound) in &options.bindings {
        if bindings.insert(declared.clone(), bound.clone()).is_some() {
            return Err(Failure::usage(format!("--bind {declared} is there twice")));
        }
    }
    let limits = Limits { back_edges: options.back_edges, udma_operations: options.udma_operations };
    let file = control.upload_bundle(&bytes)?.file;
    let record = control
        .deploy(&options.name, &api::Deploy { file, bindings, constants, limits, engine: options.engine.map(Into::into) })?;
    // The deployment stands: messages that need fewer operations than the bound are served.
    for handler in &record.handlers {
        if let Some(most) = handler.udma_operations_max.filter(|most| *most > u64::from(limits.udma_operations)) {
            let limit = grouped(limits.udma_operations.into());
            eprintln!(
                "warning: {}/{} may need {}: more than --udma-operations {limit}",
                record.name,
                handler.name,
                counted(most, "UDMA operation")
            );
        }
    }
    crate::print(as_json, &record, || format!("Deployed {}", describe(&record)))
}

/// A deployment as lines.
pub fn describe(deployment: &DeploymentRecord) -> String {
    let draining = if deployment.draining { ", draining" } else { "" };
    let id = deployment.bundle.get(..16).unwrap_or(&deployment.bundle);
    let mut lines = vec![format!("{}  bundle {id}{draining}", deployment.name)];
    for (declared, Binding { region, rights }) in &deployment.bindings {
        lines.push(format!("  {declared} is region {region} ({rights})"));
    }
    for (name, value) in &deployment.constants {
        lines.push(format!("  {name} = {value}"));
    }
    for handler in &deployment.handlers {
        let effects = if handler.read_only { "only reads" } else { "writes" };
        let operations = match handler.udma_operations_max {
            Some(most) => at_most(most, "UDMA operation"),
            None => "UDMA operations limited by fuel".to_owned(),
        };
        lines.push(format!("  {}/{}: {} bytes, {effects}, {operations}", deployment.name, handler.name, handler.message_bytes));
    }
    lines.join("\n")
}

/// Removes a deployment.
pub fn undeploy(control: &Control, name: &str, as_json: bool) -> Result<(), Failure> {
    control.undeploy(name)?;
    crate::print(as_json, &json!({ "undeployed": name }), || format!("Undeployed {name}."))
}

/// Grants a deployment to a user.
pub fn grant(control: &Control, tenant: &str, deployment: &str, choice: GrantChoice, as_json: bool) -> Result<(), Failure> {
    let (grant, word) = match choice {
        GrantChoice::Invoke => (Some(Grant::Invoke), "invoke"),
        GrantChoice::Direct => (Some(Grant::Direct), "direct"),
        GrantChoice::None => (None, "none"),
    };
    let user = user_id(tenant)?;
    control.grant(deployment, user, grant)?;
    let value: Value = json!({ "tenant": user, "deployment": deployment, "grant": word });
    crate::print(as_json, &value, || match grant {
        Some(_) => format!("User {user} has {word} on {deployment}."),
        None => format!("User {user} has nothing on {deployment} any more."),
    })
}

/// A user's id: the number itself, or that of a local user's name.
fn user_id(text: &str) -> Result<u32, Failure> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find_map(|line| line.strip_prefix(text)?.strip_prefix(':'));
    line.and_then(|rest| rest.split(':').nth(1)?.parse().ok()).ok_or_else(|| {
        Failure::usage(format!("there is no local user {text:?}")).hint("give the user's id: `id -u NAME` prints it")
    })
}

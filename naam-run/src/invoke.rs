//! `naam-run invoke`: one message as JSON, its reply as JSON.

use crate::args::Invoke;
use crate::failure::Failure;
use naamc::bundle::Bundle;
use naamc::diagnostic::Finding;
use runtime::client::{Error, Reply};
use runtime::control::client::Control;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::RuntimeError;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a reply may take.
const REPLY_MAX: Duration = Duration::from_secs(30);

/// Sends one message.
pub fn run(control: &Control, options: &Invoke, as_json: bool) -> Result<(), Failure> {
    let (deployment, handler) = options.handler.split_once('/').ok_or_else(|| {
        Failure::usage(format!("{:?} is not NAME/HANDLER", options.handler))
            .hint("`naam-run status` shows all handlers by these names")
    })?;
    let message: Value = serde_json::from_str(&options.message).map_err(|error| {
        Failure::usage(format!("the message is not JSON: {error}")).hint("quote it for your shell: --message '{\"key\": 7}'")
    })?;
    let target = control.target(deployment, handler)?;
    let bundle = Bundle::parse(&control.deployed_bundle(deployment)?).map_err(|finding| refused(&finding))?;
    let types = &bundle.meaning.types;
    let declared = bundle.meaning.handlers.get(usize::from(target.handler));
    let message_type = declared.filter(|declared| declared.function.name == handler).map(|declared| declared.message);
    let message_type =
        message_type.ok_or_else(|| Failure::refused("protocol", "the deployment's bundle is not the one that it was"))?;
    let body = types.from_json(message_type, &message).map_err(|finding| refused(&finding))?;
    let mut connection = Connection::open(control.address(), &ConnectionOptions::default())?;
    let reply = connection.call_within(target, None, &body, Some(REPLY_MAX)).map_err(|error| failed(&options.handler, &error))?;
    let message = types.to_json(message_type, &reply.body);
    crate::print(as_json, &report(&options.handler, &reply, &message), || describe(&reply, &message))
}

fn report(handler: &str, reply: &Reply, message: &Value) -> Value {
    json!({
        "handler": handler,
        "result": reply.result,
        "message": message,
        "place": reply.place.to_string(),
        "executor": reply.executor,
        "suspensions": reply.suspensions,
        "udma_operations": reply.udma_operations,
    })
}

fn describe(reply: &Reply, message: &Value) -> String {
    let count = |number: u32, what: &str| if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") };
    format!(
        "{}\nresult {} from {} executor {}: {}, {}",
        serde_json::to_string_pretty(message).unwrap_or_default(),
        reply.result,
        reply.place,
        reply.executor,
        count(reply.udma_operations, "UDMA operation"),
        count(reply.suspensions, "suspension"),
    )
}

fn refused(finding: &Finding) -> Failure {
    let failure = Failure::refused(&finding.code.to_string(), finding);
    match &finding.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn failed(handler: &str, error: &Error) -> Failure {
    let hint = match error {
        Error::Lost(_) | Error::Runtime(RuntimeError::Uncertain) => {
            "the cluster ended while the request was under way: look at the terminal where it ran"
        }
        Error::TimedOut => "the request is given up; `naam-run status` shows whether the executors do anything",
        _ => "",
    };
    let failure = Failure::refused("invocation-failed", format!("{handler}: {error}"));
    if hint.is_empty() { failure } else { failure.hint(hint) }
}

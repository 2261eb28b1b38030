//! `naam-run invoke`: one message as JSON, its reply as JSON.

use crate::args::Invoke;
use crate::failure::Failure;
use naamc::abi::error_meaning;
use naamc::bundle::Bundle;
use naamc::diagnostic::Finding;
use naamc::quantity::counted;
use naamc::types::json_text;
use runtime::client::{Error, Reply};
use runtime::control::client::Control;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::RuntimeError;
use runtime::supervisor::records::Limits;
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
    let record = control.deployment(deployment)?;
    let target = record.target(handler)?;
    let bundle = Bundle::parse(&control.deployed_bundle(deployment)?).map_err(|finding| refused(&finding))?;
    let types = &bundle.meaning.types;
    let declared = bundle.meaning.handlers.get(usize::from(target.handler));
    let message_type = declared.filter(|declared| declared.function.name == handler).map(|declared| declared.message);
    let message_type =
        message_type.ok_or_else(|| Failure::refused("protocol", "the deployment's bundle is not the one that it was"))?;
    let body = types.from_json(message_type, &message).map_err(|finding| refused(&finding))?;
    let has_effects = record.handlers.get(usize::from(target.handler)).is_none_or(|handler| !handler.read_only);
    let mut connection = Connection::open(control.address(), &ConnectionOptions::default())?;
    let reply = connection
        .call_within(target, None, &body, Some(REPLY_MAX))
        .map_err(|error| failed(&options.handler, record.limits, has_effects, &error))?;
    let message = types.to_json(message_type, &reply.body);
    crate::print(as_json, &report(&options.handler, &reply, &message), || {
        describe(&reply, types.size(message_type).unwrap_or(0), &message)
    })
}

fn report(handler: &str, reply: &Reply, message: &Value) -> Value {
    json!({
        "handler": handler,
        "result": reply.result,
        "reply_bytes": reply.body.len(),
        "message": message,
        "place": reply.place.to_string(),
        "executor": reply.executor,
        "suspensions": reply.suspensions,
        "udma_operations": reply.udma_operations,
    })
}

fn describe(reply: &Reply, message_bytes: u32, message: &Value) -> String {
    let meaning = error_meaning(reply.result.into()).map_or_else(String::new, |meaning| format!(" ({meaning})"));
    format!(
        "{}\nresult {}{meaning} from {} executor {}: {}, {}\nreply {} of {message_bytes} bytes",
        json_text(message),
        reply.result,
        reply.place,
        reply.executor,
        counted(reply.udma_operations.into(), "UDMA operation"),
        counted(reply.suspensions.into(), "suspension"),
        reply.body.len(),
    )
}

fn refused(finding: &Finding) -> Failure {
    let failure = Failure::refused(&finding.code.to_string(), finding);
    match &finding.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn failed(handler: &str, limits: Limits, has_effects: bool, error: &Error) -> Failure {
    let limit = |limit: u32, noun: &str, flag: &str| {
        format!("one message may use {}; deploy again with a larger `{flag} N`", counted(limit.into(), noun))
    };
    let hint = match error {
        Error::Lost(_) => "look at the terminal where the cluster ran".to_owned(),
        Error::Runtime(RuntimeError::Uncertain) => "look at what it should have changed before you send it again".to_owned(),
        Error::Runtime(RuntimeError::BackEdgesExhausted) => limit(limits.back_edges, "back edge", "--back-edges"),
        Error::Runtime(RuntimeError::UdmaOperationsExhausted) => {
            limit(limits.udma_operations, "UDMA operation", "--udma-operations")
        }
        Error::TimedOut => "the request is given up; `naam-run status` shows whether the executors do anything".to_owned(),
        _ => String::new(),
    };
    let done = match error {
        Error::Runtime(RuntimeError::Uncertain) => "",
        Error::Runtime(error) if has_effects && !error.is_refusal() => "; what it did before that stays done",
        _ => "",
    };
    let failure = Failure::refused("invocation-failed", format!("{handler}: {error}{done}"));
    if hint.is_empty() { failure } else { failure.hint(hint) }
}

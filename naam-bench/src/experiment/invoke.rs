//! A user's messages against a handler that runs: draw, send, count.

use super::clients::{Timing, bar, on_threads, processors};
use crate::args::{Invoke, MESSAGES_DEFAULT};
use crate::cluster::{busy_ns, places, rings};
use crate::invoke::client::{Answers, Client};
use crate::invoke::messages::{Encoding, MESSAGES_BYTES_MAX, Messages};
use crate::invoke::template::Template;
use crate::load::{CurrentPhase, Phase};
use crate::measurement::BusyPercent;
use crate::report::invoke::{InvokeReport, Parameters};
use crate::report::{FORMAT, Machine};
use anyhow::{Context, Result, anyhow, bail};
use naamc::bundle::Bundle;
use naamc::diagnostic::Finding;
use runtime::clock::MonotonicClock;
use runtime::control::client::Control;
use runtime::control::directory::Address;
use runtime::control::{Connection, ConnectionOptions};
use runtime::message::Target;
use runtime::supervisor::api::Status;
use runtime::waiting::Waiting;
use serde_json::Value;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of a template's file at most.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no report.
pub enum Failure {
    /// The command line or the template asks for something impossible.
    Usage(String),
    /// The experiment could not be run to its end.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(error.into())
    }
}

/// The handler as its cluster knows it.
struct Handler {
    bundle: Bundle,
    target: Target,
    bundle_id: String,
}

impl Handler {
    fn find(control: &Control, (deployment, handler): &(String, String)) -> Result<Handler> {
        let record = control.deployment(deployment)?;
        let target = record.target(handler)?;
        let bundle = Bundle::parse(&control.deployed_bundle(deployment)?).map_err(|finding| anyhow!("{}", in_words(&finding)))?;
        let declared = bundle.meaning.handlers.get(usize::from(target.handler));
        if declared.is_none_or(|declared| declared.function.name != *handler) {
            bail!("the bundle of deployment {deployment:?} is not the one that it was");
        }
        Ok(Handler { bundle, target, bundle_id: record.bundle })
    }

    fn declared(&self) -> &naamc::bundle::Handler {
        &self.bundle.meaning.handlers[usize::from(self.target.handler)]
    }

    fn request_bytes(&self) -> usize {
        self.declared().manifest.request_bytes as usize
    }
}

/// Runs the experiment.
pub fn run(options: &Invoke) -> Result<InvokeReport, Failure> {
    let json = read(options).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    let template = Template::new(&json).map_err(|error| Failure::Usage(format!("{}: {error}", options.template.display())))?;
    let control = Control::at(&Address::of(&options.cluster)?);
    let status = control.status()?;
    let handler = Handler::find(&control, &options.handler)?;
    let messages = draw(options, &template, &handler)?;
    let (answers, busy_percent) = measure(options, &control, &status, &handler, &messages)?;
    let declared = handler.declared();
    let parameters = Parameters {
        handler: format!("{}/{}", options.handler.0, options.handler.1),
        bundle: handler.bundle_id.clone(),
        template: json,
        message_bytes: declared.function.entry.body_bytes.into(),
        request_bytes: declared.manifest.request_bytes.into(),
        messages: messages.iter().map(|messages| messages.len() as u64).sum(),
        seed: options.seed,
        clients: options.clients,
        window_requests: options.window,
        transport: "shared_memory",
        engine: status.engine.clone(),
        places: places(&status),
        cluster: options.cluster.clone(),
    };
    Ok(InvokeReport::new(FORMAT, parameters, Machine::here(), &answers, &busy_percent))
}

fn read(options: &Invoke) -> Result<Value> {
    let path = &options.template;
    let length = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if length > TEMPLATE_BYTES_MAX {
        bail!("{}: {length} bytes; a template has at most {TEMPLATE_BYTES_MAX}", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The messages of every client.
fn draw(options: &Invoke, template: &Template, handler: &Handler) -> Result<Vec<Messages>, Failure> {
    let request_bytes = handler.request_bytes();
    // One of each client is as good as many if they are all the same.
    let wanted = if template.is_fixed() { Ok(options.clients) } else { wanted(options, request_bytes as u64) };
    let wanted = wanted.map_err(Failure::Usage)?;
    let encoding = Encoding { types: &handler.bundle.meaning.types, message: handler.declared().message, request_bytes };
    let progress = bar(wanted, "drawing  {wide_bar} {human_pos} of {human_len} messages");
    let before = Cell::new(0);
    let draw = |client: u64| {
        // Those of the first clients are one more if they cannot all have as many.
        let count = (wanted - client).div_ceil(options.clients);
        let drawn = |drawn| progress.set_position(before.get() + drawn);
        let messages = Messages::draw(template, &encoding, count, (client, options.clients), options.seed, drawn);
        before.set(before.get() + count);
        messages
    };
    let messages = (0..options.clients).map(draw).collect::<std::result::Result<Vec<_>, _>>();
    progress.finish_and_clear();
    messages.map_err(|finding| {
        let handler = format!("{}/{}", options.handler.0, options.handler.1);
        Failure::Usage(format!("{} does not fit the message of {handler}: {}", options.template.display(), in_words(&finding)))
    })
}

/// How many messages are drawn, for all clients together; or why that many cannot be.
fn wanted(options: &Invoke, request_bytes: u64) -> Result<u64, String> {
    let fitting = MESSAGES_BYTES_MAX / request_bytes.max(1);
    let Some(wanted) = options.messages else { return Ok(MESSAGES_DEFAULT.min(fitting)) };
    if wanted < options.clients {
        return Err(format!("--messages {wanted} are too few for {} clients: each sends at least one", options.clients));
    }
    if wanted > fitting {
        return Err(format!(
            "--messages {wanted}, of {request_bytes} bytes each, take {} MiB; all together may take {} MiB: choose {fitting} at most",
            (wanted * request_bytes) >> 20,
            MESSAGES_BYTES_MAX >> 20
        ));
    }
    Ok(wanted)
}

/// Runs all clients for the wanted time, and returns what came back and how busy the executors were.
fn measure(
    options: &Invoke,
    control: &Control,
    status: &Status,
    handler: &Handler,
    messages: &[Messages],
) -> Result<(Answers, BusyPercent)> {
    let executors: usize = status.places.iter().map(|place| place.executors.len()).sum();
    let processors = processors(options.clients as usize, executors);
    let reply_bytes = handler.declared().manifest.reply_bytes_max as usize;
    let window = options.window as u16;
    let connection_options = ConnectionOptions {
        window,
        rings: rings(window, handler.request_bytes(), reply_bytes),
        waiting: Waiting::with_own_core(!processors.is_empty()),
        numbered: false,
    };
    let connect = |_| Connection::open(control.address(), &connection_options);
    let mut connections = messages.iter().map(connect).collect::<std::result::Result<Vec<_>, _>>()?;
    let (phase, gone, clock) = (&CurrentPhase::default(), &AtomicBool::new(false), &MonotonicClock::new());
    let target = handler.target;
    let clients = connections
        .iter_mut()
        .zip(messages)
        .map(|(connection, messages)| move || Client::new(connection, target, messages, phase, gone, clock, window.into()).run());
    let seconds = Duration::from_secs_f64(options.seconds);
    let progress = bar(seconds.as_millis() as u64, "running  {wide_bar} {elapsed}");
    let busy = || control.status().ok().map(|status| busy_ns(&status));
    let mut timing = Timing::new(seconds, |to: Phase| phase.enter(to), busy);
    let answers = on_threads(clients.collect(), &processors, |started| {
        if gone.load(Ordering::Relaxed) {
            phase.enter(Phase::Stop);
            return;
        }
        timing.tick(started);
        progress.set_position(timing.elapsed().as_millis() as u64);
    });
    progress.finish_and_clear();
    if gone.load(Ordering::Relaxed) {
        bail!(
            "deployment {:?} of cluster {:?} is gone: it was removed, or deployed anew, during the run",
            options.handler.0,
            options.cluster
        );
    }
    let total = answers?.into_iter().fold(Answers::default(), |mut total, answers| {
        total.add_client(answers);
        total
    });
    Ok((total, timing.busy_percent()))
}

/// A finding with its hint.
fn in_words(finding: &Finding) -> String {
    match &finding.hint {
        Some(hint) => format!("{finding}; {hint}"),
        None => finding.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    /// A default fits, whatever a message has; a number of one's own is drawn exactly, or refused with one that would do.
    #[test]
    fn messages_fit() {
        let wanted = |arguments: &[&str], request_bytes| {
            let all = ["naam-bench", "invoke", "a/b", "--template", "t", "--clients", "3"].iter().chain(arguments);
            let Command::Invoke(options) = Arguments::parse_from(all).command else { panic!("it is invoke") };
            wanted(&options, request_bytes)
        };
        assert_eq!((wanted(&[], 16), wanted(&[], 0)), (Ok(1_000_000), Ok(1_000_000)));
        let fitting = MESSAGES_BYTES_MAX / 1096;
        assert_eq!(wanted(&[], 1096), Ok(fitting));
        assert_eq!(wanted(&["--messages", "100K"], 1096), Ok(100_000));
        assert_eq!(wanted(&["--messages", &fitting.to_string()], 1096), Ok(fitting));
        let error = wanted(&["--messages", "1M"], 1096).unwrap_err();
        assert!(error.ends_with(&format!("choose {fitting} at most")), "{error}");
        assert!(wanted(&["--messages", "2"], 16).unwrap_err().contains("too few for 3 clients"));
        assert_eq!(wanted(&["--messages", "3"], 16), Ok(3));
    }
}

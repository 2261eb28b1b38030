//! Recovery: what executors that died have left in regions is undone or finished by the handler `recover` of each deployment.
//!
//! It runs on the place's main thread, under the number of the place's first executor: if the place dies over it, others recover from that
//! number too. A place that starts recovers from all executors that died before its own serve anybody; one that runs recovers from
//! clients that are gone, while its executors serve others. Regions behind a DMA engine are reached at once: nobody waits here.

use crate::deployment::{Deployment, Handler, RECOVER};
use crate::engine::Turn;
use crate::supervisor::error::{Code, ControlError};
use crate::udma::Operation;
use naamc::activation::Activation;
use naamc::interpreter::Outcome;

/// Bytes of its message: `struct naam_recover { u32 executor; u32 done; u64 cursor; }`.
const MESSAGE_BYTES: usize = 16;
/// Calls for one dead executor that leave the cursor where it is: one that is stuck is no recovery.
const STUCK_CALLS_MAX: u32 = 1000;

/// Recovers a deployment from dead executors, as executor `own`. One without such a handler has nothing to recover.
///
/// # Errors
/// The first one, if the handler fails or does not come to an end.
pub(crate) fn recover(deployment: &Deployment, dead: &[u16], own: u16) -> Result<(), ControlError> {
    let Some(handler) = deployment.handlers().iter().find(|handler| handler.name() == RECOVER) else { return Ok(()) };
    if handler.shape().body_bytes as usize != MESSAGE_BYTES {
        return Ok(());
    }
    let mut failed = Ok(());
    for executor in dead {
        if let Err(why) = recover_from(deployment, handler, *executor, own) {
            // What the others hold is given back all the same.
            let name = deployment.name();
            failed =
                failed.and(Err(ControlError::new(Code::System, format!("recovering {name:?} from executor {executor}: {why}"))));
        }
    }
    failed
}

fn recover_from(deployment: &Deployment, handler: &Handler, executor: u16, own: u16) -> Result<(), String> {
    let mut activation = Activation::new_boxed();
    let mut message = [0; MESSAGE_BYTES];
    message[..4].copy_from_slice(&u32::from(executor).to_le_bytes());
    let mut stuck_calls = 0;
    loop {
        let cursor = message;
        let limits = deployment.limits();
        activation.begin(&message, limits.back_edges, limits.udma_operations);
        match run(deployment, handler, &mut activation, own) {
            Outcome::Finished(_) => message.copy_from_slice(&activation.body()[..MESSAGE_BYTES]),
            Outcome::Failed(failure) => return Err(format!("the handler failed: {failure:?}")),
            Outcome::Suspended => return Err("the handler stands before an operation that cannot be performed".to_owned()),
        }
        if message[4..8] != [0; 4] {
            return Ok(());
        }
        stuck_calls = if message == cursor { stuck_calls + 1 } else { 0 };
        if stuck_calls > STUCK_CALLS_MAX {
            return Err(format!("the handler got no further in {STUCK_CALLS_MAX} calls"));
        }
    }
}

/// Runs a message to its end, and performs what it waits for.
fn run(deployment: &Deployment, handler: &Handler, activation: &mut Activation, own: u16) -> Outcome {
    loop {
        let mut turn = Turn::new(deployment.regions(), u32::from(own));
        let outcome = handler.program().run(activation, &mut turn);
        if outcome != Outcome::Suspended {
            return outcome;
        }
        let helper = handler.shape().operations.get(activation.point as usize);
        let Some(operation) = helper.and_then(|helper| Operation::pending(activation, *helper)) else { return outcome };
        match deployment.regions().get(usize::from(operation.region)) {
            // Its turn was over.
            Some(region) if region.is_local() => {}
            Some(region) if activation.udma_operations_left > 0 => operation.perform(region, activation, deployment.read_only()),
            Some(_) => return Outcome::Failed(naamc::interpreter::Failure::UdmaOperationsExhausted),
            None => return outcome,
        }
    }
}

//! Recovery: what executors that died have left in regions is undone or finished by the handler `recover` of each deployment.
//!
//! It runs on the place's main thread, under the number of the place's first executor: if the place dies over it, others recover from that
//! number too. A place that starts recovers from all executors that died before its own serve anybody; one that runs recovers from
//! clients that are gone, while its executors serve others. Regions behind a DMA engine are reached at once: nobody waits here.

use crate::deployment::{Deployment, Handler, Limits, RECOVER};
use crate::engine::Turn;
use crate::memory::PAGE_BYTES;
use crate::supervisor::error::{Code, ControlError};
use crate::udma::Operation;
use naamc::activation::Activation;
use naamc::interpreter::Outcome;

/// Bytes of its message: `struct naam_recover { u32 executor; u32 done; u64 cursor; }`.
const MESSAGE_BYTES: usize = 16;
/// Calls for one dead executor at most, beside one for each page of the deployment's regions: others wait meanwhile, and where a handler
/// goes on is for the regions' words to say, which clients may have written.
const CALLS_MAX: u64 = 1000;
/// Fuel of a call: the place's, not the deployment's, which may be too little to find what was left.
const LIMITS: Limits = Limits { back_edges: 1 << 24, udma_operations: 1 << 20 };

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
    let pages: u64 = deployment.regions().iter().map(|region| region.length_bytes().div_ceil(PAGE_BYTES)).sum();
    let calls_max = CALLS_MAX + pages;
    for _ in 0..calls_max {
        activation.begin(&message, LIMITS.back_edges, LIMITS.udma_operations);
        match run(deployment, handler, &mut activation, own) {
            Outcome::Finished(_) => message.copy_from_slice(&activation.body()[..MESSAGE_BYTES]),
            Outcome::Failed(failure) => return Err(format!("the handler failed: {failure:?}")),
            Outcome::Suspended => return Err("the handler stands before an operation that cannot be performed".to_owned()),
        }
        if message[4..8] != [0; 4] {
            return Ok(());
        }
    }
    Err(format!("the handler is not done after {calls_max} calls"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::{Identity, Shape};
    use crate::engine::Program;
    use crate::memory::Region;
    use std::sync::Arc;

    /// Is never done with executor 1, fails for executor 2, and is done with all others at once.
    struct Recover;

    impl Program for Recover {
        fn run(&self, activation: &mut Activation, _: &mut Turn<'_>) -> Outcome {
            match activation.body()[0] {
                1 => activation.body_mut()[8] ^= 1,
                2 => return Outcome::Failed(naamc::interpreter::Failure::EngineFault),
                _ => activation.body_mut()[4] = 1,
            }
            Outcome::Finished(0)
        }
    }

    #[test]
    fn it_ends_and_forgets_nobody() {
        let shape = Shape { body_bytes: 16, request_bytes: 16, reply_bytes_max: 16, claims: true, operations: vec![] };
        let identity = Identity { name: "test".into(), index: 0, generation: 1 };
        let handlers = vec![Handler::new(RECOVER, shape, Arc::new(Recover))];
        let regions = vec![Region::anonymous(1 << 20).unwrap()];
        let deployment = Deployment::new(identity, handlers, regions, Limits::default());
        recover(&deployment, &[3, 4], 9).unwrap();
        let endless = recover(&deployment, &[3, 1], 9).unwrap_err();
        assert!(endless.message.contains("executor 1: the handler is not done after 1256 calls"), "{endless}");
        let failed = recover(&deployment, &[2, 1, 3], 9).unwrap_err();
        assert!(failed.message.contains("executor 2: the handler failed"), "the first: {failed}");
    }
}

//! The `wire` backend: regions of a server, reached by messages through a session of their own.

use crate::client::{Error, Session};
use crate::memory::Region;
use crate::message::{Kind, Target};
use crate::transport::shared_memory::RingLink;
use crate::udma::wire::{OPERATION_BYTES, WireOperation};
use crate::udma::{Action, Backend, Completion, NotIssued, Operation, Token};
use naamc::abi::BODY_BYTES_MAX;
use std::os::fd::BorrowedFd;

/// A region on the wire: its deployment, and its index there in place of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireRegion {
    pub(super) target: Target,
}

/// A session that carries operations.
pub(super) struct Wire {
    session: Session<RingLink>,
    /// By number, from 1.
    regions: Vec<WireRegion>,
    body: Box<[u8; BODY_BYTES_MAX]>,
}

impl Wire {
    pub(super) fn new(session: Session<RingLink>, regions: Vec<WireRegion>) -> Wire {
        Wire { session, regions, body: Box::new([0; BODY_BYTES_MAX]) }
    }
}

impl Backend for Wire {
    fn issue(&mut self, _: u64, token: Token, region: &Region, operation: &Operation, source: &[u8]) -> Result<(), NotIssued> {
        let number = region.remote_number().and_then(|number| number.checked_sub(1)).ok_or(NotIssued::Unreachable)?;
        let region = self.regions.get(number as usize).ok_or(NotIssued::Unreachable)?;
        let wire = WireOperation::of(operation).ok_or(NotIssued::Unreachable)?;
        let source = if operation.action == Action::Write { source } else { &[] };
        let body_bytes = OPERATION_BYTES + source.len();
        self.body[..OPERATION_BYTES].copy_from_slice(&wire.emit());
        self.body[OPERATION_BYTES..body_bytes].copy_from_slice(source);
        // Spread over the executors that serve operations, each of which keeps the order of its own.
        let hash = Some(u64::from(token.0));
        match self.session.send(Kind::Udma, region.target, hash, &self.body[..body_bytes], token.0.into(), false) {
            Ok(()) => Ok(()),
            Err(Error::Full) => Err(NotIssued::Full),
            Err(_) => Err(NotIssued::Unreachable),
        }
    }

    fn poll(&mut self, _: u64, completed: &mut dyn FnMut(Token, Completion<'_>)) {
        // A session that is lost says so once and then ends what was under way; operations after that are not issued.
        let _ = self.session.poll(|completion| {
            let done = match completion.outcome {
                Ok(result) => Completion::Done { result: result.into(), bytes: completion.body },
                Err(_) => Completion::Lost,
            };
            completed(Token(completion.token as u32), done);
        });
        self.session.flush();
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn arm(&mut self) -> bool {
        self.session.arm()
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.session.descriptors()
    }

    fn disarm(&mut self) {
        self.session.disarm();
    }
}

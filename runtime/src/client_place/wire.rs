//! The `wire` backend: regions of a server, reached by messages through a session of their own.

use crate::client::{Error, Session};
use crate::memory::Region;
use crate::message::{Kind, Target};
use crate::transport::Broken;
use crate::transport::shared_memory::RingLink;
use crate::udma::wire::{OPERATION_BYTES, WireOperation};
use crate::udma::{Action, Backend, Completion, NotIssued, Operation, Token};
use naamc::abi::BODY_BYTES_MAX;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A region on the wire: its deployment, and its index there in place of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireRegion {
    pub(super) target: Target,
}

/// A session that carries operations.
pub(super) struct Wire {
    /// `None` once it is lost: its node then recovers from what was left under its number.
    session: Option<Session<RingLink>>,
    works: Arc<AtomicBool>,
    /// By number, from 1.
    regions: Vec<WireRegion>,
    body: Box<[u8; BODY_BYTES_MAX]>,
}

impl Wire {
    /// Regions behind this session. `works` says whether they can still be reached.
    pub(super) fn new(session: Session<RingLink>, regions: Vec<WireRegion>, works: Arc<AtomicBool>) -> Wire {
        Wire { session: Some(session), works, regions, body: Box::new([0; BODY_BYTES_MAX]) }
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
        let session = self.session.as_mut().ok_or(NotIssued::Unreachable)?;
        match session.send(Kind::Udma, region.target, hash, &self.body[..body_bytes], token.0.into(), false) {
            Ok(()) => Ok(()),
            Err(Error::Full) => Err(NotIssued::Full),
            Err(_) => Err(NotIssued::Unreachable),
        }
    }

    fn poll(&mut self, _: u64, completed: &mut dyn FnMut(Token, Completion<'_>)) {
        let Some(session) = &mut self.session else { return };
        let mut lost = false;
        let polled = session.poll(|completion| {
            let done = match completion.outcome {
                Ok(result) => Completion::Done { result: result.into(), bytes: completion.body },
                Err(_) => {
                    lost = true;
                    Completion::Lost
                }
            };
            completed(Token(completion.token as u32), done);
        });
        session.flush();
        lost |= polled.is_err();
        if lost {
            // What is under way is lost, too; then the session ends.
            session.lose_all(Broken::Closed);
            let _ = session.poll(|completion| completed(Token(completion.token as u32), Completion::Lost));
            self.works.store(false, Ordering::Relaxed);
            self.session = None;
        }
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn arm(&mut self) -> bool {
        self.session.as_mut().is_none_or(Session::arm)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.session.as_ref().map_or_else(Vec::new, Session::descriptors)
    }

    fn disarm(&mut self) {
        if let Some(session) = &mut self.session {
            session.disarm();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Header, RuntimeError};
    use crate::transport::Link;
    use crate::transport::shared_memory::RingSizes;
    use crate::udma::Location;
    use crate::waiting::Waiting;
    use std::num::NonZeroU32;

    /// After one operation that ended without a result all others end too, those whose answer never comes included: no message waits.
    #[test]
    fn what_is_under_way_beside_a_lost_operation_is_lost() {
        let (mut server, client) = RingLink::pair(RingSizes::default()).unwrap();
        let session = Session::new(1, 2, vec![(1, client)], None, Waiting { spin_us: 0 });
        let works = Arc::new(AtomicBool::new(true));
        let mut wire = Wire::new(session, vec![WireRegion { target: Target::default() }], works.clone());
        let region = Region::remote(NonZeroU32::MIN, 64);
        let location = Location::Activation(0);
        let operation = Operation { region: 0, offset: 0, action: Action::Read, location, length_bytes: 8 };
        for token in [3, 4] {
            wire.issue(0, Token(token), &region, &operation, &[]).unwrap();
        }
        wire.poll(0, &mut |token, _| panic!("{token:?} has no answer yet"));
        let asked = Header::parse(&server.next().unwrap().unwrap()).unwrap();
        let error = Some(RuntimeError::NotGranted);
        server.send(&Header { kind: Kind::Reply, error, body_bytes: 0, ..asked }.emit(), &[], &[]);
        server.flush();
        let mut lost = Vec::new();
        wire.poll(0, &mut |token, completion| {
            assert!(matches!(completion, Completion::Lost), "{completion:?}");
            lost.push(token.0);
        });
        lost.sort_unstable();
        assert_eq!(lost, [3, 4]);
        assert!(!works.load(Ordering::Relaxed));
        assert_eq!(wire.issue(0, Token(5), &region, &operation, &[]), Err(NotIssued::Unreachable));
    }
}

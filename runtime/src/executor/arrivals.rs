//! What an executor takes in beside requests, from sessions with a direct grant: UDMA operations of clients that run handlers themselves,
//! and continuations of messages that they started.
//!
//! Both are authority over a deployment's data, not only its handlers: a continuation that enters behind a lock is a raw write. So neither is
//! looked at before the grant is.

use super::admission::{Declined, begin, current_deployment, find, judge, next_execution};
use super::{Executor, Message, UnderWay, reply_header, request, send};
use crate::message::{Header, Kind, Origin, RuntimeError};
use crate::session::{Answer, Owner, Standing};
use crate::transport::{Broken, Link, body_record_bytes, record_bytes};
use crate::udma::Action;
use crate::udma::wire::{OPERATION_BYTES, WireOperation};
use naamc::abi::{EINVAL, Rights};
use naamc::continuation;

impl<L: Link> Executor<L> {
    /// Deals with the message at the front of a link, which was no well-formed request.
    #[inline(never)]
    pub(super) fn admit_other(&mut self, session: usize, now_ns: u64) -> Result<bool, Broken> {
        let Some(Some(state)) = self.sessions.get_mut(session) else { return Ok(false) };
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let Ok(header) = Header::parse(&words) else {
            return self.decline(session, Declined::Refused(RuntimeError::Malformed));
        };
        let origin = Origin::of_header(&words);
        let arrived = match header.kind {
            Kind::Udma => self.serve_udma(session, &header, &origin),
            Kind::Continuation => self.take_up(session, &header, &origin, now_ns),
            Kind::Request | Kind::Reply => Ok(Err(Declined::Refused(RuntimeError::Malformed))),
        };
        match arrived? {
            Ok(()) => Ok(true),
            Err(declined) => self.decline(session, declined),
        }
    }

    /// Performs a client's UDMA operation, now, and answers it.
    fn serve_udma(&mut self, session: usize, header: &Header, origin: &Origin) -> Result<Result<(), Declined>, Broken> {
        let Executor { sessions, deployments, current, options, answer_body, counters, last_execution, .. } = self;
        let refused = |error| Ok(Err(Declined::Refused(error)));
        let Some(Some(state)) = sessions.get_mut(session) else { return Ok(Ok(())) };
        let target = header.target;
        if !state.session.grants.may_reach(target.deployment) {
            return refused(RuntimeError::NotGranted);
        }
        let Some(found) = current_deployment(deployments, current, target) else {
            return refused(RuntimeError::UnknownDeployment);
        };
        let Some((region, rights)) = found.deployment.region(usize::from(target.handler)) else {
            return refused(RuntimeError::RegionUnreachable);
        };
        let body_bytes = usize::from(header.body_bytes);
        state.session.link.copy(0, &mut answer_body[..body_bytes]);
        let Some(operation) =
            WireOperation::parse(&answer_body[..body_bytes]).filter(|_| header.slot < state.session.slots.slots())
        else {
            return refused(RuntimeError::Malformed);
        };
        let needed = match operation.action {
            Action::Read => Rights::READ,
            Action::Write => Rights::WRITE,
            Action::CompareSwap { .. } | Action::FetchAdd { .. } => Rights::ATOMIC,
        };
        if !rights.contains(needed) {
            return refused(RuntimeError::NotGranted);
        }
        let room = state.reserved_bytes + body_record_bytes(operation.answer_bytes());
        if state.session.link.room_bytes(room)? < room {
            let never = body_record_bytes(operation.answer_bytes()) > state.session.link.capacity_bytes();
            return Ok(Err(if never { Declined::Refused(RuntimeError::ReplyTooLong) } else { Declined::NoRoom }));
        }
        let owner = Owner { executor: options.number, place: options.place, execution: next_execution(last_execution) };
        let is_recorded = operation.has_effect() || request(origin).is_recorded();
        if is_recorded {
            match state.session.slots.claim(request(origin), owner) {
                Standing::Unclaimed => {}
                standing => return Ok(Err(Declined::of(standing))),
            }
        }
        let mut old = 0u64;
        let result = match operation.action {
            Action::Read => region.read(operation.offset, &mut answer_body[..operation.length_bytes as usize]),
            Action::Write => region.write(operation.offset, &answer_body[OPERATION_BYTES..body_bytes]),
            Action::CompareSwap { expected, desired } => region.compare_swap(operation.offset, expected, desired, &mut old),
            Action::FetchAdd { addend } => region.fetch_add(operation.offset, addend, &mut old),
        };
        if matches!(operation.action, Action::CompareSwap { .. } | Action::FetchAdd { .. }) {
            answer_body[..8].copy_from_slice(&old.to_le_bytes());
        }
        debug_assert!(result >= -EINVAL, "results fit the reply");
        let answer_bytes = if result == 0 { operation.answer_bytes() } else { 0 };
        let outcome = Ok(result as i32);
        let answer = Answer { owner, outcome, body_bytes: answer_bytes as u16, suspensions: 0, udma_operations: 1 };
        let body = &answer_body[..answer_bytes];
        if !is_recorded || state.session.slots.finish(request(origin), &answer, body) {
            send(state, &reply_header(&answer, origin, state.session.id), body);
        }
        counters.requests += 1;
        counters.results += 1;
        counters.udma_operations += 1;
        state.session.link.advance();
        Ok(Ok(()))
    }

    /// Takes up a message that began elsewhere, and runs it.
    fn take_up(&mut self, session: usize, header: &Header, origin: &Origin, now_ns: u64) -> Result<Result<(), Declined>, Broken> {
        let Executor { sessions, deployments, current, handlers, pool, counters, answer_body, last_execution, .. } = self;
        let refused = |error| Ok(Err(Declined::Refused(error)));
        let Some(Some(state)) = sessions.get_mut(session) else { return Ok(Ok(())) };
        if !state.session.grants.may_reach(header.target.deployment) {
            return refused(RuntimeError::NotGranted);
        }
        let entry = match find(state, deployments, current, header.target) {
            Ok(entry) => entry,
            Err(error) => return refused(error),
        };
        let Some(Some(served)) = handlers.get_mut(entry as usize) else { return Ok(Ok(())) };
        if let Err(declined) = judge(state, served, origin)? {
            return Ok(Err(declined));
        }
        // What no proof is known of has no continuations.
        let Some(proof) = served.handler.proof() else { return refused(RuntimeError::BadContinuation) };
        let (body_bytes, start) = (usize::from(header.body_bytes), header.continuation_offset());
        let end = start + usize::from(header.continuation_bytes);
        state.session.link.copy(0, &mut answer_body[..end]);
        let Some(index) = pool.free.pop() else { return Ok(Ok(())) };
        let Message { under_way, activation } = &mut pool.messages[index as usize];
        if continuation::decode(proof, &answer_body[start..end], &answer_body[..body_bytes], activation).is_err() {
            pool.free.push(index);
            return refused(RuntimeError::BadContinuation);
        }
        activation.back_edges_left = header.back_edges_left.min(served.limits.back_edges);
        activation.udma_operations_left = header.udma_operations_left.min(served.limits.udma_operations);
        // What it has cost so far is its sender's word, and goes into the reply.
        (activation.suspensions, activation.udma_operations) = (header.suspensions, header.udma_operations);
        state.session.link.advance();
        begin(state, served);
        let (execution, claims) = (next_execution(last_execution), served.claims(origin));
        let brought = (header.suspensions, header.udma_operations);
        *under_way = UnderWay::starting(*origin, execution, brought, (session as u32, entry), claims);
        counters.requests += 1;
        self.run(index, now_ns);
        Ok(Ok(()))
    }

    /// Sends a message that stands before an operation back over its link, as a continuation. False if it has to stay: it is claimed, its
    /// session has no direct grant, native Rust has no continuations, or there is no room.
    pub(super) fn leave(&mut self, index: u32) -> bool {
        let Executor { pool, sessions, handlers, counters, answer_body, .. } = self;
        let Message { under_way, activation } = &pool.messages[index as usize];
        let (Some(Some(state)), Some(Some(served))) =
            (sessions.get_mut(under_way.session as usize), handlers.get_mut(under_way.handler as usize))
        else {
            return false;
        };
        let is_claimed = served.claims(&under_way.origin) && !under_way.to_claim;
        if is_claimed || !state.session.grants.may_reach(under_way.origin.target().deployment) {
            return false;
        }
        let encoded = served.handler.proof().and_then(|proof| continuation::encode(proof, activation, &mut answer_body[..]));
        let Some(continuation_bytes) = encoded else { return false };
        let origin = &under_way.origin;
        let header = Header {
            kind: Kind::Continuation,
            session: state.session.id,
            continuation_bytes: continuation_bytes as u16,
            back_edges_left: activation.back_edges_left,
            udma_operations_left: activation.udma_operations_left,
            suspensions: activation.suspensions,
            udma_operations: activation.udma_operations,
            ..Header::request(
                origin.target(),
                origin.slot(),
                origin.sequence(),
                origin.flow(),
                served.handler.shape().body_bytes as u16,
            )
        };
        let reserved_bytes = state.reserved_bytes - served.reserved_bytes;
        let room = reserved_bytes + record_bytes(header.message_bytes());
        if state.closing || !matches!(state.session.link.room_bytes(room), Ok(free) if free >= room) {
            return false;
        }
        let body = &activation.body()[..served.handler.shape().body_bytes as usize];
        state.session.link.send(&header.emit(), body, &answer_body[..continuation_bytes]);
        (state.reserved_bytes, state.under_way) = (reserved_bytes, state.under_way - 1);
        served.under_way -= 1;
        let (suspensions, udma_operations) = under_way.done_here(activation);
        counters.suspensions += u64::from(suspensions);
        counters.udma_operations += u64::from(udma_operations);
        pool.free.push(index);
        true
    }
}

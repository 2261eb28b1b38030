//! What an executor takes in: messages are judged here before they touch an activation.

use super::{BATCH_MAX, DeploymentState, Executor, NONE, SessionState, UnderWay, reply_header, reservation_bytes, send};
use crate::deployment::{Handler, Limits};
use crate::message::{Header, Kind, Place, RuntimeError, Target};
use crate::session::{Answer, Owner, Request, Standing};
use crate::transport::{Broken, Link, body_record_bytes};
use naamc::abi::BODY_BYTES_MAX;
use naamc::activation::{Activation, POINT_START};

/// Why the message at the front of a link does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declined {
    /// Its answer has no room now: it stays there.
    NoRoom,
    /// It is a duplicate of one under way, or an old one: it goes without a trace.
    Stale,
    /// It was answered before, and gets the same answer again.
    Answered,
    /// It is refused.
    Refused(RuntimeError),
}

/// A message that may start.
struct Accepted<'a> {
    /// Index of its deployment among the executor's.
    entry: u32,
    deployment: &'a mut DeploymentState,
    /// Room to keep for its answer.
    reserved_bytes: usize,
}

impl<L: Link> Executor<L> {
    /// Takes new messages from all links in turn, and runs each until it first suspends. Returns how many messages were dealt with.
    pub(super) fn admit(&mut self, now_ns: u64) -> usize {
        let count = self.sessions.len();
        if count == 0 {
            return 0;
        }
        self.first_session = (self.first_session + 1) % count;
        let mut admitted = 0;
        for step in 0..count {
            let session = (self.first_session + step) % count;
            let Some(state) = self.sessions[session].as_mut().filter(|state| !state.closing) else { continue };
            state.wants_room = false;
            while admitted < BATCH_MAX && !self.pool.free.is_empty() {
                match self.admit_one(session, now_ns) {
                    Ok(true) => admitted += 1,
                    Ok(false) => break,
                    Err(_) => {
                        // The client broke its own link: nobody else is concerned.
                        if let Some(state) = &mut self.sessions[session] {
                            state.closing = true;
                        }
                        break;
                    }
                }
            }
        }
        admitted
    }

    /// Deals with the message at the front of a link, if there is one that does not have to wait.
    #[inline]
    fn admit_one(&mut self, session: usize, now_ns: u64) -> Result<bool, Broken> {
        let Executor { sessions, deployments, current, pool, counters, last_execution, .. } = self;
        let Some(state) = &mut sessions[session] else { return Ok(false) };
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let Ok(header) = Header::parse(&words) else {
            return self.decline(session, Declined::Refused(RuntimeError::Malformed));
        };
        let Accepted { entry, deployment, reserved_bytes } = match judge(state, deployments, current, &header)? {
            Ok(accepted) => accepted,
            Err(declined) => return self.decline(session, declined),
        };
        let Some(index) = pool.free.pop() else { return Ok(false) };
        let handler = &deployment.deployment.handlers()[usize::from(header.target.handler)];
        let shape = handler.shape();
        let activation = &mut pool.activations[index as usize];
        prepare(activation, handler, deployment.deployment.limits(), &header);
        // Copies what arrived, and zeroes what the message before left behind that.
        let arrived = usize::from(header.body_bytes);
        let used = arrived.max(activation.body_used as usize).min(BODY_BYTES_MAX);
        state.session.link.copy(0, &mut activation.body_mut()[..used]);
        activation.body_used = handler.body_used(arrived);
        state.session.link.advance();
        state.reserved_bytes += reserved_bytes;
        state.under_way += 1;
        deployment.under_way += 1;
        pool.under_way[index as usize] = UnderWay {
            session: session as u32,
            deployment: entry,
            target: header.target,
            request: request(&header),
            flow: header.flow,
            execution: next_execution(last_execution),
            reserved_bytes: reserved_bytes as u32,
            reply_bytes_max: shape.reply_bytes_max,
            claimed: false,
            prefetched: false,
            operation: None,
        };
        counters.requests += 1;
        self.run(index, now_ns);
        Ok(true)
    }

    /// Deals with a message that does not start: the one at the front of its link, whose header is looked at again, so that the usual way
    /// has no need to keep it. False if it stays where it is.
    #[cold]
    fn decline(&mut self, session: usize, declined: Declined) -> Result<bool, Broken> {
        let Executor { sessions, counters, answer_body, .. } = self;
        let Some(state) = &mut sessions[session] else { return Ok(false) };
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let header = Header::parse(&words).ok();
        let answer = match (declined, header) {
            (Declined::NoRoom, _) => {
                state.wants_room = true;
                return Ok(false);
            }
            (Declined::Answered, Some(header)) => state.session.slots.answer(request(&header), &mut answer_body[..]),
            (Declined::Refused(error), _) => Some(refusal(error)),
            _ => None,
        };
        if let Some(answer) = answer {
            let room = state.reserved_bytes + body_record_bytes(usize::from(answer.body_bytes));
            if state.session.link.room_bytes(room)? < room {
                state.wants_room = true;
                return Ok(false);
            }
            let (slot, sequence) = words.return_address();
            let (target, flow) = header.map_or((Target::default(), 0), |header| (header.target, header.flow));
            let reply = reply_header(&answer, Request { slot, sequence }, target, flow, state.session.id);
            send(state, &reply, &answer_body[..usize::from(answer.body_bytes)]);
        }
        match declined {
            Declined::Refused(_) => counters.errors += 1,
            _ => counters.duplicates += 1,
        }
        counters.requests += 1;
        state.session.link.advance();
        Ok(true)
    }
}

/// A number that is not 0 and comes again after 2^64 others only (a Weyl sequence): where it begins is random, so that those of other
/// executors differ.
#[inline]
fn next_execution(last: &mut u64) -> u64 {
    *last = last.wrapping_add(0x9e37_79b9_7f4a_7c15);
    (*last).max(1)
}

/// The answer to a message that is refused.
fn refusal(error: RuntimeError) -> Answer {
    Answer {
        owner: Owner { executor: 0, place: Place::None, execution: 0 },
        outcome: Err(error),
        body_bytes: 0,
        suspensions: 0,
        udma_operations: 0,
    }
}

/// Decides about a well-formed message.
#[inline]
fn judge<'a, L: Link>(
    state: &mut SessionState<L>,
    deployments: &'a mut [Option<DeploymentState>],
    current: &[u32],
    header: &Header,
) -> Result<Result<Accepted<'a>, Declined>, Broken> {
    let refused = |error| Ok(Err(Declined::Refused(error)));
    match header.kind {
        Kind::Request => {}
        // A continuation is authority, and no session of this place has a direct grant.
        Kind::Continuation => return refused(RuntimeError::NotGranted),
        Kind::Reply => return refused(RuntimeError::Malformed),
    }
    if !state.session.grants.may_invoke(header.target.deployment) {
        return refused(RuntimeError::NotGranted);
    }
    let entry = current.get(usize::from(header.target.deployment)).copied().unwrap_or(NONE);
    let Some(Some(deployment)) = deployments.get_mut(entry as usize) else {
        return refused(RuntimeError::UnknownDeployment);
    };
    if deployment.deployment.generation() != header.target.generation {
        return refused(RuntimeError::UnknownDeployment);
    }
    let Some(handler) = deployment.deployment.handlers().get(usize::from(header.target.handler)) else {
        return refused(RuntimeError::UnknownHandler);
    };
    let shape = handler.shape();
    if header.slot >= state.session.slots.slots() || u32::from(header.body_bytes) > shape.body_bytes {
        return refused(RuntimeError::Malformed);
    }
    if shape.claims {
        match state.session.slots.standing(request(header)) {
            Standing::Unclaimed => {}
            Standing::Running | Standing::Superseded => return Ok(Err(Declined::Stale)),
            Standing::Uncertain => return refused(RuntimeError::Uncertain),
            Standing::Occupied => return refused(RuntimeError::Busy),
            Standing::Done => return Ok(Err(Declined::Answered)),
        }
    }
    let reserved_bytes = reservation_bytes(shape.reply_bytes_max);
    let room = state.reserved_bytes + reserved_bytes;
    if state.session.link.room_bytes(room)? < room {
        let never = reserved_bytes > state.session.link.capacity_bytes();
        return Ok(Err(if never { Declined::Refused(RuntimeError::ReplyTooLong) } else { Declined::NoRoom }));
    }
    Ok(Ok(Accepted { entry, deployment, reserved_bytes }))
}

#[inline]
fn request(header: &Header) -> Request {
    Request { slot: header.slot, sequence: header.sequence }
}

/// Sets everything in an activation that a fresh message does not bring along. Fuel is what the sender asks for, lowered to the limits.
#[inline]
fn prepare(activation: &mut Activation, handler: &Handler, limits: Limits, header: &Header) {
    activation.point = POINT_START;
    activation.completed = 0;
    activation.completion = 0;
    activation.back_edges_left = header.back_edges_left.min(limits.back_edges);
    activation.udma_operations_left = header.udma_operations_left.min(limits.udma_operations);
    activation.reply_bytes = handler.shape().body_bytes;
    activation.udma_operations = 0;
    activation.suspensions = 0;
}

//! What an executor takes in: messages are judged here before they touch an activation.

use super::{BATCH_MAX, DeploymentState, Executor, NONE, SessionState, UnderWay, reply_header, reservation_bytes, send};
use crate::deployment::{Handler, Limits};
use crate::message::{Header, HeaderWords, Kind, Place, RuntimeError, Target};
use crate::session::{Answer, Owner, Request, Standing};
use crate::transport::{Broken, Link, body_record_bytes};
use naamc::abi::BODY_BYTES_MAX;
use naamc::activation::{Activation, POINT_START};

/// What becomes of the message at the front of a link.
enum Verdict<'a> {
    /// It stays there: its answer has no room now.
    Stays,
    /// It is gone without a trace: a duplicate of one under way, or an old one.
    Dropped,
    /// It is refused.
    Refused(RuntimeError),
    /// It was answered before: here is the answer again, whose body the executor's buffer holds.
    Answered(Answer),
    /// It starts.
    Starts {
        /// Index among the executor's deployments.
        entry: u32,
        deployment: &'a mut DeploymentState,
        /// Room to keep for its answer.
        reserved_bytes: usize,
    },
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
    fn admit_one(&mut self, session: usize, now_ns: u64) -> Result<bool, Broken> {
        let execution = self.next_execution();
        let Executor { sessions, deployments, current, pool, counters, answer_body, .. } = self;
        let Some(state) = sessions[session].as_mut().filter(|state| !state.closing) else { return Ok(false) };
        state.wants_room = false;
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let header = Header::parse(&words);
        let verdict = match &header {
            Err(_) => refuses(state, RuntimeError::Malformed)?,
            Ok(header) => judge(state, deployments, current, answer_body, header)?,
        };
        match (verdict, header) {
            (Verdict::Stays, _) => {
                state.wants_room = true;
                return Ok(false);
            }
            (Verdict::Starts { entry, deployment, reserved_bytes }, Ok(header)) => {
                let Some(index) = pool.free.pop() else { return Ok(false) };
                let handler = &deployment.deployment.handlers()[usize::from(header.target.handler)];
                let activation = &mut pool.activations[index as usize];
                prepare(activation, handler, deployment.deployment.limits(), &header);
                // Copies what arrived and zeroes the rest.
                state.session.link.copy(0, &mut activation.body_mut()[..handler.shape().body_bytes as usize]);
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
                    execution,
                    reserved_bytes: reserved_bytes as u32,
                    claimed: false,
                    prefetched: false,
                    operation: None,
                };
                counters.requests += 1;
                self.run(index, now_ns);
                return Ok(true);
            }
            (Verdict::Answered(answer), Ok(header)) => {
                counters.duplicates += 1;
                let reply = reply_header(&answer, request(&header), header.target, header.flow, state.session.id);
                send(state, &reply, &answer_body[..usize::from(answer.body_bytes)]);
            }
            (Verdict::Refused(error), header) => {
                counters.errors += 1;
                refuse(state, &words, header.ok().as_ref(), error);
            }
            _ => counters.duplicates += 1,
        }
        counters.requests += 1;
        state.session.link.advance();
        Ok(true)
    }

    /// A random number that is not 0 (SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
    fn next_execution(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

/// Refuses a message, once there is room to say so.
#[cold]
fn refuses<'a, L: Link>(state: &mut SessionState<L>, error: RuntimeError) -> Result<Verdict<'a>, Broken> {
    let room = state.reserved_bytes + body_record_bytes(0);
    let fits = state.session.link.room_bytes(room)? >= room;
    Ok(if fits { Verdict::Refused(error) } else { Verdict::Stays })
}

/// Decides about a well-formed message.
#[inline]
fn judge<'a, L: Link>(
    state: &mut SessionState<L>,
    deployments: &'a mut [Option<DeploymentState>],
    current: &[u32],
    answer_body: &mut [u8; BODY_BYTES_MAX],
    header: &Header,
) -> Result<Verdict<'a>, Broken> {
    match header.kind {
        Kind::Request => {}
        // A continuation is authority, and no session of this place has a direct grant.
        Kind::Continuation => return refuses(state, RuntimeError::NotGranted),
        Kind::Reply => return refuses(state, RuntimeError::Malformed),
    }
    if !state.session.grants.may_invoke(header.target.deployment) {
        return refuses(state, RuntimeError::NotGranted);
    }
    let entry = current.get(usize::from(header.target.deployment)).copied().unwrap_or(NONE);
    let Some(Some(deployment)) = deployments.get_mut(entry as usize) else {
        return refuses(state, RuntimeError::UnknownDeployment);
    };
    if deployment.deployment.generation() != header.target.generation {
        return refuses(state, RuntimeError::UnknownDeployment);
    }
    let Some(handler) = deployment.deployment.handlers().get(usize::from(header.target.handler)) else {
        return refuses(state, RuntimeError::UnknownHandler);
    };
    let shape = handler.shape();
    if header.slot >= state.session.slots.slots() || u32::from(header.body_bytes) > shape.body_bytes {
        return refuses(state, RuntimeError::Malformed);
    }
    if shape.claims {
        match state.session.slots.standing(request(header)) {
            Standing::Unclaimed => {}
            Standing::Running | Standing::Superseded => return Ok(Verdict::Dropped),
            Standing::Uncertain => return refuses(state, RuntimeError::Uncertain),
            Standing::Occupied => return refuses(state, RuntimeError::Busy),
            Standing::Done => return answered(state, request(header), answer_body),
        }
    }
    let reserved_bytes = reservation_bytes(shape.reply_bytes_max);
    if reserved_bytes > state.session.link.capacity_bytes() {
        return refuses(state, RuntimeError::ReplyTooLong);
    }
    let room = state.reserved_bytes + reserved_bytes;
    if state.session.link.room_bytes(room)? < room {
        return Ok(Verdict::Stays);
    }
    Ok(Verdict::Starts { entry, deployment, reserved_bytes })
}

/// Answers a duplicate from the record, once there is room.
#[cold]
fn answered<'a, L: Link>(
    state: &mut SessionState<L>,
    request: Request,
    answer_body: &mut [u8; BODY_BYTES_MAX],
) -> Result<Verdict<'a>, Broken> {
    let Some(answer) = state.session.slots.answer(request, &mut answer_body[..]) else { return Ok(Verdict::Dropped) };
    let room = state.reserved_bytes + body_record_bytes(usize::from(answer.body_bytes));
    let fits = state.session.link.room_bytes(room)? >= room;
    Ok(if fits { Verdict::Answered(answer) } else { Verdict::Stays })
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

/// Answers a message with an error, as far as its header can be believed.
fn refuse<L: Link>(state: &mut SessionState<L>, bytes: &HeaderWords, header: Option<&Header>, error: RuntimeError) {
    let (slot, sequence) = bytes.return_address();
    let answer = Answer {
        owner: Owner { executor: 0, place: Place::None, execution: 0 },
        outcome: Err(error),
        body_bytes: 0,
        suspensions: 0,
        udma_operations: 0,
    };
    let (target, flow) = header.map_or((Target::default(), 0), |header| (header.target, header.flow));
    let reply = reply_header(&answer, Request { slot, sequence }, target, flow, state.session.id);
    send(state, &reply, &[]);
}

//! What an executor takes in: messages are judged here before they touch an activation.

use super::{BATCH_MAX, Executor, NONE, SessionState, UnderWay, reply_header, reservation_bytes, send};
use crate::deployment::{Handler, Limits};
use crate::message::{Header, HeaderWords, Kind, Place, RuntimeError, Target};
use crate::session::{Answer, Owner, Request, Standing};
use crate::transport::{Broken, Link, body_record_bytes};
use naamc::activation::{Activation, POINT_START};

/// What becomes of the message at the front of a link.
enum Verdict {
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
        deployment: u32,
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
        let Some(state) = self.sessions[session].as_mut().filter(|state| !state.closing) else { return Ok(false) };
        state.wants_room = false;
        let Some(bytes) = state.session.link.next()? else { return Ok(false) };
        let header = Header::parse(&bytes);
        let verdict = match &header {
            Err(_) => Verdict::Refused(RuntimeError::Malformed),
            Ok(header) => self.judge(session, header)?,
        };
        let Some(state) = self.sessions[session].as_mut() else { return Ok(false) };
        if let Verdict::Stays = verdict {
            state.wants_room = true;
            return Ok(false);
        }
        self.counters.requests += 1;
        match (verdict, header) {
            (Verdict::Starts { deployment, reserved_bytes }, Ok(header)) => {
                let index = self.start(session, deployment, reserved_bytes, &header);
                if let Some(index) = index {
                    self.run(index, now_ns);
                }
            }
            (Verdict::Answered(answer), Ok(header)) => {
                self.counters.duplicates += 1;
                let reply = reply_header(&answer, request(&header), header.target, header.flow, state.session.id);
                send(state, &reply, &self.answer_body[..usize::from(answer.body_bytes)]);
                state.session.link.advance();
            }
            (Verdict::Refused(error), header) => {
                let room = state.reserved_bytes + body_record_bytes(0);
                if state.session.link.room_bytes(room)? < room {
                    self.counters.requests -= 1;
                    state.wants_room = true;
                    return Ok(false);
                }
                self.counters.errors += 1;
                refuse(state, &bytes, header.ok().as_ref(), error);
                state.session.link.advance();
            }
            _ => {
                self.counters.duplicates += 1;
                state.session.link.advance();
            }
        }
        Ok(true)
    }

    /// Decides about a well-formed message.
    fn judge(&mut self, session: usize, header: &Header) -> Result<Verdict, Broken> {
        let Some(state) = self.sessions[session].as_mut() else { return Ok(Verdict::Dropped) };
        let refused = |error| Ok(Verdict::Refused(error));
        match header.kind {
            Kind::Request => {}
            // A continuation is authority, and no session of this place has a direct grant.
            Kind::Continuation => return refused(RuntimeError::NotGranted),
            Kind::Reply => return refused(RuntimeError::Malformed),
        }
        if !state.session.grants.may_invoke(header.target.deployment) {
            return refused(RuntimeError::NotGranted);
        }
        let entry = self.current.get(usize::from(header.target.deployment)).copied().unwrap_or(NONE);
        let Some(Some(deployment)) = self.deployments.get(entry as usize) else { return refused(RuntimeError::UnknownDeployment) };
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
                Standing::Running | Standing::Superseded => return Ok(Verdict::Dropped),
                Standing::Uncertain => return refused(RuntimeError::Uncertain),
                Standing::Occupied => return refused(RuntimeError::Busy),
                Standing::Done => {
                    let Some(answer) = state.session.slots.answer(request(header), &mut self.answer_body[..]) else {
                        return Ok(Verdict::Dropped);
                    };
                    let room = state.reserved_bytes + body_record_bytes(usize::from(answer.body_bytes));
                    let fits = state.session.link.room_bytes(room)? >= room;
                    return Ok(if fits { Verdict::Answered(answer) } else { Verdict::Stays });
                }
            }
        }
        let reserved_bytes = reservation_bytes(shape.reply_bytes_max);
        if reserved_bytes > state.session.link.capacity_bytes() {
            return refused(RuntimeError::ReplyTooLong);
        }
        let room = state.reserved_bytes + reserved_bytes;
        if state.session.link.room_bytes(room)? < room {
            return Ok(Verdict::Stays);
        }
        Ok(Verdict::Starts { deployment: entry, reserved_bytes })
    }

    /// Moves a request from its link into an activation, and returns which.
    fn start(&mut self, session: usize, entry: u32, reserved_bytes: usize, header: &Header) -> Option<u32> {
        let execution = self.next_execution();
        let state = self.sessions[session].as_mut()?;
        let deployment = self.deployments.get_mut(entry as usize)?.as_mut()?;
        let index = self.pool.free.pop()?;
        let handler = deployment.deployment.handlers().get(usize::from(header.target.handler))?;
        let activation = &mut self.pool.activations[index as usize];
        prepare(activation, handler, deployment.deployment.limits(), header);
        let body_bytes = handler.shape().body_bytes as usize;
        // Copies what arrived and zeroes the rest.
        state.session.link.copy(0, &mut activation.body_mut()[..body_bytes]);
        state.session.link.advance();
        state.reserved_bytes += reserved_bytes;
        state.under_way += 1;
        deployment.under_way += 1;
        self.pool.under_way[index as usize] = UnderWay {
            session: session as u32,
            deployment: entry,
            target: header.target,
            request: request(header),
            flow: header.flow,
            execution,
            reserved_bytes: reserved_bytes as u32,
            claimed: false,
            prefetched: false,
            operation: None,
        };
        Some(index)
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

fn request(header: &Header) -> Request {
    Request { slot: header.slot, sequence: header.sequence }
}

/// Sets everything in an activation that a fresh message does not bring along. Fuel is what the sender asks for, lowered to the limits.
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

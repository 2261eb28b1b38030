//! What an executor takes in: messages are judged here before they touch an activation.

use super::{BATCH_MAX, DeploymentState, Executor, Message, Served, SessionState, UnderWay, reply_header, request, send};
use crate::deployment::RECOVER;
use crate::message::{Header, Origin, Place, RuntimeError, Target};
use crate::session::{Answer, Owner, Standing};
use crate::transport::{Broken, Link, body_record_bytes};
use naamc::abi::BODY_BYTES_MAX;
use naamc::activation::{Activation, POINT_START};

/// Why the message at the front of a link does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declined {
    /// Its answer has no room now: it stays there.
    NoRoom,
    /// It is a duplicate of one under way, or an old one: it goes without a trace.
    Stale,
    /// It was answered before, and gets the same answer again.
    Answered,
    /// It is refused.
    Refused(RuntimeError),
}

impl Declined {
    /// Why a request that stands like this, other than unclaimed, does not start.
    pub(super) fn of(standing: Standing) -> Declined {
        match standing {
            Standing::Unclaimed | Standing::Running | Standing::Superseded => Declined::Stale,
            Standing::Uncertain => Declined::Refused(RuntimeError::Uncertain),
            Standing::Occupied => Declined::Refused(RuntimeError::Busy),
            Standing::Done => Declined::Answered,
        }
    }
}

impl<L: Link> Executor<L> {
    /// Takes new messages from all links in turn, and runs each until it first suspends. Returns how many messages were dealt with.
    #[inline(never)]
    pub(super) fn admit(&mut self, now_ns: u64) -> usize {
        let count = self.sessions.len();
        if count == 0 {
            return 0;
        }
        self.first_session = (self.first_session + 1) % count;
        let batch_max = BATCH_MAX.min(self.options.batch_max);
        let mut admitted = 0;
        for step in 0..count {
            let session = (self.first_session + step) % count;
            let Some(state) = self.sessions[session].as_mut().filter(|state| !state.closing) else { continue };
            state.wants_room = false;
            while admitted < batch_max && !self.pool.free.is_empty() {
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
        let Executor { sessions, deployments, current, handlers, pool, counters, last_execution, .. } = self;
        let Some(Some(state)) = sessions.get_mut(session) else { return Ok(false) };
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let fuel = words.fuel();
        let Some(origin) = Origin::of_request(&words) else {
            return self.admit_other(session, now_ns);
        };
        if state.last_target != Some(origin.target()) {
            match find(state, deployments, current, origin.target()) {
                Ok(entry) => (state.last_target, state.last_handler) = (Some(origin.target()), entry),
                Err(error) => return self.decline(session, Declined::Refused(error)),
            }
        }
        let entry = state.last_handler;
        let Some(Some(served)) = handlers.get_mut(entry as usize) else { return Ok(false) };
        if let Err(declined) = judge(state, served, &origin)? {
            return self.decline(session, declined);
        }
        let Some(index) = pool.free.pop() else { return Ok(false) };
        let Message { under_way, activation } = &mut pool.messages[index as usize];
        prepare(activation, served, fuel);
        clear_body(activation);
        let arrived = usize::from(origin.body_bytes());
        state.session.link.copy(0, &mut activation.body_mut()[..arrived]);
        activation.body_used = served.handler.body_used(arrived);
        state.session.link.advance();
        begin(state, served);
        let (execution, claims) = (next_execution(last_execution), served.claims(&origin));
        *under_way = UnderWay::starting(origin, execution, (0, 0), (session as u32, entry), claims);
        counters.requests += 1;
        self.run(index, now_ns);
        Ok(true)
    }

    /// Deals with a message that does not start: the one at the front of its link, whose header is looked at again, so that the usual way
    /// has no need to keep it. Its sender may have changed it since: then an answer goes to a request of its own that it did not wait for,
    /// or nowhere. False if it stays where it is.
    #[cold]
    pub(super) fn decline(&mut self, session: usize, declined: Declined) -> Result<bool, Broken> {
        let Executor { sessions, counters, answer_body, .. } = self;
        let Some(state) = &mut sessions[session] else { return Ok(false) };
        let Some(words) = state.session.link.next()? else { return Ok(false) };
        let header = Header::parse(&words).ok();
        // What is no header has no target.
        let origin = header.map_or(Origin::of_unknown(&words), |_| Origin::of_header(&words));
        let answer = match declined {
            Declined::NoRoom => {
                state.wants_room = true;
                return Ok(false);
            }
            Declined::Answered => state.session.slots.answer(request(&origin), &mut answer_body[..]),
            Declined::Refused(error) => Some(refusal(error)),
            _ => None,
        };
        if let Some(answer) = answer {
            let room = state.reserved_bytes + body_record_bytes(usize::from(answer.body_bytes));
            if state.session.link.room_bytes(room)? < room {
                state.wants_room = true;
                return Ok(false);
            }
            let reply = reply_header(&answer, &origin, state.session.id);
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
pub(super) fn next_execution(last: &mut u64) -> u64 {
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

/// Finds the handler that a target names and the session may call: its entry among the executor's.
#[cold]
pub(super) fn find<L>(
    state: &SessionState<L>,
    deployments: &[Option<DeploymentState>],
    current: &[u32],
    target: Target,
) -> Result<u32, RuntimeError> {
    if !state.session.grants.may_invoke(target.deployment) {
        return Err(RuntimeError::NotGranted);
    }
    let found = current_deployment(deployments, current, target).ok_or(RuntimeError::UnknownDeployment)?;
    let handler = found.deployment.handlers().get(usize::from(target.handler));
    // Called with a living executor's number it would open locks that are held: that is as good as writing to the region.
    if handler.is_some_and(|handler| handler.name() == RECOVER) && !state.session.grants.may_reach(target.deployment) {
        return Err(RuntimeError::NotGranted);
    }
    found.handlers.get(usize::from(target.handler)).copied().ok_or(RuntimeError::UnknownHandler)
}

/// The deployment that a target names, if it is of the generation that is served.
#[inline]
pub(super) fn current_deployment<'a>(
    deployments: &'a [Option<DeploymentState>],
    current: &[u32],
    target: Target,
) -> Option<&'a DeploymentState> {
    let entry = *current.get(usize::from(target.deployment))?;
    let found = deployments.get(entry as usize)?.as_ref();
    found.filter(|found| found.deployment.generation() == target.generation)
}

/// Counts a message that starts.
#[inline]
pub(super) fn begin<L>(state: &mut SessionState<L>, served: &mut Served) {
    state.reserved_bytes += served.reserved_bytes;
    state.under_way += 1;
    served.under_way += 1;
}

/// Decides about a request for a handler that its session may call.
#[inline]
pub(super) fn judge<L: Link>(
    state: &mut SessionState<L>,
    served: &Served,
    origin: &Origin,
) -> Result<Result<(), Declined>, Broken> {
    let shape = served.handler.shape();
    if origin.slot() >= state.session.slots.slots() || u32::from(origin.body_bytes()) > shape.body_bytes {
        return Ok(Err(Declined::Refused(RuntimeError::Malformed)));
    }
    if served.claims(origin) {
        match state.session.slots.standing(request(origin)) {
            Standing::Unclaimed => {}
            standing => return Ok(Err(Declined::of(standing))),
        }
    }
    let room = state.reserved_bytes + served.reserved_bytes;
    if state.session.link.room_bytes(room)? < room {
        let never = served.reserved_bytes > state.session.link.capacity_bytes();
        return Ok(Err(if never { Declined::Refused(RuntimeError::ReplyTooLong) } else { Declined::NoRoom }));
    }
    Ok(Ok(()))
}

/// Zeroes what the message before left in the body. Of a short one a few bytes more, by stores in place: that takes less than a call that
/// asks how many there are.
#[inline(always)]
fn clear_body(activation: &mut Activation) {
    const SHORT_BYTES: usize = 128;
    if activation.body_used as usize > SHORT_BYTES {
        return clear_long_body(activation);
    }
    activation.body_mut()[..SHORT_BYTES].fill(0);
}

#[inline(never)]
fn clear_long_body(activation: &mut Activation) {
    let used = (activation.body_used as usize).min(BODY_BYTES_MAX);
    activation.body_mut()[..used].fill(0);
}

/// Sets everything in an activation that a fresh message does not bring along. Fuel is what the sender asks for, lowered to the limits.
#[inline]
fn prepare(activation: &mut Activation, served: &Served, (back_edges_left, udma_operations_left): (u32, u32)) {
    activation.point = POINT_START;
    activation.completed = 0;
    activation.completion = 0;
    activation.back_edges_left = back_edges_left.min(served.limits.back_edges);
    activation.udma_operations_left = udma_operations_left.min(served.limits.udma_operations);
    activation.reply_bytes = served.handler.shape().body_bytes;
    activation.udma_operations = 0;
    activation.suspensions = 0;
}

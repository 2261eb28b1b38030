//! The load generator's connection: a session of the client library.

use crate::application::Handler;
use crate::load::{Answer, Connection, Fault};
use runtime::client::{Completion, Error, Session};
use runtime::message::{RuntimeError, Target};
use runtime::transport::shared_memory::RingLink;
use std::ops::DerefMut;
use std::time::Duration;

/// How long a client waits before it looks whether the run has ended.
const WAIT: Duration = Duration::from_millis(50);

/// What a session calls its handlers, by their numbers.
pub type Targets = [Target; Handler::ALL.len()];

/// A session, and what it calls its handlers.
pub struct SessionConnection<S> {
    session: S,
    targets: Targets,
}

impl<S: DerefMut<Target = Session<RingLink>>> SessionConnection<S> {
    /// Requests through `session` to these handlers.
    pub fn new(session: S, targets: Targets) -> SessionConnection<S> {
        SessionConnection { session, targets }
    }

    /// Sends requests to these handlers from now on. Nothing may be under way.
    pub fn turn_to(&mut self, targets: Targets) {
        self.targets = targets;
    }
}

impl<S: DerefMut<Target = Session<RingLink>> + Send> Connection for SessionConnection<S> {
    #[inline]
    fn submit(&mut self, handler: Handler, flow_hash: u64, tag: u32, body: &[u8]) -> Result<bool, String> {
        match self.session.submit(self.targets[handler as usize], Some(flow_hash), body, tag.into()) {
            Ok(()) => Ok(true),
            Err(Error::Full) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    #[inline]
    fn poll(&mut self, take: &mut impl FnMut(u32, Answer<'_>)) -> Result<usize, String> {
        let taken = self.session.poll(|completion| {
            let Completion { token, outcome, body, suspensions, udma_operations, place, .. } = completion;
            let outcome = outcome.map_err(|error| match error {
                RuntimeError::Busy => Fault::Busy,
                error => Fault::Ended(error.to_string()),
            });
            take(token as u32, Answer { outcome, body, suspensions, udma_operations, place });
        });
        taken.map_err(|error| error.to_string())
    }

    fn wait(&mut self) -> Result<(), String> {
        self.session.wait(Some(WAIT)).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;

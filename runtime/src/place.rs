//! The body of a place's process: takes orders from its supervisor, checks what it is given to run, and feeds its executors.
//!
//! Orders arrive on standard input, one after another, on the process's main thread; executors are threads that the orders reach
//! through their mailboxes, between batches. A place that loses its supervisor ends at once: nothing of a cluster outlives it.

pub mod bundles;
mod executors;
mod recovery;

pub use bundles::NativePrograms;

use crate::channel::{self, ChannelError};
use crate::memory::SharedMemory;
use crate::message;
use crate::session::SlotTable;
use crate::steering::FlowView;
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::protocol::{self, Answer, Numbered, Order, Reply, Session, Start};
use crate::transport::shared_memory::RingLink;
use crate::transport::wake::Wake;
use executors::Executors;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Exit code of a place that lost its supervisor.
const ORPHANED: i32 = 3;

/// Runs this process as a place until it is told to stop; returns its exit code.
pub fn run(programs: &NativePrograms) -> i32 {
    match serve(programs) {
        Ok(()) => 0,
        Err(ChannelError::Closed) => ORPHANED,
        Err(error) => {
            eprintln!("{error}: this process is started by a supervisor, not by hand");
            2
        }
    }
}

/// Where answers go: any thread may send one.
#[derive(Clone)]
pub(crate) struct Answers(Arc<OwnedFd>);

impl Answers {
    /// Answers an order, if need be with an error that says why there is no other answer: an order that is never answered holds up
    /// every later one. A supervisor that is gone is noticed where orders are awaited.
    pub(crate) fn send(&self, number: u64, content: Result<Answer, ControlError>, descriptors: &[BorrowedFd<'_>]) {
        if let Err(ChannelError::Malformed(why)) = channel::send(&self.0, &Reply { number, content }, descriptors) {
            let error = ControlError::new(Code::Protocol, format!("a place's answer cannot be sent: {why}"));
            let _ = channel::send(&self.0, &Reply { number, content: Err(error) }, &[]);
        }
    }
}

/// A place that has started.
struct Place {
    executors: Executors,
    bundles: bundles::Bundles,
    /// Number of its first executor.
    first_executor: u16,
}

impl Place {
    /// Recovers every deployment from executors that died. One that cannot be is no reason to leave locks in the others.
    fn recover(&mut self, dead: &[u16]) -> Result<(), ControlError> {
        let recovered = self.bundles.deployments().map(|deployment| recovery::recover(&deployment, dead, self.first_executor));
        recovered.fold(Ok(()), Result::and)
    }
}

fn serve(programs: &NativePrograms) -> Result<(), ChannelError> {
    channel::raise_descriptor_limit();
    let orders = Arc::new(io::stdin().as_fd().try_clone_to_owned()?);
    let answers = Answers(orders.clone());
    let mut place: Option<Place> = None;
    loop {
        let (Numbered { number, content }, descriptors): (Numbered<Order>, Vec<OwnedFd>) = channel::receive(&orders)?;
        let answered = match (content, &mut place) {
            // At once and with all threads: an executor that is only told to go would race with the end of the process.
            (Order::Stop, _) => std::process::exit(0),
            (Order::Start(start), None) => start_place(&start, descriptors, programs, &answers).map(|started| {
                place = Some(started);
                Answer::Done
            }),
            (Order::Deploy(deployment), Some(place)) => match place.bundles.prepare(&deployment, descriptors) {
                Ok(prepared) => {
                    place.executors.deploy(number, prepared);
                    continue;
                }
                Err(error) => Err(error),
            },
            (Order::Undeploy { index, generation }, Some(place)) => {
                place.executors.undeploy(number, index, generation);
                continue;
            }
            (Order::Open(session), Some(place)) => open(place, &session, descriptors).map(|()| Answer::Done),
            (Order::Grant { session, grants }, Some(place)) => {
                place.executors.grant(number, session, &grants);
                continue;
            }
            (Order::Recover { executors }, Some(place)) => place.recover(&executors).map(|()| Answer::Done),
            (Order::Close { session }, Some(place)) => {
                place.executors.detach(number, session);
                continue;
            }
            (Order::Start(_), Some(_)) | (_, None) => {
                Err(ControlError::new(Code::Protocol, "the first order, and only the first, starts a place"))
            }
        };
        answers.send(number, answered, &[]);
    }
}

fn start_place(
    start: &Start,
    descriptors: Vec<OwnedFd>,
    programs: &NativePrograms,
    answers: &Answers,
) -> Result<Place, ControlError> {
    if start.version != protocol::VERSION {
        return Err(ControlError::new(Code::Protocol, format!("place protocol version {}", start.version)));
    }
    let [metrics, flows] = take(descriptors)?;
    let metrics = SharedMemory::from_descriptor(metrics)
        .and_then(|memory| memory.map())
        .map_err(|error| ControlError::io("mapping counters", &error))?;
    let flows = SharedMemory::from_descriptor(flows)
        .and_then(|memory| memory.map_read_only())
        .map_err(|error| ControlError::io("mapping the flow table", &error))?;
    let flows = FlowView::new(flows).ok_or_else(|| ControlError::new(Code::Protocol, "a flow table of another size"))?;
    let executors = Executors::start(start, metrics, &flows, answers.clone())?;
    let behind_dma = start.place == message::Place::Nic;
    let bundles = bundles::Bundles::new(start.engine, behind_dma, programs.clone());
    Ok(Place { executors, bundles, first_executor: start.first_executor })
}

fn open(place: &mut Place, session: &Session, descriptors: Vec<OwnedFd>) -> Result<(), ControlError> {
    let failed = |error: io::Error| ControlError::io("mapping a session", &error);
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| ControlError::new(Code::Protocol, "a session with too few descriptors"));
    let slots = SharedMemory::from_descriptor(next()?).and_then(|memory| memory.map()).map_err(failed)?;
    let slots =
        SlotTable::new(slots, session.slots).ok_or_else(|| ControlError::new(Code::Protocol, "slot records of another size"))?;
    let mut links = Vec::new();
    for _ in 0..place.executors.count() {
        let (memory, wake) = (next()?, next()?);
        let mapping = SharedMemory::from_descriptor(memory).and_then(|memory| memory.map()).map_err(failed)?;
        links.push(RingLink::server(mapping, session.rings, Wake::from_descriptor(wake)).map_err(failed)?);
    }
    place.executors.attach(session, links, &slots);
    Ok(())
}

/// Exactly so many descriptors.
fn take<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], ControlError> {
    descriptors.try_into().map_err(|_| ControlError::new(Code::Protocol, format!("an order needs {N} descriptors")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::protocol::Deployed;

    /// Whatever a place has to say, its supervisor hears something: an order without an answer would hold up all that follow.
    #[test]
    fn an_answer_that_no_packet_takes_becomes_an_error() {
        let (ours, theirs) = channel::pair().unwrap();
        let deployed = Deployed { bundle: "b".repeat(channel::PACKET_BYTES_MAX), regions: Vec::new(), handlers: Vec::new() };
        Answers(Arc::new(theirs)).send(7, Ok(Answer::Deployed(deployed)), &[]);
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        let (reply, _): (Reply, _) = channel::receive(&ours).unwrap();
        assert_eq!((reply.number, reply.content.unwrap_err().code), (7, Code::Protocol));
    }
}

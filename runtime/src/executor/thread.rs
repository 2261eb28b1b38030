//! The loop of an executor's thread: commands, turns, and sleep.

use super::{Command, Event, Executor, Progress};
use crate::clock::Clock;
use crate::transport::Link;
use crate::transport::wake::{WaitSet, Wake};
use crate::waiting::{Lookout, Waiting};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Turns between two looks for commands.
const TURNS_PER_LOOK: u32 = 16;
/// Operations that complete within this time are waited for awake: about as long as the kernel takes to wake a sleeper by its clock.
const NEAR_NS: u64 = 100_000;

/// The supervisor's side of an executor's thread: where commands go in.
pub struct Mailbox<L> {
    commands: Sender<Command<L>>,
    wake: Arc<Mutex<Wake>>,
}

impl<L> Clone for Mailbox<L> {
    fn clone(&self) -> Mailbox<L> {
        Mailbox { commands: self.commands.clone(), wake: self.wake.clone() }
    }
}

/// The thread's side.
pub struct Inbox<L> {
    commands: Receiver<Command<L>>,
    wake: Wake,
}

/// A way to tell an executor's thread something while it runs or sleeps.
pub fn mailbox<L>() -> io::Result<(Mailbox<L>, Inbox<L>)> {
    let (commands, receiver) = channel();
    let (sender_wake, wake) = Wake::pair()?;
    Ok((Mailbox { commands, wake: Arc::new(Mutex::new(sender_wake)) }, Inbox { commands: receiver, wake }))
}

impl<L> Mailbox<L> {
    /// Sends a command. False if the thread has ended.
    pub fn send(&self, command: Command<L>) -> bool {
        let sent = self.commands.send(command).is_ok();
        if let Ok(wake) = self.wake.lock() {
            wake.wake();
        }
        sent
    }
}

/// Runs an executor until it is told to stop, or nobody can tell it anything any more. Events go to `report`.
///
/// # Errors
/// If the system cannot wait for it.
pub fn run<L: Link>(
    executor: &mut Executor<L>,
    inbox: &Inbox<L>,
    clock: &dyn Clock,
    waiting: Waiting,
    report: &mut dyn FnMut(Event),
) -> io::Result<()> {
    let waits = WaitSet::new()?;
    waits.add(inbox.wake.descriptor())?;
    let mut lookout = Lookout::new(waiting);
    let (mut idle_since_ns, mut waits_since_ns) = (None, None);
    let mut now_ns = clock.now_ns();
    let mut turns = 0u32;
    while !executor.has_stopped() {
        if turns.is_multiple_of(TURNS_PER_LOOK) {
            obey(executor, inbox, &waits)?;
        }
        turns = turns.wrapping_add(1);
        let progress = executor.turn(now_ns);
        // Before it may sleep: whoever waits for these will not wake it.
        for closed in executor.take_closed() {
            if let Some(descriptor) = closed.link.descriptor() {
                waits.remove(descriptor)?;
            }
        }
        executor.take_events().into_iter().for_each(&mut *report);
        match progress {
            Progress::Working => (idle_since_ns, waits_since_ns) = (None, None),
            Progress::Contended => {
                (idle_since_ns, waits_since_ns) = (None, None);
                lookout.offer_core();
            }
            // Operations that complete sooner than a sleeper wakes.
            Progress::Idle if executor.due_ns().is_some_and(|due_ns| due_ns < now_ns + NEAR_NS) => {
                let waited_ns = now_ns.saturating_sub(*waits_since_ns.get_or_insert(now_ns));
                lookout.pause(Duration::from_nanos(waited_ns));
            }
            Progress::Idle => {
                let idle = Duration::from_nanos(now_ns.saturating_sub(*idle_since_ns.get_or_insert(now_ns)));
                if executor.has_stopped() {
                    // Told so just now: nobody will wake it again.
                } else if lookout.is_over(idle) {
                    sleep(executor, inbox, &waits, now_ns)?;
                    (idle_since_ns, turns) = (None, 0);
                } else {
                    lookout.pause(idle);
                }
            }
        }
        now_ns = clock.now_ns();
    }
    Ok(())
}

/// Obeys the commands that have arrived.
fn obey<L: Link>(executor: &mut Executor<L>, inbox: &Inbox<L>, waits: &WaitSet) -> io::Result<()> {
    loop {
        match inbox.commands.try_recv() {
            Ok(command) => {
                if let Command::Attach(session) = &command
                    && let Some(descriptor) = session.link.descriptor()
                {
                    waits.add(descriptor)?;
                }
                executor.apply(command);
            }
            Err(TryRecvError::Empty) => return Ok(()),
            Err(TryRecvError::Disconnected) => {
                executor.apply(Command::Stop);
                return Ok(());
            }
        }
    }
}

/// Sleeps until a client, a command or a completion is there.
fn sleep<L: Link>(executor: &mut Executor<L>, inbox: &Inbox<L>, waits: &WaitSet, now_ns: u64) -> io::Result<()> {
    let due = executor.due_ns().map(|due| Duration::from_nanos(due.saturating_sub(now_ns)));
    if executor.arm() {
        // A command that was sent before this point has left its byte in the inbox's descriptor.
        waits.wait(due)?;
        inbox.wake.drain();
        executor.disarm();
    }
    Ok(())
}

//! The loop of an executor's thread: commands, turns, and sleep.

use super::{Command, Event, Executor, Progress};
use crate::clock::Clock;
use crate::transport::Link;
use crate::transport::wake::{WaitSet, Wake};
use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Turns between two looks for commands.
const TURNS_PER_LOOK: u32 = 16;
/// How long a thread looks for work before it offers its core to others between looks.
const SPIN_ALONE_NS: u64 = 5_000;
/// Operations that complete within this time are waited for awake: about as long as the kernel takes to wake a sleeper by its clock.
const NEAR_NS: u64 = 100_000;

/// How a thread waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// How long it looks for work before it sleeps. 0 where other threads need the core.
    pub spin_us: u32,
}

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
                std::thread::yield_now();
            }
            // Operations that complete sooner than a sleeper wakes.
            Progress::Idle if executor.due_ns().is_some_and(|due_ns| due_ns < now_ns + NEAR_NS) => {
                let wait_ns = now_ns.saturating_sub(*waits_since_ns.get_or_insert(now_ns));
                if wait_ns < SPIN_ALONE_NS { std::hint::spin_loop() } else { std::thread::yield_now() }
            }
            Progress::Idle => {
                let idle_ns = now_ns.saturating_sub(*idle_since_ns.get_or_insert(now_ns));
                if executor.has_stopped() {
                    // Told so just now: nobody will wake it again.
                } else if idle_ns >= u64::from(waiting.spin_us) * 1000 {
                    sleep(executor, inbox, &waits, now_ns)?;
                    (idle_since_ns, turns) = (None, 0);
                } else if idle_ns >= SPIN_ALONE_NS {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
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

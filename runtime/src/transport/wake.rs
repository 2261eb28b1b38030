//! Waking a peer that sleeps: a byte through a socket pair of two ends, one for each side of a link.
//!
//! Each side owns its own end: no client can take a wake-up that was meant for another, nor make an executor block (sending never
//! waits, whatever the peer does to its end), and the end of a process is seen by the other side.

use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Events taken from the kernel at a time; which ones does not matter, since whoever wakes looks at all its links.
const EVENTS_MAX: usize = 16;

/// Wake-ups that are taken at once. A peer sends one for each time that this side slept, so an honest one has seldom more than one
/// under way; one that floods this side must not hold it up.
const WAKE_UPS_MAX: usize = 256;

/// One end.
#[derive(Debug)]
pub struct Wake(OwnedFd);

impl Wake {
    /// Two connected ends.
    pub fn pair() -> io::Result<(Wake, Wake)> {
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        Ok((Wake(one), Wake(other)))
    }

    /// An end that another process made.
    pub fn from_descriptor(descriptor: OwnedFd) -> Wake {
        Wake(descriptor)
    }

    /// The descriptor: readable once the peer has woken this end, or is gone.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The descriptor, to hand to another process.
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Wakes the other end. Never waits: if the socket is full, enough wake-ups are under way.
    pub fn wake(&self) {
        let _ = rustix::net::send(&self.0, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Takes wake-ups that have arrived: all that an honest peer can have sent. What a flood of them leaves keeps the descriptor readable
    /// and is taken next time. False if the other end is gone.
    pub fn drain(&self) -> bool {
        let mut bytes = [0; WAKE_UPS_MAX];
        match rustix::net::recv(&self.0, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((received, _)) => received > 0,
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }
}

/// Waits until one of the descriptors is readable, or the time is over. Spurious returns are possible.
pub fn wait_any(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)).collect();
    match rustix::event::poll(&mut polled, timeout.map(timespec).as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A set of descriptors to sleep on, for an executor with many links.
#[derive(Debug)]
pub struct WaitSet(OwnedFd);

impl WaitSet {
    /// An empty set.
    pub fn new() -> io::Result<WaitSet> {
        Ok(WaitSet(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor. It leaves the set when it is closed.
    pub fn add(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(&self.0, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.0, descriptor)?)
    }

    /// Waits until one is readable, or the time is over. Spurious returns are possible.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; EVENTS_MAX];
        match epoll::wait(&self.0, &mut events[..], timeout.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().min(i64::MAX as u64) as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

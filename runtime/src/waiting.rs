//! How threads wait for each other: they look, then offer their core between looks, then sleep.
//!
//! A thread with a core of its own loses nothing by looking. One that shares its core keeps from running whoever has what it waits for, and
//! cannot know that by asking: how long its offer took says it.

use std::time::{Duration, Instant};

/// How long a thread that has its core to itself looks before it offers it to others: ten round trips between two cores.
const LOOK_ALONE: Duration = Duration::from_micros(5);
/// An offer that took longer was taken: to ask the kernel in vain takes 0.3 us, two switches and another thread's look more than this.
const OFFER_IN_VAIN: Duration = Duration::from_micros(1);

/// How long a thread that may look does so before it sleeps, usually, in microseconds: about what a wake-up costs.
pub const SPIN_US: u32 = 50;

/// How a thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How long it looks before it sleeps. 0 where other threads need the core.
    pub spin_us: u32,
}

/// A thread that waits, and what it learnt of its core.
#[derive(Debug)]
pub struct Lookout {
    look: Duration,
    /// Its last offer of the core was taken.
    shares_core: bool,
}

impl Lookout {
    /// Of a thread that waits like this.
    pub fn new(waiting: Waiting) -> Lookout {
        Lookout { look: Duration::from_micros(waiting.spin_us.into()), shares_core: false }
    }

    /// Whether it has looked long enough, and should sleep.
    pub fn is_over(&self, waited: Duration) -> bool {
        waited >= self.look
    }

    /// Lets a moment pass before the next look, after it has waited so long.
    #[inline]
    pub fn pause(&mut self, waited: Duration) {
        if waited < LOOK_ALONE && !self.shares_core {
            std::hint::spin_loop();
        } else {
            self.offer_core();
        }
    }

    /// Lets others run, if there are any.
    pub fn offer_core(&mut self) {
        let start = Instant::now();
        std::thread::yield_now();
        self.shares_core = start.elapsed() > OFFER_IN_VAIN;
    }
}

//! Orders to die, from the test to the place's process that obeys: files in a directory that both know by the cluster's name.
//!
//! An order is obeyed once: whoever obeys it takes it away first, so that the place that is started again serves.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

/// On which side of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    Before,
    After,
}

/// Where a message is to kill its place: its effects count from 1. After effect 0 it has not begun, and is not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub effect: u32,
    pub side: Side,
}

/// A word that another writer changes just before an effect of the message, at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poke {
    pub effect: u32,
    pub region: usize,
    pub offset: u64,
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who is to obey; anybody if this is not said.
    pub executor: Option<u16>,
    pub moment: Moment,
    pub pokes: Vec<Poke>,
}

/// Where the orders of a cluster are, and what else its places are told.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    pub fn of(cluster: &str) -> Directory {
        Directory(std::env::temp_dir().join(format!("naam-kill-points-{cluster}")))
    }

    /// Makes it, for as long as the answer lives.
    pub fn create(&self, bundle: &[u8]) -> Created {
        fs::create_dir(&self.0).expect("nobody else has this cluster's name");
        mknodat(CWD, self.0.join("recoveries"), FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        fs::write(self.0.join("bundle"), bundle).expect("room for a bundle");
        Created(self.clone())
    }

    /// The bundle whose handlers obey orders, if this is a directory of a cluster.
    pub fn bundle(&self) -> Option<Vec<u8>> {
        fs::read(self.0.join("bundle")).ok()
    }

    fn order(&self, handler: &str) -> PathBuf {
        self.0.join(format!("order-{handler}"))
    }

    /// Gives the order that the handler's next message is to obey.
    pub fn give(&self, handler: &str, order: &Order) {
        // Readers find all of it or nothing.
        let whole = self.0.join("new");
        fs::write(&whole, serde_json::to_vec(order).expect("an order is plain data")).expect("room for an order");
        fs::rename(&whole, self.order(handler)).expect("it was written");
    }

    pub fn read(&self, handler: &str) -> Option<Order> {
        let bytes = fs::read(self.order(handler)).ok()?;
        Some(serde_json::from_slice(&bytes).expect("orders are written whole"))
    }

    /// Takes the order away.
    pub fn take(&self, handler: &str) {
        fs::remove_file(self.order(handler)).expect("an order is obeyed once");
    }

    /// Tells the test that a place begins to recover from an executor.
    pub fn tell_recovery(&self, executor: u32) {
        let pipe = fs::OpenOptions::new().write(true).open(self.0.join("recoveries"));
        writeln!(pipe.expect("the test listens"), "{executor}").expect("room for a line");
    }

    /// Where the test hears of recoveries, without asking over and over.
    pub fn recoveries(&self) -> Recoveries {
        // Open for writing too, so that it does not end when a place dies.
        let pipe = fs::OpenOptions::new().read(true).write(true).open(self.0.join("recoveries"));
        Recoveries(BufReader::new(pipe.expect("it was created")))
    }
}

/// A directory that goes with this.
pub struct Created(Directory);

impl Drop for Created {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0.0).expect("it was created");
    }
}

impl std::ops::Deref for Created {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.0
    }
}

pub struct Recoveries(BufReader<File>);

/// How long a place may take to begin to recover: as long as anybody can want to wait for a test that fails.
const RECOVERY_MAX: Timespec = Timespec { tv_sec: 300, tv_nsec: 0 };

impl Recoveries {
    /// Waits until a place recovers from an executor, and says from whom.
    pub fn next(&mut self) -> u16 {
        if self.0.buffer().is_empty() {
            let pipe = PollFd::new(self.0.get_ref(), PollFlags::IN);
            assert_eq!(poll(&mut [pipe], Some(&RECOVERY_MAX)), Ok(1), "no place recovers");
        }
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a pipe that never ends");
        line.trim().parse().expect("a number")
    }
}

//! Which versions of a record a read may see, while any number of clients write.
//!
//! Each write to a record takes the next version before it is sent. Writes that overlap may take effect in any order, so after them
//! the record holds any of their versions; but once no write to it is under way, what it holds is at least the first version of that
//! last run of overlapping writes, for ever. That is the *floor*. A read is right if the version it returns is at least the floor when the read
//! was sent, and at most the newest version taken when it was answered. So lost, stale and invented values are all found, with
//! eight bytes a record and no lock:
//!
//! | bits | content |
//! | --- | --- |
//! | 32 to 63 | newest version taken; 0: no such record yet |
//! | 20 to 31 | writes under way |
//! | 10 to 19 | while writes are under way: how far the first of this run lies below the newest version |
//! | 0 to 9 | how far the floor lies below the newest version |
//!
//! The last two saturate, which means "unknown": then nothing is demanded of a read until the record has rested again.

use runtime::memory::prefetch_line;
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes to one record that can be under way at once: the requests of all clients together.
pub const WRITES_UNDER_WAY_MAX: usize = (1 << 12) - 1;
const DISTANCE_MAX: u64 = (1 << 10) - 1;

/// What may be read, for every record.
pub struct Versions {
    records: Vec<AtomicU64>,
    next_number: AtomicU64,
    acknowledged: AtomicU64,
}

#[derive(Clone, Copy)]
struct State {
    newest: u64,
    under_way: u64,
    run_distance: u64,
    floor_distance: u64,
}

impl State {
    fn unpack(word: u64) -> State {
        State {
            newest: word >> 32,
            under_way: word >> 20 & WRITES_UNDER_WAY_MAX as u64,
            run_distance: word >> 10 & DISTANCE_MAX,
            floor_distance: word & DISTANCE_MAX,
        }
    }

    /// Whether the record exists and no write to it is under way. Sequentially consistent: of two clients that end neighbouring inserts
    /// at once, one must see both.
    fn rests(record: &AtomicU64) -> bool {
        let state = State::unpack(record.load(Ordering::SeqCst));
        state.newest > 0 && state.under_way == 0
    }

    fn pack(self) -> u64 {
        self.newest << 32 | self.under_way << 20 | self.run_distance << 10 | self.floor_distance
    }

    fn write_begun(self) -> State {
        State {
            newest: self.newest + 1,
            under_way: self.under_way + 1,
            run_distance: if self.under_way == 0 { 0 } else { (self.run_distance + 1).min(DISTANCE_MAX) },
            floor_distance: (self.floor_distance + 1).min(DISTANCE_MAX),
        }
    }

    fn write_ended(self) -> State {
        let rests = self.under_way == 1;
        State {
            under_way: self.under_way.saturating_sub(1),
            floor_distance: if rests { self.run_distance } else { self.floor_distance },
            ..self
        }
    }

    /// After a write in doubt, what was there before its run of overlapping writes may still be.
    fn write_in_doubt_ended(self) -> State {
        State { run_distance: self.floor_distance, ..self }.write_ended()
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has taken effect.
    Done,
    /// It has not, or nobody knows: its request ended in something other than ok.
    Doubtful,
}

impl Versions {
    /// For `capacity` records, none of which exists yet.
    pub fn new(capacity: u64) -> Versions {
        let records = (0..capacity).map(|_| AtomicU64::new(0)).collect();
        Versions { records, next_number: AtomicU64::new(0), acknowledged: AtomicU64::new(0) }
    }

    /// Takes the number of a record to insert, below `limit` and the capacity, or nothing if all are taken.
    pub fn take_number(&self, limit: u64) -> Option<u64> {
        let limit = limit.min(self.records.len() as u64);
        let next = |number| (number < limit).then_some(number + 1);
        self.next_number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// Takes the version that a write to the record will carry. Call it before the write is sent.
    pub fn begin_write(&self, number: u64) -> u32 {
        let before = self.change(number, State::write_begun);
        before.write_begun().newest as u32
    }

    /// Says that a write to the record was answered.
    pub fn end_write(&self, number: u64, ending: Ending) {
        self.change(number, if ending == Ending::Done { State::write_ended } else { State::write_in_doubt_ended });
    }

    /// Says that an insert was answered; the record may be asked for once all before it are there too.
    pub fn end_insert(&self, number: u64, ending: Ending) {
        self.end_write(number, ending);
        let mut limit = self.acknowledged.load(Ordering::SeqCst);
        while self.records.get(limit as usize).is_some_and(State::rests) {
            limit = match self.acknowledged.compare_exchange(limit, limit + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => limit + 1,
                Err(now) => now,
            };
        }
    }

    /// Records that exist: all numbers below this were inserted and acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Fetches what is known of a record that is asked about soon.
    pub fn prefetch(&self, number: u64) {
        if let Some(record) = self.records.get(number as usize) {
            prefetch_line(record);
        }
    }

    /// The oldest version that a read sent from now on may return.
    pub fn floor(&self, number: u64) -> u32 {
        let state = State::unpack(self.records[number as usize].load(Ordering::Acquire));
        if state.floor_distance == DISTANCE_MAX { 1 } else { (state.newest - state.floor_distance.min(state.newest)) as u32 }
    }

    /// The newest version that a read answered by now may return; 0 if there is no such record.
    pub fn newest(&self, number: u64) -> u32 {
        self.records.get(number as usize).map_or(0, |record| (record.load(Ordering::Acquire) >> 32) as u32)
    }

    /// Changes a record's state and returns the state before.
    fn change(&self, number: u64, change: fn(State) -> State) -> State {
        let record = &self.records[number as usize];
        let mut word = record.load(Ordering::Acquire);
        loop {
            let state = State::unpack(word);
            match record.compare_exchange_weak(word, change(state).pack(), Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return state,
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(records: u64) -> Versions {
        let versions = Versions::new(records);
        for number in 0..records {
            assert_eq!(versions.take_number(records), Some(number));
            assert_eq!(versions.begin_write(number), 1);
            versions.end_insert(number, Ending::Done);
        }
        versions
    }

    fn allowed(versions: &Versions) -> (u32, u32) {
        (versions.floor(0), versions.newest(0))
    }

    /// One write after the other: while it is under way both versions are right, afterwards only the new one.
    #[test]
    fn single_writes_leave_one_version() {
        let versions = loaded(1);
        assert_eq!(allowed(&versions), (1, 1));
        for version in 2..10 {
            assert_eq!(versions.begin_write(0), version);
            assert_eq!(allowed(&versions), (version - 1, version));
            versions.end_write(0, Ending::Done);
            assert_eq!(allowed(&versions), (version, version));
        }
    }

    /// Overlapping writes may take effect in any order: after them, any version of the run is right, an earlier one is not.
    #[test]
    fn overlapping_writes_leave_their_run() {
        let versions = loaded(1);
        versions.begin_write(0);
        versions.end_write(0, Ending::Done);
        assert_eq!(versions.begin_write(0), 3);
        assert_eq!(versions.begin_write(0), 4);
        versions.end_write(0, Ending::Done);
        assert_eq!(versions.begin_write(0), 5);
        assert_eq!(allowed(&versions), (2, 5), "until the run ends, what was there before may still be read");
        versions.end_write(0, Ending::Done);
        versions.end_write(0, Ending::Done);
        assert_eq!(allowed(&versions), (3, 5));
    }

    /// A write that ended in an error may have taken effect or not; what follows it is known again.
    #[test]
    fn writes_in_doubt_leave_both_versions() {
        let versions = loaded(1);
        versions.begin_write(0);
        versions.end_write(0, Ending::Doubtful);
        assert_eq!(allowed(&versions), (1, 2));
        assert_eq!((versions.begin_write(0), versions.begin_write(0)), (3, 4));
        versions.end_write(0, Ending::Doubtful);
        versions.end_write(0, Ending::Done);
        assert_eq!(allowed(&versions), (1, 4), "which of them has, nobody knows");
        versions.begin_write(0);
        versions.end_write(0, Ending::Done);
        assert_eq!(allowed(&versions), (5, 5));
        assert_eq!(Versions::new(1).floor(0), 0);
    }

    /// A run too long to describe demands nothing; the next that can be described demands again.
    #[test]
    fn long_runs_demand_nothing() {
        let versions = loaded(1);
        versions.begin_write(0);
        for _ in 0..5000 {
            versions.begin_write(0);
            versions.end_write(0, Ending::Done);
        }
        versions.end_write(0, Ending::Done);
        assert_eq!(allowed(&versions), (1, 5002));
        versions.begin_write(0);
        versions.end_write(0, Ending::Done);
        assert_eq!(allowed(&versions), (5003, 5003));
    }

    /// Records exist once all before them do, and no more than the capacity.
    #[test]
    fn inserts_are_acknowledged_without_gaps() {
        let versions = Versions::new(3);
        let numbers: Vec<u64> = (0..3).map(|_| versions.take_number(9).unwrap()).collect();
        assert_eq!((versions.take_number(9), versions.take_number(2)), (None, None));
        numbers.iter().for_each(|number| assert_eq!(versions.begin_write(*number), 1));
        versions.end_insert(2, Ending::Done);
        assert_eq!(versions.acknowledged(), 0);
        versions.end_insert(0, Ending::Done);
        assert_eq!(versions.acknowledged(), 1);
        versions.end_insert(1, Ending::Done);
        assert_eq!(versions.acknowledged(), 3);
    }

    /// Many writers and a model of the record: what the record holds is never outside what is allowed, and in the end all is acknowledged.
    #[test]
    fn concurrent_writers_never_raise_a_false_alarm() {
        let versions = loaded(4);
        let records: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(1)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (versions, records) = (&versions, &records);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..20_000 {
                        let number = random.u64(0..4);
                        let record = &records[number as usize];
                        if random.bool() {
                            let version = versions.begin_write(number);
                            record.store(u64::from(version), Ordering::SeqCst);
                            versions.end_write(number, Ending::Done);
                        } else {
                            let floor = versions.floor(number);
                            let seen = record.load(Ordering::SeqCst) as u32;
                            assert!((floor..=versions.newest(number)).contains(&seen), "{seen} is below {floor}");
                        }
                    }
                });
            }
        });
        for number in 0..4 {
            let last = records[number as usize].load(Ordering::SeqCst) as u32;
            assert!((versions.floor(number)..=versions.newest(number)).contains(&last));
        }
    }
}

//! Request streams: drawn before the clock starts, four bytes a request, read in a circle during the run.

use super::distribution::{Distribution, Generator};
use super::mix::{Mix, Operation};
use fastrand::Rng;

/// Records that a request can name.
pub const RECORDS_MAX: u64 = 1 << KEY_BITS;
const KEY_BITS: u32 = 29;

/// Requests of one stream at least: a short circle would repeat its luck.
const REQUESTS_MIN: u64 = 1 << 20;
/// Requests of one stream at most: 128 MiB.
const REQUESTS_MAX: u64 = 1 << 25;
/// Requests drawn for each record, so that a circle reaches the cold records as well.
const REQUESTS_PER_RECORD: u64 = 8;

/// How many requests are drawn before it is said how many there are.
const DRAWN_EVERY: u64 = 1 << 16;

/// One request before it has a key: the operation and a number below the records, which is the key number or, for
/// [`Distribution::Latest`], the distance from the newest record. An insert's number says nothing: it gets the next free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draft(u32);

impl Draft {
    fn new(operation: Operation, number: u64) -> Draft {
        Draft((operation as u32) << KEY_BITS | number as u32)
    }

    /// What it does.
    pub fn operation(self) -> Operation {
        Operation::ALL[(self.0 >> KEY_BITS) as usize]
    }

    /// Key number or distance.
    pub fn number(self) -> u64 {
        u64::from(self.0) & (RECORDS_MAX - 1)
    }
}

/// Requests of one client, in a circle.
#[derive(Clone, Debug)]
pub struct Stream {
    drafts: Vec<Draft>,
    next: usize,
}

impl Stream {
    /// Requests that each of so many clients draws for so many records.
    pub fn requests(records: u64, clients: usize) -> u64 {
        (records * REQUESTS_PER_RECORD).clamp(REQUESTS_MIN, REQUESTS_MAX).div_ceil(clients as u64)
    }

    /// Draws the stream of client `client` out of `clients`. `drawn` is called now and then with how many requests there are.
    pub fn draw(
        mix: &Mix,
        distribution: Distribution,
        records: u64,
        (client, clients): (usize, usize),
        seed: u64,
        mut drawn: impl FnMut(u64),
    ) -> Stream {
        let requests = Stream::requests(records, clients);
        let generator = Generator::new(distribution, records);
        let mut random = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(client as u64));
        let draft = |random: &mut Rng| Draft::new(mix.draw(random), generator.draw(random));
        let mut drafts = Vec::with_capacity(requests as usize);
        for index in 0..requests {
            if index.is_multiple_of(DRAWN_EVERY) {
                drawn(index);
            }
            drafts.push(draft(&mut random));
        }
        drawn(requests);
        Stream { drafts, next: 0 }
    }

    /// The next request.
    pub fn next(&mut self) -> Draft {
        let draft = self.drafts[self.next];
        self.next += 1;
        if self.next == self.drafts.len() {
            self.next = 0;
        }
        draft
    }

    /// A request that comes soon: what it needs can be fetched meanwhile.
    pub fn ahead(&self) -> Draft {
        const REQUESTS_AHEAD: usize = 16;
        let at = self.next + REQUESTS_AHEAD;
        self.drafts[if at < self.drafts.len() { at } else { at - self.drafts.len() }]
    }

    /// Records that the latest request asks for if it is a scan: uniform, 1 to `records_max`. It follows from the place in the circle, so
    /// that whoever goes to the same place asks for the same.
    pub fn scan_records(&self, records_max: u64) -> u64 {
        let mixed = (self.next as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        1 + (mixed >> 32).wrapping_mul(records_max) / (1 << 32)
    }

    /// Where in the circle the next request is.
    pub fn position(&self) -> usize {
        self.next
    }

    /// Goes to a position in the circle.
    pub fn go_to(&mut self, position: usize) {
        self.next = position % self.drafts.len();
    }

    /// Requests before the circle repeats.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::mix::Workload;

    fn stream(workload: Workload, records: u64, client: usize) -> Stream {
        Stream::draw(&workload.mix(), workload.distribution(), records, (client, 2), 42, |_| {})
    }

    /// A draft gives back what it was made of, up to the largest number.
    #[test]
    fn drafts_hold_operation_and_number() {
        for operation in Operation::ALL {
            for number in [0, 1, 12345, RECORDS_MAX - 1] {
                let draft = Draft::new(operation, number);
                assert_eq!((draft.operation(), draft.number()), (operation, number));
            }
        }
    }

    /// Composition of a drawn stream, for every mix: shares within 0.5 % and numbers below the records.
    #[test]
    fn streams_have_the_mix_and_stay_in_range() {
        for workload in [Workload::A, Workload::B, Workload::C, Workload::D, Workload::E, Workload::F] {
            let stream = stream(workload, 1000, 0);
            assert_eq!(stream.len() as u64, REQUESTS_MIN / 2);
            let mut counts = [0u64; 5];
            for draft in &stream.drafts {
                assert!(draft.number() < 1000);
                counts[draft.operation() as usize] += 1;
            }
            let mix = workload.mix();
            for (count, percent) in counts.into_iter().zip(mix.percentages()) {
                let seen_percent = count as f64 * 100.0 / stream.len() as f64;
                assert!((seen_percent - f64::from(percent)).abs() < 0.5, "{workload:?}: {seen_percent} for {percent}");
            }
        }
    }

    /// Streams repeat after their length, go where they are told, are the same for the same seed, and differ between clients.
    #[test]
    fn streams_repeat_and_differ_by_client() {
        let mut first = stream(Workload::A, 1000, 0);
        let circle: Vec<Draft> = (0..first.len()).map(|_| first.next()).collect();
        assert_eq!(circle, first.drafts);
        assert_eq!(first.ahead(), circle[16]);
        assert_eq!(first.next(), circle[0]);
        first.go_to(7);
        assert_eq!((first.next(), first.position()), (circle[7], 8));
        assert_eq!(stream(Workload::A, 1000, 0).drafts, circle);
        assert_ne!(stream(Workload::A, 1000, 1).drafts, circle);
    }

    /// Scans have every length from 1 to their limit, each about as often, and the same at the same place.
    #[test]
    fn scan_lengths_are_uniform() {
        let mut stream = stream(Workload::E, 1000, 0);
        let mut counts = [0u32; 101];
        for _ in 0..200_000 {
            stream.next();
            counts[stream.scan_records(100) as usize] += 1;
        }
        assert!(counts[0] == 0 && counts[1..].iter().all(|count| (1700..2300).contains(count)), "{counts:?}");
        let position = stream.position();
        let length = stream.scan_records(1 << 20);
        stream.next();
        stream.go_to(position);
        assert_eq!(stream.scan_records(1 << 20), length);
    }

    /// Progress begins with nothing, never goes back, and ends with all that there are.
    #[test]
    fn drawing_says_how_far_it_is() {
        let mut told = Vec::new();
        let stream = Stream::draw(&Workload::C.mix(), Distribution::Uniform, 10, (1, 2), 1, |drawn| told.push(drawn));
        assert!(told.len() > 5 && told.is_sorted() && told[0] == 0, "{told:?}");
        assert_eq!(told.last(), Some(&(stream.len() as u64)));
        assert_eq!(stream.len() as u64, Stream::requests(10, 2));
    }

    /// Length follows the records, between its limits.
    #[test]
    fn streams_are_long_enough_for_the_records() {
        let length = |records| Stream::draw(&Workload::C.mix(), Distribution::Uniform, records, (0, 1), 1, |_| {}).len() as u64;
        assert_eq!(length(10), REQUESTS_MIN);
        assert_eq!(length(300_000), 2_400_000);
    }
}

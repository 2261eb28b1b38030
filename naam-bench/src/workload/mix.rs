//! The core workloads of YCSB: how much of which operation, and over which distribution.

use super::distribution::Distribution;
use super::values::Stamp;
use fastrand::Rng;
use serde::Serialize;

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Reads a record.
    Read = 0,
    /// Replaces a record's value.
    Update = 1,
    /// Adds a record.
    Insert = 2,
    /// Reads a record and changes it, in one message.
    ReadModifyWrite = 3,
    /// Reads some records with neighbouring keys.
    Scan = 4,
}

impl Operation {
    /// All operations, by their numbers.
    pub const ALL: [Operation; 5] =
        [Operation::Read, Operation::Update, Operation::Insert, Operation::ReadModifyWrite, Operation::Scan];
}

/// A core workload of YCSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[value(rename_all = "verbatim")]
pub enum Workload {
    /// Half reads, half updates
    #[value(alias = "a")]
    A,
    /// 95 % reads, 5 % updates
    #[value(alias = "b")]
    B,
    /// Reads only
    #[value(alias = "c")]
    C,
    /// 95 % reads of recent records, 5 % inserts
    #[value(alias = "d")]
    D,
    /// 95 % scans of 1 to 100 records, 5 % inserts; served by Cell's tree, the others by MICA's table
    #[value(alias = "e")]
    E,
    /// Half reads, half read-modify-writes
    #[value(alias = "f")]
    F,
}

/// Percentages of a workload's operations; they add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mix {
    /// Reads.
    pub read_percent: u8,
    /// Updates.
    pub update_percent: u8,
    /// Inserts.
    pub insert_percent: u8,
    /// Read-modify-writes.
    pub read_modify_write_percent: u8,
    /// Scans.
    pub scan_percent: u8,
}

impl Workload {
    /// Its operations.
    pub fn mix(self) -> Mix {
        let (read_percent, update_percent, insert_percent, read_modify_write_percent, scan_percent) = match self {
            Workload::A => (50, 50, 0, 0, 0),
            Workload::B => (95, 5, 0, 0, 0),
            Workload::C => (100, 0, 0, 0, 0),
            Workload::D => (95, 0, 5, 0, 0),
            Workload::E => (0, 0, 5, 0, 95),
            Workload::F => (50, 0, 0, 50, 0),
        };
        Mix { read_percent, update_percent, insert_percent, read_modify_write_percent, scan_percent }
    }

    /// How its values are made.
    pub fn stamp(self) -> Stamp {
        if self == Workload::F { Stamp::Counted } else { Stamp::Versioned }
    }

    /// The distribution that YCSB gives it.
    pub fn distribution(self) -> Distribution {
        match self {
            Workload::D => Distribution::Latest,
            _ => Distribution::ScrambledZipfian,
        }
    }
}

impl Mix {
    /// Draws an operation.
    pub fn draw(&self, random: &mut Rng) -> Operation {
        let mut point = random.u8(0..100);
        for (operation, percent) in Operation::ALL.into_iter().zip(self.percentages()) {
            if point < percent {
                return operation;
            }
            point -= percent;
        }
        Operation::Read
    }

    /// In words: `95 % read, 5 % update`; `read` is what a read is called.
    pub fn in_words(&self, read: &str) -> String {
        let names = [read, "update", "insert", "read-modify-write", "scan"];
        let parts = self.percentages().into_iter().zip(names).filter(|(percent, _)| *percent > 0);
        parts.map(|(percent, name)| format!("{percent} % {name}")).collect::<Vec<_>>().join(", ")
    }

    /// The shares, by the operations' numbers.
    pub fn percentages(&self) -> [u8; 5] {
        [self.read_percent, self.update_percent, self.insert_percent, self.read_modify_write_percent, self.scan_percent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Workload; 6] = [Workload::A, Workload::B, Workload::C, Workload::D, Workload::E, Workload::F];

    /// Every mix is complete, and what is drawn has its shares: 200,000 draws put the standard error below 0.12 %.
    #[test]
    fn draws_have_the_shares_of_the_mix() {
        for workload in ALL {
            let mix = workload.mix();
            assert_eq!(mix.percentages().iter().map(|percent| u32::from(*percent)).sum::<u32>(), 100);
            let mut random = Rng::with_seed(11);
            let mut counts = [0u32; 5];
            for _ in 0..200_000 {
                counts[mix.draw(&mut random) as usize] += 1;
            }
            for (count, percent) in counts.into_iter().zip(mix.percentages()) {
                let seen_percent = f64::from(count) / 2000.0;
                assert!((seen_percent - f64::from(percent)).abs() < 1.0, "{workload:?}: {seen_percent} for {percent}");
                assert_eq!(count == 0, percent == 0);
            }
        }
    }

    /// Only D asks for recent records.
    #[test]
    fn distributions_are_those_of_ycsb() {
        assert_eq!(Workload::D.distribution(), Distribution::Latest);
        assert!(
            [Workload::A, Workload::B, Workload::C, Workload::E, Workload::F]
                .into_iter()
                .all(|workload| workload.distribution() == Distribution::ScrambledZipfian)
        );
    }

    #[test]
    fn mixes_read_well() {
        assert_eq!(Workload::B.mix().in_words("read"), "95 % read, 5 % update");
        assert_eq!(Workload::C.mix().in_words("read"), "100 % read");
        assert_eq!(Workload::C.mix().in_words("lookup"), "100 % lookup");
        assert_eq!(Workload::E.mix().in_words("read"), "5 % insert, 95 % scan");
        assert_eq!(Workload::F.mix().in_words("read"), "50 % read, 50 % read-modify-write");
    }
}

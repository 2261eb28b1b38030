//! Which record a request is for: the request distributions of YCSB and MICA.
//!
//! "Zipfian" names two workloads. YCSB's is scrambled: it draws from ten billion items and hashes the rank onto the records, so the
//! hottest record gets 3.78 % however many there are. MICA draws a true Zipfian over its records: the hottest of a million gets 6.50 %.
//! Both are here, and every report says which one it used.

use super::keys::fnv;
use fastrand::Rng;
use serde::Serialize;

/// Skew of every Zipfian here, as in YCSB.
pub const THETA: f64 = 0.99;
/// Items that YCSB's scrambled Zipfian draws from.
pub const SCRAMBLED_ITEMS: u64 = 10_000_000_001;
/// zeta([`SCRAMBLED_ITEMS`], [`THETA`]), the constant of YCSB's source.
const SCRAMBLED_ZETA: f64 = 26.46902820178302;

/// A request distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// YCSB's: Zipfian over ten billion items, hashed onto the records
    ScrambledZipfian,
    /// MICA's: Zipfian over the records
    Zipfian,
    /// Every record alike
    Uniform,
    /// Zipfian distance from the newest record
    Latest,
}

impl Distribution {
    /// Its name in prose: that of the command line. The two Zipfians are told apart, always.
    pub fn in_words(self) -> &'static str {
        match self {
            Distribution::ScrambledZipfian => "scrambled Zipfian",
            Distribution::Zipfian => "Zipfian",
            Distribution::Uniform => "uniform",
            Distribution::Latest => "latest",
        }
    }
}

/// Draws ranks from a Zipfian distribution: rank 0 most often (Gray et al., "Quickly generating billion-record synthetic databases",
/// SIGMOD 1994, as in YCSB's `ZipfianGenerator`).
#[derive(Clone, Debug)]
pub struct Zipfian {
    items: f64,
    alpha: f64,
    eta: f64,
    zeta: f64,
    second: f64,
}

impl Zipfian {
    /// Over `items` ranks; takes time in proportion to them.
    pub fn new(items: u64) -> Zipfian {
        Zipfian::with_zeta(items, (1..=items).map(|rank| (rank as f64).powf(-THETA)).sum())
    }

    fn with_zeta(items: u64, zeta: f64) -> Zipfian {
        let second = 1.0 + 0.5f64.powf(THETA);
        let items = items as f64;
        let eta = (1.0 - (2.0 / items).powf(1.0 - THETA)) / (1.0 - second / zeta);
        Zipfian { items, alpha: 1.0 / (1.0 - THETA), eta, zeta, second }
    }

    /// A rank below the number of items.
    pub fn draw(&self, random: &mut Rng) -> u64 {
        let uniform = random.f64();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < self.second {
            return 1;
        }
        let rank = self.items * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items as u64 - 1)
    }
}

/// Draws key numbers of one distribution over a fixed number of records.
#[derive(Clone, Debug)]
pub struct Generator {
    records: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Scrambled(Zipfian),
    Ranked(Zipfian),
    Uniform,
}

impl Generator {
    /// A generator over `records` records (at least one).
    pub fn new(distribution: Distribution, records: u64) -> Generator {
        let kind = match distribution {
            Distribution::ScrambledZipfian => Kind::Scrambled(Zipfian::with_zeta(SCRAMBLED_ITEMS, SCRAMBLED_ZETA)),
            Distribution::Zipfian | Distribution::Latest => Kind::Ranked(Zipfian::new(records)),
            Distribution::Uniform => Kind::Uniform,
        };
        Generator { records, kind }
    }

    /// A number below the number of records: a key number or, for [`Distribution::Latest`], the distance from the newest record.
    pub fn draw(&self, random: &mut Rng) -> u64 {
        match &self.kind {
            Kind::Scrambled(zipfian) => fnv(zipfian.draw(random)) % self.records,
            Kind::Ranked(zipfian) => zipfian.draw(random),
            Kind::Uniform => random.u64(0..self.records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 2_000_000;

    fn counts(distribution: Distribution, records: u64, seed: u64) -> Vec<u64> {
        let generator = Generator::new(distribution, records);
        let mut random = Rng::with_seed(seed);
        let mut counts = vec![0; records as usize];
        for _ in 0..DRAWS {
            counts[generator.draw(&mut random) as usize] += 1;
        }
        counts
    }

    fn share_of_hottest(counts: &[u64]) -> f64 {
        *counts.iter().max().unwrap() as f64 / DRAWS as f64
    }

    /// The published figures of both Zipfians: 3.78 % whatever the key count, 6.50 % at 10^6, 5.54 % at 10^7 (the last from the
    /// constant alone, since the share of rank 0 is 1 / zeta). Two million draws put the standard error at 0.02 %.
    #[test]
    fn hottest_key_gets_the_published_share() {
        for records in [1_000_000, 100_000] {
            let share = share_of_hottest(&counts(Distribution::ScrambledZipfian, records, 1));
            assert!((share - 0.0378).abs() < 0.001, "scrambled over {records}: {share}");
        }
        let share = share_of_hottest(&counts(Distribution::Zipfian, 1_000_000, 1));
        assert!((share - 0.0650).abs() < 0.001, "true Zipfian: {share}");
        assert!((1.0 / Zipfian::new(1_000_000).zeta - 0.0650).abs() < 0.00005);
        assert!((1.0 / Zipfian::new(10_000_000).zeta - 0.0554).abs() < 0.00005);
        assert!((1.0 / SCRAMBLED_ZETA - 0.0378).abs() < 0.00005);
    }

    /// Beyond the first two ranks the method is an approximation; over groups of ranks it must still follow rank^-theta. The
    /// statistic is a chi-square divided by the number of draws, so the tolerance is about shape, not about luck.
    #[test]
    fn zipfian_follows_its_law() {
        let records = 10_000u64;
        let counts = counts(Distribution::Zipfian, records, 2);
        let zeta: f64 = (1..=records).map(|rank| (rank as f64).powf(-THETA)).sum();
        let (mut distance, mut start) = (0.0, 0usize);
        while start < records as usize {
            let end = (start * 2 + 1).min(records as usize);
            let seen = counts[start..end].iter().sum::<u64>() as f64 / DRAWS as f64;
            let expected: f64 = (start..end).map(|rank| (rank as f64 + 1.0).powf(-THETA) / zeta).sum();
            distance += (seen - expected).powi(2) / expected;
            start = end;
        }
        assert!(distance < 0.005, "distance from the law: {distance}");
    }

    /// Scrambling spreads the hot ranks: the hottest record is where YCSB's hash puts rank 0.
    #[test]
    fn scrambled_hottest_is_the_hash_of_rank_zero() {
        let counts = counts(Distribution::ScrambledZipfian, 1000, 3);
        let hottest = counts.iter().enumerate().max_by_key(|(_, count)| **count).unwrap().0;
        assert_eq!(hottest as u64, fnv(0) % 1000);
        assert!(counts.iter().all(|count| *count > 0), "every one of a thousand records is asked for");
    }

    /// Uniform: chi-square over 1,000 records has mean 999 and deviation 45; the bounds are eight deviations away.
    #[test]
    fn uniform_is_flat() {
        let counts = counts(Distribution::Uniform, 1000, 4);
        let expected = DRAWS as f64 / 1000.0;
        let chi_square: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
        assert!((640.0..1360.0).contains(&chi_square), "chi-square {chi_square}");
    }

    /// The same seed draws the same requests, another seed others.
    #[test]
    fn seeds_decide() {
        let draw = |seed| {
            let generator = Generator::new(Distribution::ScrambledZipfian, 1_000_000);
            let mut random = Rng::with_seed(seed);
            (0..100).map(|_| generator.draw(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    /// One record: every distribution has only that.
    #[test]
    fn one_record_is_always_drawn() {
        use clap::ValueEnum;
        for distribution in Distribution::value_variants() {
            let generator = Generator::new(*distribution, 1);
            let mut random = Rng::with_seed(7);
            assert!((0..1000).all(|_| generator.draw(&mut random) == 0), "{}", distribution.in_words());
        }
    }
}

//! A region as plain bytes, for one thread: what `naamc trace` and tests run handlers on. Shared regions are `runtime`'s.

use crate::abi::{EFAULT, EINVAL};
use crate::interpreter::Udma;

/// Bytes of a region, all in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionMemory {
    bytes: Vec<u8>,
}

impl RegionMemory {
    /// A region with this content.
    pub fn new(bytes: Vec<u8>) -> RegionMemory {
        RegionMemory { bytes }
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length.
    pub fn length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Executes an operation and returns its result: 0, `-EFAULT` or `-EINVAL`. All or nothing; after an error the destination is as it
    /// was, and the engine zeroes it.
    pub fn execute(&mut self, operation: Udma<'_>) -> i64 {
        match operation {
            Udma::Read { offset, destination, .. } => match self.range(offset, destination.len()) {
                Some(source) => {
                    destination.copy_from_slice(source);
                    0
                }
                None => -EFAULT,
            },
            Udma::Write { offset, source, .. } => match self.range(offset, source.len()) {
                Some(destination) => {
                    destination.copy_from_slice(source);
                    0
                }
                None => -EFAULT,
            },
            Udma::CompareSwap { offset, expected, desired, old, .. } => {
                self.word(offset, old, |value| if value == expected { desired } else { value })
            }
            Udma::FetchAdd { offset, addend, old, .. } => self.word(offset, old, |value| value.wrapping_add(addend)),
        }
    }

    /// Like [`Self::execute`], and returns the data that was moved: what a read or write copied, or an atomic's old value. For traces.
    pub fn execute_and_show(&mut self, operation: Udma<'_>) -> (i64, Vec<u8>) {
        let (result, data) = match operation {
            Udma::Read { region, offset, destination } => {
                let result = self.execute(Udma::Read { region, offset, destination: &mut *destination });
                (result, destination.to_vec())
            }
            Udma::Write { region, offset, source } => (self.execute(Udma::Write { region, offset, source }), source.to_vec()),
            Udma::CompareSwap { region, offset, expected, desired, old } => {
                let result = self.execute(Udma::CompareSwap { region, offset, expected, desired, old: &mut *old });
                (result, old.to_le_bytes().to_vec())
            }
            Udma::FetchAdd { region, offset, addend, old } => {
                let result = self.execute(Udma::FetchAdd { region, offset, addend, old: &mut *old });
                (result, old.to_le_bytes().to_vec())
            }
        };
        (result, if result == 0 { data } else { Vec::new() })
    }

    /// Nothing lies everywhere: a length of 0 has no end that could be outside.
    fn range(&mut self, offset: u64, length: usize) -> Option<&mut [u8]> {
        if length == 0 {
            return Some(&mut []);
        }
        let start = usize::try_from(offset).ok()?;
        self.bytes.get_mut(start..start.checked_add(length)?)
    }

    /// Errors in this order everywhere: alignment first, then range.
    fn word(&mut self, offset: u64, old: &mut u64, change: impl Fn(u64) -> u64) -> i64 {
        if !offset.is_multiple_of(8) {
            return -EINVAL;
        }
        let Some(bytes) = self.range(offset, 8) else { return -EFAULT };
        let value = u64::from_le_bytes(bytes.try_into().expect("the range has eight bytes"));
        bytes.copy_from_slice(&change(value).to_le_bytes());
        *old = value;
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_all_or_nothing_and_never_overflow() {
        let mut region = RegionMemory::new(vec![7; 64]);
        let mut destination = [1; 16];
        let mut read =
            |offset, length: usize| region.execute(Udma::Read { region: 0, offset, destination: &mut destination[..length] });
        assert_eq!(read(48, 16), 0);
        assert_eq!(read(49, 16), -EFAULT);
        assert_eq!(read(u64::MAX, 16), -EFAULT);
        assert_eq!(read(64, 0), 0, "nothing, at the end");
        assert_eq!(read(65, 0), 0, "nothing, beyond the end");
        assert_eq!(read(u64::MAX, 0), 0, "nothing, anywhere");
        assert_eq!(region.execute(Udma::Write { region: 0, offset: u64::MAX, source: &[] }), 0);
        assert_eq!(region.execute(Udma::Write { region: 0, offset: 60, source: &[0; 8] }), -EFAULT);
        assert_eq!(region.bytes(), [7; 64]);
    }

    #[test]
    fn atomics_return_the_old_value() {
        let mut region = RegionMemory::new(vec![0; 16]);
        let mut old = 9;
        assert_eq!(region.execute(Udma::FetchAdd { region: 0, offset: 8, addend: u64::MAX, old: &mut old }), 0);
        assert_eq!(old, 0);
        let swap = |region: &mut RegionMemory, offset, expected, old: &mut u64| {
            region.execute(Udma::CompareSwap { region: 0, offset, expected, desired: 5, old })
        };
        assert_eq!(swap(&mut region, 8, 1, &mut old), 0);
        assert_eq!(old, u64::MAX, "not equal: not swapped");
        assert_eq!(swap(&mut region, 8, u64::MAX, &mut old), 0);
        assert_eq!(region.bytes()[8..], 5_u64.to_le_bytes());
        assert_eq!(swap(&mut region, 12, 0, &mut old), -EINVAL);
        assert_eq!(swap(&mut region, 16, 0, &mut old), -EFAULT);
    }
}

//! Requests to Cell's tree, and what their answers must be. A scan goes on, page by page, until it has what it wants or the tree ends.

use super::{Pending, REQUEST_BYTES_MAX, Shared, judge};
use crate::application::Handler;
use crate::cell::{KEY_BYTES, Page, SCAN_REQUEST_BYTES, Shape, write_scan};
use crate::measurement::Measurement;
use crate::workload::keys::fnv;
use crate::workload::mix::Operation;

/// The tree under a run.
#[derive(Clone, Debug)]
pub struct Tree {
    /// How it is deployed.
    pub shape: Shape,
    /// Keys of the records that were there from the beginning, ascending: what no scan may miss. Empty if nobody scans.
    pub order: Vec<u64>,
    /// The place in `order` of each of those records, by number.
    pub places: Vec<u32>,
    /// Records that a scan asks for at most.
    pub scan_records_max: u64,
}

/// What a scan still has to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Where its next page begins.
    pub key: u64,
    /// Records that it wants.
    pub records: u32,
    /// The place in [`Tree::order`] of the first key from `key` on.
    place: u32,
}

impl Tree {
    /// A scan of so many records from the record with a number on.
    pub fn scan(&self, number: u64, records: u64) -> Scan {
        let key = fnv(number);
        let known = self.places.get(number as usize).copied();
        let place = known.unwrap_or_else(|| self.order.partition_point(|other| *other < key) as u32);
        Scan { key, records: records as u32, place }
    }
}

/// Writes a request: its handler, its length and the hash that steers it.
#[inline]
pub fn write(shared: &Shared, tree: &Tree, pending: &Pending, request: &mut [u8; REQUEST_BYTES_MAX]) -> (Handler, usize, u64) {
    if pending.operation == Operation::Scan {
        write_scan(request, pending.scan.key, pending.scan.records);
        return (Handler::Scan, SCAN_REQUEST_BYTES, pending.scan.key);
    }
    let key = fnv(pending.number);
    request[..KEY_BYTES].copy_from_slice(&key.to_le_bytes());
    if pending.operation != Operation::Insert {
        return (Handler::Get, KEY_BYTES, key);
    }
    let value = &mut request[KEY_BYTES..tree.shape.record_bytes()];
    value[shared.value_bytes..].fill(0);
    shared.stamp.fill(pending.number, pending.version, &mut value[..shared.value_bytes]);
    (Handler::Insert, tree.shape.record_bytes(), key)
}

/// Checks the reply to a request that ended in `ok`. True if it is a scan that has to go on.
#[inline]
pub fn check(shared: &Shared, tree: &Tree, measured: &mut Measurement, request: &mut Pending, body: &[u8]) -> bool {
    match request.operation {
        Operation::Scan => return check_page(shared, tree, measured, request, body),
        Operation::Read => {
            let number = request.number;
            let version = match body.split_first_chunk::<KEY_BYTES>() {
                Some((key, value)) if *key == fnv(number).to_le_bytes() && value.len() == tree.shape.value_bytes => {
                    shared.stamp.check(number, shared.value_bytes, &value[..shared.value_bytes])
                }
                _ => None,
            };
            judge(shared, measured, number, version, request.version, body);
        }
        _ => {}
    }
    false
}

/// Checks every record of a page, that they ascend, and that no record is missing that was there from the beginning.
fn check_page(shared: &Shared, tree: &Tree, measured: &mut Measurement, request: &mut Pending, body: &[u8]) -> bool {
    let scan = &mut request.scan;
    let number = request.number;
    let Some(page) = Page::parse(body, tree.shape) else {
        measured.wrong_value(|| format!("a scan from record {number} got {} bytes that are no page", body.len()));
        return false;
    };
    let count = page.records().len() as u32;
    let mut lowest = Some(scan.key);
    for (key, value) in page.records() {
        // The value says whose it is.
        let named = value.first_chunk::<4>().map_or(0, |number| u64::from(u32::from_le_bytes(*number)));
        let version =
            if fnv(named) == key { shared.stamp.check(named, shared.value_bytes, &value[..shared.value_bytes]) } else { None };
        judge(shared, measured, named, version, 1, value);
        if lowest.is_none_or(|lowest| key < lowest) {
            measured.wrong_value(|| format!("a scan from record {number} goes back to key {key}"));
        }
        lowest = key.checked_add(1);
        // What lies between two records of the page is missing; new records lie there at will.
        meet(tree, measured, scan, key, number);
        scan.place += u32::from(tree.order.get(scan.place as usize) == Some(&key));
    }
    if let Some(next) = page.next {
        meet(tree, measured, scan, next, number);
        scan.key = next;
    } else if (scan.place as usize) < tree.order.len() {
        measured.wrong_value(|| format!("a scan from record {number} ends before the tree does"));
    }
    if count > scan.records || page.next.is_some() && count == 0 && scan.records > 0 {
        measured.wrong_value(|| format!("a scan from record {number} got {count} records where {} were wanted", scan.records));
        return false;
    }
    scan.records -= count;
    page.next.is_some() && scan.records > 0
}

/// Goes on to `key` in the order of what was there from the beginning: nothing may lie before it.
fn meet(tree: &Tree, measured: &mut Measurement, scan: &mut Scan, key: u64, number: u64) {
    while let Some(missed) = tree.order.get(scan.place as usize).filter(|expected| **expected < key) {
        measured.wrong_value(|| format!("a scan from record {number} misses key {missed}"));
        scan.place += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::mix::Operation;
    use crate::workload::values::Stamp;
    use crate::workload::versions::Ending;

    const RECORDS: u64 = 50;
    const VALUE_BYTES: usize = 20;

    /// Fifty records that were there from the beginning, and one that came later.
    fn shared() -> Shared {
        let shape = Shape::new(1024, VALUE_BYTES).unwrap();
        let mut order: Vec<(u64, u64)> = (0..RECORDS).map(|number| (fnv(number), number)).collect();
        order.sort_unstable();
        let mut places = vec![0; RECORDS as usize];
        order.iter().enumerate().for_each(|(place, (_, number))| places[*number as usize] = place as u32);
        let order = order.into_iter().map(|(key, _)| key).collect();
        let shared = Shared::new(Stamp::Versioned, 100, 8, VALUE_BYTES, Some(Tree { shape, order, places, scan_records_max: 100 }));
        while let Some(number) = shared.versions.take_number(RECORDS + 1) {
            shared.versions.begin_write(number);
            shared.versions.end_insert(number, Ending::Done);
        }
        shared
    }

    fn request(shared: &Shared, number: u64, records: u64) -> Pending {
        let scan = shared.tree.as_ref().unwrap().scan(number, records);
        Pending { operation: Operation::Scan, number, version: 1, scan, sent_ns: 0 }
    }

    /// A page of the records with these numbers, each as it must be.
    fn page(shared: &Shared, numbers: &[u64], next: Option<u64>) -> Vec<u8> {
        let counts = numbers.len() as u64 | u64::from(next.is_some()) << 32;
        let mut bytes = [next.unwrap_or(0).to_le_bytes(), counts.to_le_bytes()].concat();
        for number in numbers {
            let mut value = vec![0; shared.tree.as_ref().unwrap().shape.value_bytes];
            shared.stamp.fill(*number, 1, &mut value[..VALUE_BYTES]);
            bytes.extend(fnv(*number).to_le_bytes());
            bytes.extend(value);
        }
        bytes
    }

    /// Numbers in the order of their keys.
    fn sorted(shared: &Shared, numbers: std::ops::Range<u64>) -> Vec<u64> {
        let mut numbers: Vec<u64> = numbers.collect();
        numbers.sort_by_key(|number| fnv(*number));
        assert_eq!(shared.tree.as_ref().unwrap().order.len() as u64, RECORDS);
        numbers
    }

    /// Two pages make up a scan; records that came later are welcome.
    #[test]
    fn scans_go_on_until_they_have_what_they_want() {
        let shared = shared();
        let tree = shared.tree.as_ref().unwrap();
        let numbers = sorted(&shared, 0..RECORDS + 1);
        let mut measured = Measurement::default();
        let mut pending = request(&shared, numbers[0], 100);
        let first = page(&shared, &numbers[..30], Some(fnv(numbers[30])));
        assert!(check(&shared, tree, &mut measured, &mut pending, &first));
        assert_eq!((pending.scan.key, pending.scan.records), (fnv(numbers[30]), 70));
        assert!(!check(&shared, tree, &mut measured, &mut pending, &page(&shared, &numbers[30..], None)));
        assert_eq!((measured.values_checked, measured.values_wrong), (RECORDS + 1, 0), "{:?}", measured.wrong_examples);
        let mut pending = request(&shared, numbers[0], 30);
        assert!(!check(&shared, tree, &mut measured, &mut pending, &first), "it has what it wants");
    }

    /// Every kind of lie is found.
    #[test]
    fn lies_about_scans_are_found() {
        let shared = shared();
        let tree = shared.tree.as_ref().unwrap();
        let numbers = sorted(&shared, 0..RECORDS);
        let wrong = |body: &[u8], records: u64| {
            let mut measured = Measurement::default();
            check(&shared, tree, &mut measured, &mut request(&shared, numbers[0], records), body);
            measured.values_wrong
        };
        let next = Some(fnv(numbers[10]));
        let honest = page(&shared, &numbers[..10], next);
        assert_eq!(wrong(&honest, 20), 0);
        let mut torn = honest.clone();
        *torn.last_mut().unwrap() ^= 1;
        // The last word of a value is padded: the last byte that counts is the fourth before the end.
        assert_eq!(wrong(&torn, 20), 0);
        torn[honest.len() - 5] ^= 1;
        let missing = [&numbers[..4], &numbers[5..10]].concat();
        let swapped = [&numbers[1..2], &numbers[..1], &numbers[2..10]].concat();
        for (lie, body) in [
            ("torn", torn),
            ("missing", page(&shared, &missing, next)),
            ("its first is missing", page(&shared, &numbers[1..10], next)),
            ("out of order", page(&shared, &swapped, next)),
            ("skips over one", page(&shared, &numbers[..9], next)),
            ("ends early", page(&shared, &numbers[..10], None)),
            ("empty", page(&shared, &[], Some(fnv(numbers[0])))),
            ("no page", vec![0; 15]),
            ("of nobody", page(&shared, &[99], next)),
        ] {
            assert!(wrong(&body, 20) > 0, "{lie}");
        }
        assert!(wrong(&honest, 9) > 0, "more than was wanted");
    }
}

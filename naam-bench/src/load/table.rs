//! Requests to MICA's table, and what their answers must be.

use super::{Pending, REQUEST_BYTES_MAX, Shared, judge};
use crate::application::Handler;
use crate::measurement::Measurement;
use crate::mica;
use crate::workload::keys::{KEY_BYTES_MAX, KEY_BYTES_MIN, fnv, write_key};
use crate::workload::mix::Operation;
use crate::workload::values::VERSION_STEP;

/// Writes a request: its handler, its length and the hash that steers it.
#[inline]
pub fn write(shared: &Shared, pending: &Pending, request: &mut [u8; REQUEST_BYTES_MAX]) -> (Handler, usize, u64) {
    let (key_bytes, value_bytes) = (shared.key_bytes, shared.value_bytes);
    let &Pending { operation, number, version, .. } = pending;
    let value_start = mica::value_offset(key_bytes);
    let adds = operation == Operation::ReadModifyWrite && shared.server_modifies();
    let (handler, length) = match operation {
        Operation::Read | Operation::Scan => {
            mica::write_item_header(request, key_bytes, 0);
            (Handler::Get, mica::ITEM_HEADER_BYTES + key_bytes)
        }
        Operation::ReadModifyWrite if adds => {
            mica::write_add_header(request, key_bytes, 0, VERSION_STEP);
            (Handler::ReadModifyWrite, mica::ADD_HEADER_BYTES + key_bytes)
        }
        Operation::Update | Operation::Insert | Operation::ReadModifyWrite => {
            mica::write_item_header(request, key_bytes, value_bytes);
            shared.stamp.fill(number, version, &mut request[value_start..value_start + value_bytes]);
            let handler = match operation {
                Operation::Insert => Handler::Insert,
                Operation::ReadModifyWrite => Handler::ReadModifyWrite,
                _ => Handler::Put,
            };
            (handler, value_start + value_bytes)
        }
    };
    let key_start = if adds { mica::ADD_HEADER_BYTES } else { mica::ITEM_HEADER_BYTES };
    write_key(number, &mut request[key_start..key_start + key_bytes]);
    let hash = request[key_start..].first_chunk::<KEY_BYTES_MIN>().map_or(0, |key| u64::from_le_bytes(*key));
    (handler, length, hash)
}

/// Checks the reply to a request that ended in `ok`: whose value it is, each of its bytes, and its version.
#[inline]
pub fn check(shared: &Shared, measured: &mut Measurement, request: &Pending, body: &[u8]) {
    let number = request.number;
    match request.operation {
        Operation::Insert | Operation::Update => {}
        Operation::ReadModifyWrite if shared.server_modifies() => {
            let field = mica::parse_add(body).filter(|word| *word as u32 == number as u32);
            judge(shared, measured, number, field.map(|word| (word >> 32) as u32), 1, body);
        }
        Operation::Read | Operation::ReadModifyWrite | Operation::Scan => {
            let version = match mica::parse_item(body, shared.key_bytes) {
                Some((key, value)) if is_key(number, key) => shared.stamp.check(number, shared.value_bytes, value),
                _ => None,
            };
            // A write carries its own version: what it read before may be older.
            let floor = if request.operation == Operation::ReadModifyWrite { 1 } else { request.version };
            judge(shared, measured, number, version, floor, body);
        }
    }
}

/// Whether these bytes are the record's key. The first eight decide, unless the key is longer.
#[inline]
fn is_key(number: u64, key: &[u8]) -> bool {
    if key.len() == KEY_BYTES_MIN {
        return key == fnv(number).to_le_bytes();
    }
    let mut expected = [0; KEY_BYTES_MAX];
    let expected = &mut expected[..key.len()];
    write_key(number, expected);
    key == expected
}

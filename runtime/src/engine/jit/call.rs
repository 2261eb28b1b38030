//! Lowering of helper calls.
//!
//! A UDMA call of regions that are not local is always suspended before: the live registers are written to the activation, and that is all.
//! A call of others has two ways through. The fast one, for reads of a small constant length, is inline. Everything else
//! goes the slow way, which every such call has: the live registers are written to the activation, and a thunk follows the
//! rules of [`crate::engine::Turn`]. The fast way may therefore leave at any doubt: no operations left, a read to be prefetched, an offset out
//! of range.

use super::lower::{Lowering, saved};
use super::memory::{Place, pieces};
use super::surroundings::{Status, Surroundings};
use crate::engine::{SHORT_READ_BYTES_MAX, Turn};
use crate::memory::{Extent, Region};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{Block, InstBuilder, MemFlagsData, Value};
use naamc::abi::Helper;
use naamc::abi::address::{BODY_START, REGION_START};
use naamc::activation::Activation;
use naamc::isa::Register;
use naamc::verifier::value::Scalar;
use naamc::verifier::{Call, Touched};
use std::mem::offset_of;

/// Bytes of a region read above which a call is better than a run of moves.
const INLINE_READ_BYTES_MAX: u32 = 128;
/// The same for `naam_copy` and `naam_fill`.
const INLINE_COPY_BYTES_MAX: u32 = 128;
/// The same for `naam_compare`, which becomes several blocks for every eight bytes.
const INLINE_COMPARE_BYTES_MAX: u32 = 32;
/// Bytes that one body reads, copies, fills and compares inline at most: what the code generator does with long code takes more than its length.
const INLINE_BYTES_TOTAL_MAX: u32 = 16 << 10;
/// Loads of a region that are under way before their values are stored: as many registers as there are to spare.
const LOADS_AT_ONCE: usize = 8;

impl Lowering<'_, '_> {
    /// Lowers a helper call; whether the block goes on after it.
    pub(super) fn helper(&mut self, call: &Call) -> bool {
        match call.helper {
            Helper::Read | Helper::Write | Helper::CompareSwap | Helper::FetchAdd => {
                self.udma(call);
                return false;
            }
            Helper::Length => self.length(call),
            Helper::Reply => {
                let length = self.low(Register::R1, 32);
                self.builder.ins().store(self.flags.state, length, self.activation, offset_of!(Activation, reply_bytes) as i32);
                self.set_constant(Register::R0, 0);
            }
            Helper::Copy => {
                let (to, from) = (self.parameter(call, Register::R1), self.parameter(call, Register::R2));
                match constant(call, Register::R3) {
                    Some(length) if self.is_inline(length, INLINE_COPY_BYTES_MAX) => self.copy_bytes(to, from, length),
                    _ => {
                        let arguments = [self.address(to), self.address(from), self.number(Register::R3)];
                        self.thunk(offset_of!(Surroundings, copy), &arguments, 0);
                    }
                }
                self.set_constant(Register::R0, 0);
            }
            Helper::Fill => {
                let (to, byte) = (self.parameter(call, Register::R1), self.get(Register::R2));
                match constant(call, Register::R3) {
                    Some(length) if self.is_inline(length, INLINE_COPY_BYTES_MAX) => self.fill_bytes(to, byte, length),
                    _ => {
                        let arguments = [self.address(to), byte, self.number(Register::R3)];
                        self.thunk(offset_of!(Surroundings, fill), &arguments, 0);
                    }
                }
                self.set_constant(Register::R0, 0);
            }
            Helper::Compare => {
                let (left, right) = (self.parameter(call, Register::R1), self.parameter(call, Register::R2));
                let order = match constant(call, Register::R3) {
                    Some(length) if self.is_inline(length, INLINE_COMPARE_BYTES_MAX) => self.compare_bytes(left, right, length),
                    _ => {
                        let arguments = [self.address(left), self.address(right), self.number(Register::R3)];
                        self.thunk(offset_of!(Surroundings, compare), &arguments, 1)[0]
                    }
                };
                self.set(Register::R0, order);
            }
            Helper::Executor => {
                self.write_back();
                let exit = self.thunk(offset_of!(Surroundings, executor), &[self.turn], 2);
                let (running, ended) = (self.builder.create_block(), self.builder.create_block());
                self.builder.set_cold_block(ended);
                self.builder.ins().brif(exit[0], ended, &[], running, &[]);
                self.builder.switch_to_block(ended);
                self.builder.ins().return_(&exit);
                self.builder.switch_to_block(running);
                self.set(Register::R0, exit[1]);
            }
        }
        true
    }

    /// Whether so many bytes are worth a run of moves, and this body has not had too many of them. Books them.
    fn is_inline(&mut self, length: u32, length_max: u32) -> bool {
        let inline = length <= length_max && self.inline_bytes + length <= INLINE_BYTES_TOTAL_MAX;
        self.inline_bytes += if inline { length } else { 0 };
        inline
    }

    /// `naam_length`: a constant, unless several regions are possible.
    fn length(&mut self, call: &Call) {
        match only_region(call.regions).and_then(|region| self.source.regions.get(region)) {
            Some(region) => self.set_constant(Register::R0, region.length_bytes),
            None => {
                let handle = self.get(Register::R1);
                let length = self.thunk(offset_of!(Surroundings, length), &[self.turn, handle], 1)[0];
                self.set(Register::R0, length);
            }
        }
    }

    /// Where a pointer parameter points.
    fn parameter(&mut self, call: &Call, register: Register) -> Place {
        let touched =
            call.memory.iter().find(|(parameter, _)| *parameter == register).map_or(Touched::default(), |(_, touched)| *touched);
        // Bytes of one kind whose hull is as long as the call's constant length are always the same ones.
        let length_parameter = match call.helper {
            Helper::Read | Helper::Write => Some(Register::R4),
            Helper::Copy | Helper::Fill | Helper::Compare => Some(Register::R3),
            _ => None,
        };
        let length = length_parameter.map_or(Some(8), |parameter| constant(call, parameter));
        let mut hulls = [touched.stack, touched.body, touched.read_only].into_iter().flatten();
        let exact = match (hulls.next(), hulls.next()) {
            (Some(hull), None) => length.is_some_and(|length| length > 0 && hull.end - hull.start == length),
            _ => false,
        };
        self.place(&touched, exact, register, 0)
    }

    /// A u32 parameter.
    fn number(&mut self, register: Register) -> Value {
        let low = self.low(register, 32);
        self.builder.ins().uextend(I64, low)
    }

    fn udma(&mut self, call: &Call) {
        if self.are_all(call.regions, |region| !region.is_local)
            && let Some(point) = self.point(call)
        {
            // Whatever else the turn allows, it suspends here, unless fuel is used up: whoever entered the code looks at that.
            self.save(point);
            let nothing = self.builder.ins().iconst(I64, 0);
            return self.finish(Status::Suspended, nothing);
        }
        let next = self.edge(call.instruction, call.instruction + 1);
        let slow = self.builder.create_block();
        if call.helper == Helper::Read && self.are_all(call.regions, |region| region.is_local) {
            self.builder.set_cold_block(slow);
            self.read(call, slow);
            self.builder.ins().jump(next, &[]);
        } else {
            self.builder.ins().jump(slow, &[]);
        }
        self.builder.switch_to_block(slow);
        self.suspension_point(call, next);
    }

    /// Whether this holds for the extents of all these regions, of which there is one at least.
    fn are_all(&self, regions: u64, holds: impl Fn(&Extent) -> bool) -> bool {
        regions != 0
            && (0..64).filter(|index| regions >> index & 1 == 1).all(|index| self.source.regions.get(index).is_some_and(&holds))
    }

    /// The number of a call's suspension point.
    fn point(&self, call: &Call) -> Option<usize> {
        let contracts = &self.source.proof.contracts().suspensions;
        contracts.binary_search_by_key(&call.instruction, |contract| contract.instruction).ok()
    }

    /// Everything that the contract of a suspension point says is live goes to the activation.
    fn save(&mut self, point: usize) {
        for (register, _) in &self.source.proof.contracts().suspensions[point].registers {
            let value = self.get(*register);
            self.builder.ins().store(self.flags.state, value, self.activation, saved(*register));
        }
        let point = self.builder.ins().iconst(I32, point as i64);
        self.builder.ins().store(self.flags.state, point, self.activation, offset_of!(Activation, point) as i32);
    }

    /// The slow way: what is live goes to the activation, then Rust decides.
    fn suspension_point(&mut self, call: &Call, next: Block) {
        let Some(point) = self.point(call) else {
            self.fail(naamc::interpreter::Failure::EngineFault);
            return;
        };
        self.save(point);
        self.write_back();
        let helper = self.builder.ins().iconst(I64, call.helper as i64);
        let exit = self.thunk(offset_of!(Surroundings, udma), &[self.turn, self.activation, helper], 2);
        let (running, ended) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(ended);
        self.builder.ins().brif(exit[0], ended, &[], running, &[]);
        self.builder.switch_to_block(ended);
        self.builder.ins().return_(&exit);
        self.builder.switch_to_block(running);
        self.set(Register::R0, exit[1]);
        self.builder.ins().jump(next, &[]);
    }

    /// Goes on in a new block unless a condition sends it the slow way.
    fn unless(&mut self, doubt: Value, slow: Block) {
        let certain = self.builder.create_block();
        self.builder.ins().brif(doubt, slow, &[], certain, &[]);
        self.builder.switch_to_block(certain);
    }

    /// The fast way of a read of local regions.
    fn read(&mut self, call: &Call, slow: Block) {
        let left_offset = offset_of!(Turn<'_>, operations_left) as i32;
        let left = self.builder.ins().load(I32, self.flags.state, self.turn, left_offset);
        let none_left = self.builder.ins().icmp_imm_s(IntCC::Equal, left, 0);
        self.unless(none_left, slow);
        let region = self.region(call.regions);
        let length = constant(call, Register::R4);
        let long = self.is_long(call);
        self.give_way_to_prefetch(call, long, region);
        match length {
            Some(length) if length > 0 && self.is_inline(length, INLINE_READ_BYTES_MAX) => {
                let offset = self.offset_in_region(call, region, length, slow);
                let to = self.parameter(call, Register::R3);
                let base = self.base_of(region);
                let from = self.builder.ins().iadd(base, offset);
                self.copy_from_region(to, from, length);
                self.set_constant(Register::R0, 0);
            }
            _ => {
                let to = self.parameter(call, Register::R3);
                let entry = self.builder.ins().iadd_imm_s(region.table, i64::from(region.entry));
                let arguments = [entry, self.get(Register::R2), self.address(to), self.number(Register::R4)];
                let result = self.thunk(offset_of!(Surroundings, read), &arguments, 1)[0];
                self.note_end(call);
                self.set(Register::R0, result);
            }
        }
        self.long_read_executed(long, region);
        // Loaded again: that is cheaper than a register held all the while.
        let left = self.builder.ins().load(I32, self.flags.state, self.turn, left_offset);
        let less = self.builder.ins().iadd_imm_s(left, -1);
        self.builder.ins().store(self.flags.state, less, self.turn, left_offset);
    }

    /// Notes how far a read has written the body, where only that is known to be written.
    fn note_end(&mut self, call: &Call) {
        if !notes_its_end(call) {
            return;
        }
        let (to, length) = (self.get(Register::R3), self.number(Register::R4));
        let end = self.builder.ins().iadd(to, length);
        let end = self.builder.ins().iadd_imm_s(end, -(BODY_START as i64));
        // A read of no bytes may name any address.
        let body_bytes = self.builder.ins().iconst(I64, i64::from(self.source.proof.function().entry.body_bytes));
        let end = self.builder.ins().umin(end, body_bytes);
        let end = self.builder.ins().ireduce(I32, end);
        let used_offset = offset_of!(Activation, body_used) as i32;
        let used = self.builder.ins().load(I32, self.flags.state, self.activation, used_offset);
        let used = self.builder.ins().umax(used, end);
        self.builder.ins().store(self.flags.state, used, self.activation, used_offset);
    }

    /// Finds the entry of r1's region in the turn's table.
    fn region(&mut self, regions: u64) -> Entry {
        let table = self.builder.ins().load(I64, self.flags.fixed, self.turn, offset_of!(Turn<'_>, first_region) as i32);
        if let Some(index) = only_region(regions) {
            let entry = (index * size_of::<Region>()) as i32;
            return Entry { table, entry, flags: self.flags.fixed, extent: self.source.regions.get(index).copied() };
        }
        let handle = self.get(Register::R1);
        let index = self.builder.ins().iadd_imm_s(handle, -(REGION_START as i64));
        let bytes = self.builder.ins().imul_imm_u(index, size_of::<Region>() as i64);
        Entry { table: self.builder.ins().iadd(table, bytes), entry: 0, flags: self.flags.table, extent: None }
    }

    /// Where a local region is mapped.
    fn base_of(&mut self, region: Entry) -> Value {
        self.builder.ins().load(I64, region.flags, region.table, region.entry + offset_of!(Region, base) as i32)
    }

    /// The length of a region, looked up as the code runs.
    fn length_of(&mut self, region: Entry) -> Value {
        self.builder.ins().load(I64, region.flags, region.table, region.entry + offset_of!(Region, length_bytes) as i32)
    }

    /// Whether a read has more bytes than are read at once whatever the memory.
    fn is_long(&mut self, call: &Call) -> Long {
        let lengths = number(call, Register::R4);
        if lengths.low_unsigned_max <= SHORT_READ_BYTES_MAX {
            return Long::Never;
        }
        if lengths.low_unsigned_min > SHORT_READ_BYTES_MAX {
            return Long::Always;
        }
        let length = self.low(Register::R4, 32);
        Long::If(self.builder.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, length, i64::from(SHORT_READ_BYTES_MAX)))
    }

    /// Rule 4 of [`crate::engine::Turn`], first half: a long read of cold memory suspends while `suspend_reads` is set. The message stands
    /// before its call then, and whoever entered the code sees to the prefetch.
    fn give_way_to_prefetch(&mut self, call: &Call, long: Long, region: Entry) {
        let (Some(cold), Some(point)) = (self.is_cold(long, region), self.point(call)) else { return };
        let mut suspend = self.builder.ins().load(I32, self.flags.state, self.turn, offset_of!(Turn<'_>, suspend_reads) as i32);
        if let Cold::If(cold) = cold {
            suspend = self.builder.ins().band(suspend, cold);
        }
        let (postponed, certain) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(postponed);
        self.builder.ins().brif(suspend, postponed, &[], certain, &[]);
        self.builder.switch_to_block(postponed);
        self.save(point);
        let address = self.address_in_region(region);
        self.finish(Status::Prefetch, address);
        self.builder.switch_to_block(certain);
    }

    /// Where r2 lies in a local region: its beginning if that is outside.
    fn address_in_region(&mut self, region: Entry) -> Value {
        let (offset, base) = (self.get(Register::R2), self.base_of(region));
        let length = match region.extent {
            Some(extent) => self.builder.ins().iconst(I64, extent.length_bytes as i64),
            None => self.length_of(region),
        };
        let inside = self.builder.ins().icmp(IntCC::UnsignedLessThan, offset, length);
        let address = self.builder.ins().iadd(base, offset);
        self.builder.ins().select(inside, address, base)
    }

    /// The second half: a long read of cold memory that is executed sets `suspend_reads` anew.
    fn long_read_executed(&mut self, long: Long, region: Entry) {
        let Some(cold) = self.is_cold(long, region) else { return };
        let suspend_offset = offset_of!(Turn<'_>, suspend_reads) as i32;
        let hides_offset = offset_of!(Turn<'_>, hides_latency) as i32;
        let mut new = self.builder.ins().load(I32, self.flags.fixed, self.turn, hides_offset);
        if let Cold::If(cold) = cold {
            let old = self.builder.ins().load(I32, self.flags.state, self.turn, suspend_offset);
            new = self.builder.ins().select(cold, new, old);
        }
        self.builder.ins().store(self.flags.state, new, self.turn, suspend_offset);
    }

    /// Whether a read is a long one of cold memory; `None` if it never is.
    fn is_cold(&mut self, long: Long, region: Entry) -> Option<Cold> {
        let cold = match region.extent {
            Some(extent) if !extent.is_cold => return None,
            Some(_) => None,
            None => {
                let cold = region.entry + offset_of!(Region, cold) as i32;
                Some(self.builder.ins().load(I32, region.flags, region.table, cold))
            }
        };
        Some(match (long, cold) {
            (Long::Never, _) => return None,
            (Long::Always, None) => Cold::Always,
            (Long::Always, Some(cold)) => Cold::If(cold),
            (Long::If(long), None) => Cold::If(self.builder.ins().uextend(I32, long)),
            (Long::If(long), Some(cold)) => {
                let long = self.builder.ins().uextend(I32, long);
                Cold::If(self.builder.ins().band(long, cold))
            }
        })
    }

    /// r2, checked: `length` bytes there lie inside the region, and every piece of them is aligned.
    fn offset_in_region(&mut self, call: &Call, region: Entry, length: u32, slow: Block) -> Value {
        let offset = self.get(Register::R2);
        let known = number(call, Register::R2);
        let length = u64::from(length);
        match region.extent.map(|extent| extent.length_bytes.checked_sub(length)) {
            // Never inside: the slow way gives the error.
            Some(None) => {
                let certain = self.builder.ins().iconst(I32, 1);
                self.unless(certain, slow);
            }
            Some(Some(last)) if known.unsigned_max <= last => {}
            Some(Some(last)) => {
                let last = self.builder.ins().iconst(I64, last as i64);
                let outside = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, offset, last);
                self.unless(outside, slow);
            }
            None => {
                let bytes = self.length_of(region);
                let short = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, bytes, length as i64);
                self.unless(short, slow);
                let last = self.builder.ins().iadd_imm_s(bytes, -(length as i64));
                let outside = self.builder.ins().icmp(IntCC::UnsignedGreaterThan, offset, last);
                self.unless(outside, slow);
            }
        }
        let needed = if length.is_power_of_two() { length.min(8) } else { 8 };
        if alignment(&known) < needed {
            let odd = self.builder.ins().band_imm_u(offset, needed as i64 - 1);
            self.unless(odd, slow);
        }
        offset
    }

    /// Moves region bytes to the activation, by words.
    fn copy_from_region(&mut self, to: Place, from: Value, length: u32) {
        let all: Vec<_> = pieces(0, length).collect();
        for some in all.chunks(LOADS_AT_ONCE) {
            let mut loaded = Vec::new();
            for (start, bytes) in some {
                let address = self.builder.ins().iadd_imm_s(from, i64::from(*start));
                loaded.push(self.load_region(address, *bytes));
            }
            for ((start, bytes), value) in some.iter().zip(loaded) {
                self.store_bytes(to.plus(*start), *bytes, value);
            }
        }
    }
}

/// Whether compiled code notes how far a call has written the body: a read into nothing else, whose length it learns as it runs.
pub(super) fn notes_its_end(call: &Call) -> bool {
    let into = call.memory.iter().find(|(parameter, _)| *parameter == Register::R3).map(|(_, touched)| *touched);
    call.helper == Helper::Read
        && constant(call, Register::R4).is_none()
        && into.is_some_and(|touched| touched.body.is_some() && touched.stack.is_none() && touched.read_only.is_none())
}

/// Whether a read is longer than [`SHORT_READ_BYTES_MAX`].
#[derive(Clone, Copy)]
enum Long {
    Never,
    Always,
    If(Value),
}

/// Whether a read is a long one of cold memory: always, or if the number is 1 and not 0.
#[derive(Clone, Copy)]
enum Cold {
    Always,
    If(Value),
}

/// A region's entry in the turn's table.
#[derive(Clone, Copy)]
struct Entry {
    /// A pointer, and the entry's offset from it.
    table: Value,
    entry: i32,
    flags: MemFlagsData,
    /// What was compiled in of the region, if it can be only one.
    extent: Option<Extent>,
}

/// The region, if there is only one.
fn only_region(regions: u64) -> Option<usize> {
    regions.is_power_of_two().then_some(regions.trailing_zeros() as usize)
}

/// What was proved of a numeric parameter.
fn number(call: &Call, register: Register) -> Scalar {
    call.numbers.iter().find(|(parameter, _)| *parameter == register).map_or(Scalar::ANY, |(_, scalar)| *scalar)
}

/// A u32 parameter that can be only one number.
fn constant(call: &Call, register: Register) -> Option<u32> {
    let scalar = number(call, register);
    (scalar.low_unsigned_min == scalar.low_unsigned_max).then_some(scalar.low_unsigned_min)
}

/// The largest power of two, up to 4096, that divides every value.
fn alignment(scalar: &Scalar) -> u64 {
    let by_bits = 1u64 << (!scalar.zeros).trailing_zeros().min(12);
    let divides = |number: u64| 1u64 << number.trailing_zeros().min(12);
    let by_stride = divides(scalar.stride).min(divides(scalar.signed_min as u64));
    by_bits.max(by_stride)
}

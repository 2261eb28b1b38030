//! Lowering of loads, stores and atomics on stack, body and read-only data, and of short runs of bytes there.
//!
//! All of it is private to the executor for the turn, so atomics are ordinary loads and stores. Nothing is checked: the verifier proved
//! where every access lies.

use super::lower::{Lowering, MEMORY, integer};
use super::surroundings::Surroundings;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I8X16, I32, I64};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value};
use naamc::abi::address::READ_ONLY_START;
use naamc::isa::{AtomicOperation, Instruction, Operand, Register, Size};
use naamc::verifier::{Access, Touched};
use std::mem::offset_of;

/// Stack bytes to zero, in one range, above which a call is shorter than stores.
const INLINE_ZERO_BYTES_MAX: u32 = 512;

/// A machine address: a value plus a constant, and the kind of memory there.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) base: Value,
    pub(super) offset: i32,
    pub(super) flags: MemFlagsData,
}

impl Place {
    /// The place so many bytes further on.
    pub(super) fn plus(self, bytes: u32) -> Place {
        Place { offset: self.offset + bytes as i32, ..self }
    }
}

impl Lowering<'_, '_> {
    /// Where an access of `length` bytes goes. `exact` says that it is always the same bytes.
    pub(super) fn place(&mut self, touched: &Touched, exact: bool, base: Register, offset: i32) -> Place {
        let memory = touched.stack.or(touched.body);
        match (memory, touched.read_only) {
            (Some(range), None) if exact => {
                Place { base: self.activation, offset: MEMORY as i32 + range.start as i32, flags: self.flags.memory }
            }
            (None, Some(range)) if exact => {
                Place { base: self.read_only(), offset: range.start as i32, flags: self.flags.read_only }
            }
            (_, None) => {
                let register = self.get(base);
                let base = self.builder.ins().iadd(self.memory_base, register);
                Place { base, offset, flags: self.flags.memory }
            }
            (None, Some(_)) => {
                let (data, register) = (self.read_only(), self.get(base));
                let from_start = self.builder.ins().iadd_imm_s(register, -(READ_ONLY_START as i64));
                let base = self.builder.ins().iadd(data, from_start);
                Place { base, offset, flags: self.flags.read_only }
            }
            (Some(_), Some(_)) => {
                let (data, register) = (self.read_only(), self.get(base));
                let data_base = self.builder.ins().iadd_imm_s(data, -(READ_ONLY_START as i64));
                let address = self.builder.ins().iadd_imm_s(register, i64::from(offset));
                let start = self.builder.ins().iconst(I64, READ_ONLY_START as i64);
                let is_data = self.builder.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, address, start);
                let base = self.builder.ins().select(is_data, data_base, self.memory_base);
                let base = self.builder.ins().iadd(base, address);
                Place { base, offset: 0, flags: self.flags.either }
            }
        }
    }

    fn read_only(&mut self) -> Value {
        let surroundings = self.surroundings();
        self.builder.ins().load(I64, self.flags.fixed, surroundings, offset_of!(Surroundings, read_only) as i32)
    }

    /// The place as one value.
    pub(super) fn address(&mut self, place: Place) -> Value {
        self.builder.ins().iadd_imm_s(place.base, i64::from(place.offset))
    }

    /// Loads 1, 2, 4 or 8 bytes, zero-extended.
    pub(super) fn load_bytes(&mut self, place: Place, bytes: u8) -> Value {
        let Place { base, offset, flags } = place;
        match bytes {
            1 => self.builder.ins().uload8(I64, flags, base, offset),
            2 => self.builder.ins().uload16(I64, flags, base, offset),
            4 => self.builder.ins().uload32(flags, base, offset),
            _ => self.builder.ins().load(I64, flags, base, offset),
        }
    }

    /// Stores the low 1, 2, 4 or 8 bytes.
    pub(super) fn store_bytes(&mut self, place: Place, bytes: u8, value: Value) {
        let Place { base, offset, flags } = place;
        match bytes {
            1 => self.builder.ins().istore8(flags, value, base, offset),
            2 => self.builder.ins().istore16(flags, value, base, offset),
            4 => self.builder.ins().istore32(flags, value, base, offset),
            _ => self.builder.ins().store(flags, value, base, offset),
        };
    }

    pub(super) fn load(&mut self, access: &Access, size: Size, signed: bool, destination: Register, base: Register, offset: i32) {
        let place = self.place(&access.touched, access.exact, base, offset);
        let Place { base, offset, flags } = place;
        let value = match size {
            Size::B1 if signed => self.builder.ins().sload8(I64, flags, base, offset),
            Size::B2 if signed => self.builder.ins().sload16(I64, flags, base, offset),
            Size::B4 if signed => self.builder.ins().sload32(flags, base, offset),
            _ => self.load_bytes(place, size.bytes() as u8),
        };
        self.set(destination, value);
    }

    pub(super) fn store(&mut self, access: &Access, size: Size, base: Register, offset: i32, source: Operand) {
        let value = match source {
            Operand::Register(register) => self.get(register),
            Operand::Immediate(number) => self.builder.ins().iconst(I64, i64::from(number)),
        };
        let place = self.place(&access.touched, access.exact, base, offset);
        self.store_bytes(place, size.bytes() as u8, value);
    }

    pub(super) fn atomic(&mut self, access: &Access, instruction: &Instruction) {
        let Instruction::Atomic { operation, size, fetch, base, offset, source } = *instruction else { return };
        let place = self.place(&access.touched, access.exact, base, offset);
        let bytes = size.bytes() as u8;
        let old = self.load_bytes(place, bytes);
        let operand = self.get(source);
        let new = match operation {
            AtomicOperation::Add => self.builder.ins().iadd(old, operand),
            AtomicOperation::Or => self.builder.ins().bor(old, operand),
            AtomicOperation::And => self.builder.ins().band(old, operand),
            AtomicOperation::Xor => self.builder.ins().bxor(old, operand),
            AtomicOperation::Exchange => operand,
            AtomicOperation::CompareExchange => {
                let mut expected = self.get(Register::R0);
                if size != Size::B8 {
                    let low = self.builder.ins().ireduce(I32, expected);
                    expected = self.builder.ins().uextend(I64, low);
                }
                let equal = self.builder.ins().icmp(IntCC::Equal, old, expected);
                self.builder.ins().select(equal, operand, old)
            }
        };
        self.store_bytes(place, bytes, new);
        match operation {
            AtomicOperation::CompareExchange => self.set(Register::R0, old),
            _ if fetch => self.set(source, old),
            _ => {}
        }
    }

    /// Zeroes the stack bytes that may be read before they are written.
    pub(super) fn zero_stack(&mut self) {
        let proof = self.source.proof;
        for range in &proof.analysis().zeroed {
            let place = Place { base: self.activation, offset: MEMORY as i32 + range.start as i32, flags: self.flags.memory };
            let length = range.end - range.start;
            let zero = self.builder.ins().iconst(I64, 0);
            if length > INLINE_ZERO_BYTES_MAX {
                let address = self.address(place);
                let length = self.builder.ins().iconst(I64, i64::from(length));
                self.thunk(offset_of!(Surroundings, fill), &[address, zero, length], 0);
            } else {
                self.fill_bytes(place, zero, length);
            }
        }
    }

    /// Stores a byte so many times.
    pub(super) fn fill_bytes(&mut self, place: Place, byte: Value, length: u32) {
        let byte = self.builder.ins().ireduce(I8, byte);
        let mut wide = None;
        let mut done = 0;
        while length - done >= 16 {
            let vector = *wide.get_or_insert_with(|| self.builder.ins().splat(I8X16, byte));
            let Place { base, offset, flags } = place.plus(done);
            self.builder.ins().store(flags, vector, base, offset);
            done += 16;
        }
        if done == length {
            return;
        }
        let extended = self.builder.ins().uextend(I64, byte);
        let repeated = self.builder.ins().imul_imm_u(extended, 0x0101_0101_0101_0101);
        for (start, bytes) in pieces(done, length) {
            self.store_bytes(place.plus(start), bytes, repeated);
        }
    }

    /// Copies so many bytes that may overlap: everything is loaded before anything is stored.
    pub(super) fn copy_bytes(&mut self, to: Place, from: Place, length: u32) {
        let mut loaded = Vec::new();
        let mut done = 0;
        while length - done >= 16 {
            let Place { base, offset, flags } = from.plus(done);
            loaded.push((done, 16, self.builder.ins().load(I8X16, flags, base, offset)));
            done += 16;
        }
        for (start, bytes) in pieces(done, length) {
            loaded.push((start, bytes, self.load_bytes(from.plus(start), bytes)));
        }
        for (start, bytes, value) in loaded {
            let place = to.plus(start);
            match bytes {
                16 => {
                    self.builder.ins().store(place.flags, value, place.base, place.offset);
                }
                _ => self.store_bytes(place, bytes, value),
            }
        }
    }

    /// Compares so many bytes as `memcmp` does: -1, 0 or 1.
    pub(super) fn compare_bytes(&mut self, left: Place, right: Place, length: u32) -> Value {
        let differ = self.builder.create_block();
        let end = self.builder.create_block();
        for _ in 0..2 {
            self.builder.append_block_param(differ, I64);
        }
        self.builder.append_block_param(end, I64);
        for (start, bytes) in pieces(0, length) {
            let (one, other) = (self.load_bytes(left.plus(start), bytes), self.load_bytes(right.plus(start), bytes));
            let equal = self.builder.ins().icmp(IntCC::Equal, one, other);
            let next = self.builder.create_block();
            self.builder.ins().brif(equal, next, &[], differ, &[one.into(), other.into()]);
            self.builder.switch_to_block(next);
        }
        let zero = self.builder.ins().iconst(I64, 0);
        self.builder.ins().jump(end, &[zero.into()]);
        self.builder.switch_to_block(differ);
        let [one, other] = [0, 1].map(|index| self.builder.block_params(differ)[index]);
        // The first byte in memory decides: make it the highest.
        let (one, other) = (self.builder.ins().bswap(one), self.builder.ins().bswap(other));
        let less = self.builder.ins().icmp(IntCC::UnsignedLessThan, one, other);
        let (minus_one, plus_one) = (self.builder.ins().iconst(I64, -1), self.builder.ins().iconst(I64, 1));
        let order = self.builder.ins().select(less, minus_one, plus_one);
        self.builder.ins().jump(end, &[order.into()]);
        self.builder.switch_to_block(end);
        self.builder.block_params(end)[0]
    }

    /// Loads an aligned piece of a region: 1, 2, 4 or 8 bytes, zero-extended. Atomic, because a plain load of what another core changes could be
    /// merged with an earlier one, moved or torn.
    pub(super) fn load_region(&mut self, address: Value, bytes: u8) -> Value {
        let value = self.builder.ins().atomic_load(integer(bytes * 8), self.flags.region, address);
        if bytes == 8 { value } else { self.builder.ins().uextend(I64, value) }
    }
}

/// Cuts bytes from `done` to `length` into runs of 8, 4, 2 and 1: start and size.
pub(super) fn pieces(done: u32, length: u32) -> impl Iterator<Item = (u32, u8)> {
    let mut at = done;
    std::iter::from_fn(move || {
        let bytes = match length - at {
            0 => return None,
            1 => 1,
            2..=3 => 2,
            4..=7 => 4,
            _ => 8,
        };
        at += bytes;
        Some((at - bytes, bytes as u8))
    })
}

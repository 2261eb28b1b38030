#!/usr/bin/env python3
"""Writes conformance.txt: what every instruction of RFC 9669's base, divmul and atomic groups does.

A model of its own, made from the RFC's text alone: it works on the bytes of one instruction and on Python's unbounded integers,
and knows nothing of this project's engines. Run it as `python3 conformance.py > conformance.txt`.

Lines of the output:

    values V...                          left operands, as hex numbers
    alu INSTRUCTION RIGHT RESULT...      r3 after the instruction, for each left operand in r3, with RIGHT (or anything: `-`) in r4
    jump INSTRUCTION RIGHT BITS          1 where the jump is taken, for each left operand
    memory INSTRUCTION R0 R3 R4 DATA > R0 R3 R4 DATA
                                         registers and the 24 bytes at r5 - 8, before and after

Registers and memory that a line does not name keep their values. Instructions are written as their bytes.
"""

import random
import struct

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
LEFT, RIGHT, BASE = 3, 4, 5  # registers of the instructions under test

VALUES = [
    0, 1, 2, 7, 33, 0x7F, 0x80, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000,
    0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFF80000000,
    0x123456789ABCDEF0, 0xFEDCBA9876543210,
]
IMMEDIATES = [0, 1, 2, 7, 31, 32, 63, 64, 0x7FFFFFFF, -1, -2, -128, -0x80000000, 0x12345678]


def signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def encode(opcode, destination, source, offset, immediate):
    return struct.pack("<BBhi", opcode, source << 4 | destination, offset, signed(immediate, 32))


def quotient(left, right):
    """Division that truncates towards zero, as section 4.1 demands of signed division."""
    result = abs(left) // abs(right)
    return result if (left < 0) == (right < 0) else -result


# Section 4.1: name -> (code, function of left, right, bits). Operands and result are unsigned numbers of `bits` bits.
def divide(left, right, bits):
    return 0 if right == 0 else left // right


def modulo(left, right, bits):
    return left if right == 0 else left % right


def signed_divide(left, right, bits):
    # The most negative number divided by -1 is itself: its negation, wrapped.
    left, right = signed(left, bits), signed(right, bits)
    return 0 if right == 0 else quotient(left, right)


def signed_modulo(left, right, bits):
    left, right = signed(left, bits), signed(right, bits)
    return left if right == 0 else left - right * quotient(left, right)


ALU = [
    (0x0, 0, lambda a, b, n: a + b),
    (0x1, 0, lambda a, b, n: a - b),
    (0x2, 0, lambda a, b, n: a * b),
    (0x3, 0, divide),
    (0x3, 1, signed_divide),
    (0x4, 0, lambda a, b, n: a | b),
    (0x5, 0, lambda a, b, n: a & b),
    (0x6, 0, lambda a, b, n: a << (b & (n - 1))),
    (0x7, 0, lambda a, b, n: a >> (b & (n - 1))),
    (0x9, 0, modulo),
    (0x9, 1, signed_modulo),
    (0xA, 0, lambda a, b, n: a ^ b),
    (0xB, 0, lambda a, b, n: b),
    (0xC, 0, lambda a, b, n: signed(a, n) >> (b & (n - 1))),
]

# Section 4.3: code -> condition on operands of `bits` bits.
JUMPS = [
    (0x1, lambda a, b, n: a == b),
    (0x2, lambda a, b, n: a > b),
    (0x3, lambda a, b, n: a >= b),
    (0x4, lambda a, b, n: a & b != 0),
    (0x5, lambda a, b, n: a != b),
    (0x6, lambda a, b, n: signed(a, n) > signed(b, n)),
    (0x7, lambda a, b, n: signed(a, n) >= signed(b, n)),
    (0xA, lambda a, b, n: a < b),
    (0xB, lambda a, b, n: a <= b),
    (0xC, lambda a, b, n: signed(a, n) < signed(b, n)),
    (0xD, lambda a, b, n: signed(a, n) <= signed(b, n)),
]


def numbers(values):
    return " ".join(f"{value:x}" for value in values)


def alu(instruction, right, results):
    print("alu", instruction.hex(), "-" if right is None else f"{right:x}", numbers(results))


def arithmetic():
    for bits, mask, kind in ((32, M32, 4), (64, M64, 7)):
        for code, offset, compute in ALU:
            def results(right):
                # The low bits take part; a 32-bit result is zero-extended.
                return [compute(left & mask, right & mask, bits) & mask for left in VALUES]
            instruction = encode(code << 4 | 8 | kind, LEFT, RIGHT, offset, 0)
            for right in VALUES:
                alu(instruction, right, results(right))
            # Both operands in one register.
            same = encode(code << 4 | 8 | kind, LEFT, LEFT, offset, 0)
            alu(same, None, [compute(left & mask, left & mask, bits) & mask for left in VALUES])
            for immediate in IMMEDIATES:
                # An immediate is sign-extended to 64 bits first.
                alu(encode(code << 4 | kind, LEFT, 0, offset, immediate), None, results(immediate & M64))
        alu(encode(0x8 << 4 | kind, LEFT, 0, 0, 0), None, [-left & mask for left in VALUES])
        for width in (8, 16, 32):
            if width < bits:
                instruction = encode(0xB << 4 | 8 | kind, LEFT, LEFT, width, 0)
                alu(instruction, None, [signed(left, width) & mask for left in VALUES])
                instruction = encode(0xB << 4 | 8 | kind, LEFT, RIGHT, width, 0)
                for right in VALUES:
                    alu(instruction, right, [signed(right, width) & mask for _ in VALUES])
    # Section 4.2: to little endian, to big endian, unconditional swap, on a little-endian machine.
    for opcode, swap in ((0xD4, False), (0xDC, True), (0xD7, True)):
        for bits in (16, 32, 64):
            def convert(value):
                data = (value & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
                return int.from_bytes(data, "big" if swap else "little")
            alu(encode(opcode, LEFT, 0, 0, bits), None, [convert(left) for left in VALUES])
    # Section 5.4: the 64-bit immediate.
    for value in VALUES:
        first = encode(0x18, LEFT, 0, 0, value & M32)
        second = encode(0, 0, 0, 0, value >> 32)
        alu(first + second, None, [value for _ in VALUES])


def jumps():
    for bits, mask, kind in ((64, M64, 5), (32, M32, 6)):
        for code, holds in JUMPS:
            def bits_of(right):
                return "".join("01"[holds(left & mask, right & mask, bits)] for left in VALUES)
            instruction = encode(code << 4 | 8 | kind, LEFT, RIGHT, 1, 0)
            for right in VALUES:
                print("jump", instruction.hex(), f"{right:x}", bits_of(right))
            same = encode(code << 4 | 8 | kind, LEFT, LEFT, 1, 0)
            print("jump", same.hex(), "-", "".join("01"[holds(left & mask, left & mask, bits)] for left in VALUES))
            for immediate in IMMEDIATES:
                print("jump", encode(code << 4 | kind, LEFT, 0, 1, immediate).hex(), "-", bits_of(immediate & M64))
    always = "1" * len(VALUES)
    print("jump", encode(0x05, 0, 0, 1, 0).hex(), "-", always)
    print("jump", encode(0x06, 0, 0, 0, 1).hex(), "-", always)


SIZES = [(1, 0x10), (2, 0x08), (4, 0x00), (8, 0x18)]  # bytes, bits of the opcode
OFFSETS = [-8, -1, 0, 3, 8]
DATA_START = -8  # of the 24 bytes, from r5


def memory(instruction, before, after):
    def state(registers, data):
        return numbers(registers) + " " + data.hex()
    print("memory", instruction.hex(), state(*before), ">", state(*after))


def pattern(generator, high_bit):
    """Bytes of which all, or none, have the sign bit."""
    return bytes(generator.randrange(128) | (128 if high_bit else 0) for _ in range(24))


def place(offset, size):
    return slice(offset - DATA_START, offset - DATA_START + size)


def loads_and_stores(generator):
    registers = [0x1111, 0x2222, 0x3333]
    for size, bits in SIZES:
        for offset in OFFSETS:
            for high_bit in (False, True):
                data = pattern(generator, high_bit)
                value = int.from_bytes(data[place(offset, size)], "little")
                # Sections 5.1 and 5.2: loads, zero-extending and sign-extending.
                modes = [(0x60, value)] + ([(0x80, signed(value, size * 8) & M64)] if size < 8 else [])
                for mode, result in modes:
                    instruction = encode(mode | bits | 1, LEFT, BASE, offset, 0)
                    memory(instruction, (registers, data), ([registers[0], result, registers[2]], data))
                # Stores of a register and of an immediate, which is sign-extended.
                for source in (0, 0x8182838485868788, M64):
                    written = bytearray(data)
                    written[place(offset, size)] = source.to_bytes(8, "little")[:size]
                    instruction = encode(0x60 | bits | 3, BASE, RIGHT, offset, 0)
                    memory(instruction, ([1, 2, source], data), ([1, 2, source], bytes(written)))
                for immediate in (0, 0x12345678, -2, -0x80000000):
                    written = bytearray(data)
                    written[place(offset, size)] = (immediate & M64).to_bytes(8, "little")[:size]
                    instruction = encode(0x60 | bits | 2, BASE, 0, offset, immediate)
                    memory(instruction, (registers, data), (registers, bytes(written)))


# Section 5.3: operation -> (immediate, function of old and source).
ATOMICS = [
    (0x00, lambda old, source: old + source),
    (0x40, lambda old, source: old | source),
    (0x50, lambda old, source: old & source),
    (0xA0, lambda old, source: old ^ source),
]
ATOMIC_OPERANDS = [0, 1, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, M64, 0x0123456789ABCDEF]


def atomics(generator):
    for size, bits in SIZES[2:]:
        opcode, mask = 0xC0 | bits | 3, (1 << (size * 8)) - 1
        offset_of = {4: (-4, 0, 4), 8: (-8, 0, 8)}[size]
        for number, old in enumerate(ATOMIC_OPERANDS):
            for source in ATOMIC_OPERANDS:
                offset = offset_of[number % 3]
                data = bytearray(generator.randbytes(24))
                data[place(offset, size)] = (old & mask).to_bytes(size, "little")

                def with_value(value):
                    changed = bytearray(data)
                    changed[place(offset, size)] = (value & mask).to_bytes(size, "little")
                    return bytes(changed)

                before = ([0xAAAA, 0xBBBB, source], bytes(data))
                for immediate, compute in ATOMICS:
                    new = with_value(compute(old & mask, source & mask))
                    memory(encode(opcode, BASE, RIGHT, offset, immediate), before, (before[0], new))
                    fetched = [0xAAAA, 0xBBBB, old & mask]
                    memory(encode(opcode, BASE, RIGHT, offset, immediate | 1), before, (fetched, new))
                memory(encode(opcode, BASE, RIGHT, offset, 0xE1), before, ([0xAAAA, 0xBBBB, old & mask], with_value(source)))
                # Compare-exchange: with r0 equal to the old value, equal in its low half only, and different.
                for expected in (old, old & mask, (old & mask) | 0x5 << 60, old ^ 1):
                    new = source if expected & mask == old & mask else old
                    instruction = encode(opcode, BASE, RIGHT, offset, 0xF1)
                    memory(instruction, ([expected, 0xBBBB, source], bytes(data)), ([old & mask, 0xBBBB, source], with_value(new)))


def main():
    print("# Written by conformance.py. Do not edit.")
    print("values", numbers(VALUES))
    arithmetic()
    jumps()
    generator = random.Random(9669)
    loads_and_stores(generator)
    atomics(generator)


main()

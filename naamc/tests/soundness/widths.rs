//! Random handlers with another bias than [`super::generator`]: halves and signs of numbers, strides, pointers of several kinds that join,
//! spilled words that change their type from round to round, numbers from a table.
//!
//! r6 is the body; r7, r8, r9, r8@1, r9@1 are numbers; r6@1 is a pointer that may be written through (16 bytes), r7@1 one that may be
//! read through (16 bytes). The seventeen words below r10 hold numbers, and below them are slots of pointers.

use super::generator::BODY_BYTES;
use fastrand::Rng;
use std::fmt::Write;

/// Emits a line whose parts are drawn while it is written, which a method's arguments could not be.
macro_rules! emit {
    ($generator:expr, $($rest:tt)*) => {{
        let text = format!($($rest)*);
        $generator.line(&text)
    }};
}

/// Bytes below r10 that hold numbers.
const BUFFER: i32 = 136;
const NUMBERS: [&str; 5] = ["7", "8", "9", "8@1", "9@1"];
/// Counters of loops around one statement.
const COUNTERS_MAX: usize = 3;

/// The table: words that are small multiples, so that they can be indices, and words at the ends of the number line.
pub fn read_only() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0u64, 8, 16, 40] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [0x8000_0000u64, 0xffff_ffff_ffff_fff8, 0x7fff_ffff_0000_0001, 3] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// A body whose words are near the ends of halves and signs.
pub fn body(random: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let small = random.u8(0..3) == 0;
    for _ in 0..BODY_BYTES / 8 {
        let word = match random.u8(0..if small { 2 } else { 10 }) {
            0 => random.u64(0..9),
            1 => random.u64(0..70),
            2 => (1u64 << random.u8(0..64)).wrapping_add(random.u64(0..3)).wrapping_sub(1),
            3 => random.u64(..) >> random.u8(0..64),
            4 => u64::from(random.u32(..)) << 32 | random.u64(0..80),
            5 => (random.u64(0..80)).wrapping_neg(),
            6 => 0u64.wrapping_sub(0x1_0000_1000).wrapping_add(random.u64(0..2) << 32),
            7 => 0x8000_0000u64.wrapping_add(random.u64(0..64)).wrapping_sub(32),
            8 => 0xffff_ffffu64.wrapping_add(random.u64(0..64)).wrapping_sub(32),
            _ => random.u64(..),
        };
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// The text of a random handler.
pub fn handler(random: &mut Rng) -> String {
    let mut generator = Generator { random, text: String::new(), labels: 0, frozen: Vec::new() };
    generator.line("r6 = r1");
    for number in NUMBERS {
        match generator.random.u8(0..3) {
            0 => {
                let value = generator.number();
                emit!(generator, "r{number} = {value:#x} ll")
            }
            _ => generator.load(number),
        }
    }
    for word in 1..=17 {
        let number = NUMBERS[word % 5];
        emit!(generator, "*(u64 *)(r10 - {}) = r{number}", 8 * word);
    }
    generator.set_pointer("6@1", true);
    generator.set_pointer("7@1", false);
    generator.line("*(u64 *)(r10 - 216) = r6@1");
    generator.line("*(u64 *)(r10 - 224) = r7@1");
    generator.line("*(u64 *)(r10 - 232) = r7");
    for _ in 0..generator.random.usize(2..9) {
        generator.statement(0);
    }
    generator.line("r0 = r7");
    for number in &NUMBERS[1..] {
        emit!(generator, "r0 ^= r{number}");
    }
    generator.line("exit");
    generator.text
}

struct Generator<'a> {
    random: &'a mut Rng,
    text: String,
    labels: u32,
    /// Numbers that loops count with: nothing else changes them.
    frozen: Vec<&'static str>,
}

impl Generator<'_> {
    fn line(&mut self, line: &str) {
        match line.strip_suffix(':') {
            Some(_) => writeln!(self.text, "{line}"),
            None => writeln!(self.text, "  {line}"),
        }
        .expect("a string takes all text");
    }

    fn lines(&mut self, lines: &[&str]) {
        lines.iter().for_each(|line| self.line(line));
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(0..from.len())]
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(0..n) == 0
    }

    fn to(&mut self) -> &'static str {
        let free: Vec<&'static str> = NUMBERS.iter().copied().filter(|n| !self.frozen.contains(n)).collect();
        self.pick(&free)
    }

    fn from(&mut self) -> &'static str {
        self.pick(&NUMBERS)
    }

    fn number(&mut self) -> u64 {
        let value = match self.random.u8(0..6) {
            0 => self.random.u64(0..70),
            1 => 1 << self.random.u8(0..64),
            2 => self.random.u64(..) >> self.random.u8(0..64),
            3 => (1u64 << self.random.u8(0..64)).wrapping_sub(1),
            4 => self.pick(&[0, 1, 31, 32, 33, 63, 64, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 1 << 63]),
            _ => u64::from(self.random.u32(..)),
        };
        if self.one_in(3) { value.wrapping_neg() } else { value }
    }

    fn immediate(&mut self) -> i32 {
        self.number() as i32
    }

    fn statement(&mut self, depth: u32) {
        match self.random.u8(0..if depth < 3 { 46 } else { 30 }) {
            0..=6 => self.arithmetic(),
            7 => {
                let to = self.to();
                self.load(to)
            }
            8 => self.store(),
            9 | 10 => self.stack_word(),
            11..=13 => self.cut(),
            14..=17 => self.indexed(),
            18 | 19 => self.pointer_branch(),
            20..=22 => self.use_pointer(),
            23 => self.spill(),
            24 => self.table(),
            25 => self.helper(),
            26 => self.udma(),
            27 => self.pointer_number(),
            28 => self.pointer_bound(),
            29 => self.difference(),
            30..=37 => self.branch(depth),
            38..=42 => self.counted_loop(depth),
            43 => self.walk(),
            44 => self.slot_loop(depth),
            _ => self.pointer_loop(depth),
        }
        if self.one_in(3) {
            // So that a place that is wrongly called unreachable is seen.
            self.line("r0 = *(u8 *)(r6 + 0)");
        }
    }

    fn arithmetic(&mut self) {
        let (to, from, width) = (self.to(), self.from(), self.pick(&['r', 'w']));
        let operand = if self.random.bool() { format!("{width}{from}") } else { format!("{}", self.immediate()) };
        let line = match self.random.u8(0..24) {
            0 => format!("{width}{to} = -{width}{to}"),
            1 => format!("{width}{to} = (s{}){width}{from}", self.pick(&[8, 16])),
            2 | 3 => format!("r{to} = (s32)r{from}"),
            4 => format!("r{to} = {}{} r{to}", self.pick(&["le", "be", "bswap"]), self.pick(&[16, 32, 64])),
            5 => format!("r{to} = {:#x} ll", self.number()),
            6 => format!("w{to} = w{from}"),
            7 | 8 => format!(
                "{width}{to} {} {}",
                self.pick(&["<<=", ">>=", "s>>="]),
                if width == 'r' { self.random.u32(0..64) } else { self.random.u32(0..32) }
            ),
            9 => format!("{width}{to} {} {width}{from}", self.pick(&["<<=", ">>=", "s>>="])),
            10 | 11 => {
                format!("{width}{to} &= {}", self.pick(&[1, 3, 7, 12, 15, 24, 31, 56, 63, 255, -8, -4, 0x7fff_ffff, i32::MIN]))
            }
            12 => format!(
                "{width}{to} {} {}",
                self.pick(&["/=", "s/=", "%=", "s%="]),
                self.pick(&[0, 1, -1, 2, 3, 8, 10, 64, i32::MIN, i32::MAX, -3])
            ),
            13 => format!("{width}{to} *= {}", self.pick(&[0, 1, -1, 2, 3, 8, 12, 24, -8, 0x1000_0000])),
            14 => format!("{width}{to} += {}", self.pick(&[1, -1, 8, -8, i32::MAX, i32::MIN, 3])),
            15 => {
                // Sign extension by shifts, and its opposite.
                let by = self.pick(&[32, 48, 56, 16]);
                emit!(self, "r{to} <<= {by}");
                format!("r{to} {} {by}", self.pick(&[">>=", "s>>="]))
            }
            _ => {
                let operator =
                    self.pick(&["+=", "-=", "*=", "/=", "s/=", "%=", "s%=", "|=", "&=", "^=", "<<=", ">>=", "s>>=", "="]);
                format!("{width}{to} {operator} {operand}")
            }
        };
        self.line(&line);
    }

    /// Bits of an access, and where it lies inside so many bytes.
    fn inside(&mut self, bytes: i32) -> (i32, i32) {
        let bits = self.pick(&[8, 16, 32, 64]);
        (bits, self.random.i32(0..=bytes - bits / 8))
    }

    fn load(&mut self, to: &str) {
        let (bits, offset) = self.inside(BODY_BYTES as i32);
        let offset = if self.random.bool() { offset / 8 * 8 } else { offset };
        let kind = if bits < 64 { self.pick(&['u', 's']) } else { 'u' };
        emit!(self, "r{to} = *({kind}{bits} *)(r6 + {offset})");
    }

    fn store(&mut self) {
        let ((bits, offset), from) = (self.inside(BODY_BYTES as i32), self.from());
        let value = if self.one_in(3) { format!("{}", self.immediate()) } else { format!("r{from}") };
        emit!(self, "*(u{bits} *)(r6 + {offset}) = {value}");
    }

    fn stack_word(&mut self) {
        let (to, from) = (self.to(), self.from());
        let bits = self.pick(&[8, 16, 32, 64, 64]);
        let offset = self.random.i32(bits / 8..=BUFFER);
        let aligned = self.random.i32(1..=17) * 8;
        let line = match self.random.u8(0..8) {
            0 | 1 => format!("r{to} = *(u{bits} *)(r10 - {offset})"),
            2 if bits < 64 => format!("r{to} = *(s{bits} *)(r10 - {offset})"),
            3 => format!("lock *(u{} *)(r10 - {aligned}) {} r{from}", self.pick(&[32, 64]), self.pick(&["+=", "|=", "&=", "^="])),
            4 => {
                let (name, bits) = (self.pick(&["add", "or", "and", "xor"]), self.pick(&[32, 64]));
                format!("r{to} = atomic_fetch_{name}((u{bits} *)(r10 - {aligned}), r{to})")
            }
            5 => {
                let bits = self.pick(&[32, 64]);
                emit!(self, "r0 = r{from}");
                emit!(self, "r0 = cmpxchg{bits}(r10 - {aligned}, r0, r{to})");
                format!("r{to} = r0")
            }
            6 => format!("*(u{bits} *)(r10 - {offset}) = {}", self.immediate()),
            _ => format!("*(u{bits} *)(r10 - {offset}) = r{from}"),
        };
        self.line(&line);
    }

    /// A UDMA call, across which only contracts hold.
    fn cut(&mut self) {
        match self.random.u8(0..3) {
            0 => self.lines(&["r1 = region 0 ll", "r2 = 8", "r3 = 1", "r4 = r10", "r4 += -64", "call naam_fetch_add"]),
            1 => self.lines(&["r1 = region 1 ll", "r2 = 0", "r3 = r6", "r3 += 16", "r4 = 12", "call naam_read"]),
            _ => self.lines(&["r1 = region 0 ll", "r2 = 32", "r3 = r10", "r3 += -136", "r4 = 5", "call naam_write"]),
        }
    }

    /// r2 is at most `max`; some ways do not do what they seem to.
    fn bounded(&mut self, max: i32, out: &str) {
        let from = self.from();
        let mask = (1 << (max + 1).ilog2()) - 1;
        let lines: Vec<String> = match self.random.u8(0..22) {
            0 => vec![format!("r2 = r{from}"), format!("r2 &= {mask}")],
            1 => vec![format!("w2 = w{from}"), format!("w2 %= {}", max + 1)],
            2 => vec![format!("r2 = r{from}"), format!("if r2 > {max} goto {out}")],
            3 => vec![format!("r2 = (s32)r{from}"), format!("if r2 s> {max} goto {out}"), format!("if r2 s< 0 goto {out}")],
            4 => vec![format!("r2 = (s8)r{from}"), format!("if r2 s> {max} goto {out}"), format!("if w2 s< 0 goto {out}")],
            5 => vec![format!("w2 = (s16)w{from}"), format!("if w2 s> {max} goto {out}"), format!("if w2 s< 0 goto {out}")],
            6 => vec![format!("if w{from} > {max} goto {out}"), format!("w2 = w{from}")],
            7 => {
                vec![format!("r2 = r{from}"), format!("w2 &= {}", self.pick(&[12, 24, 5, 16])), format!("if w2 > {max} goto {out}")]
            }
            8 => vec![
                format!("r2 = r{from}"),
                "r2 <<= 32".into(),
                "r2 s>>= 32".into(),
                format!("if r2 s>= {} goto {out}", max + 1),
                format!("if r2 s< 0 goto {out}"),
            ],
            9 => vec![format!("r2 = r{from}"), "r2 <<= 32".into(), "r2 >>= 32".into(), format!("if r2 >= {} goto {out}", max + 1)],
            10 => vec![
                format!("r2 = r{from}"),
                format!("r2 -= {}", self.pick(&[1, 100, i32::MIN, -7])),
                format!("if r2 > {max} goto {out}"),
            ],
            11 => vec![
                format!("w2 = w{from}"),
                format!("w2 += {}", self.pick(&[1, -1, 100, i32::MIN, -7])),
                format!("if w2 > {max} goto {out}"),
            ],
            12 => vec![format!("r2 = {max}"), format!("r2 -= r{from}"), format!("if r2 > {max} goto {out}")],
            13 => vec![format!("w2 = {max}"), format!("w2 -= w{from}"), format!("if w2 > {max} goto {out}")],
            14 => vec![format!("r2 = r{from}"), "r2 = be16 r2".into(), "r2 >>= 8".into(), format!("if r2 > {max} goto {out}")],
            15 => vec![format!("r2 = r{from}"), format!("r2 >>= {}", 64 - (max + 1).ilog2())],
            16 => vec![format!("r2 = r{from}"), format!("r2 s>>= {}", 62), "r2 += 2".into(), format!("if r2 > {max} goto {out}")],
            17 => vec![format!("r2 = r{from}"), format!("if r2 & {} goto {out}", !mask), format!("r2 &= {max}")],
            18 => vec![format!("r2 = r{from}"), format!("if w2 & {} goto {out}", !mask), "w2 = w2".into()],
            19 => vec![
                format!("r2 = r{from}"),
                "r2 &= 7".into(),
                format!("r2 *= {}", self.pick(&[3, 5, 8])),
                format!("if r2 > {max} goto {out}"),
            ],
            20 => vec![format!("r2 = r{from}"), format!("r2 s%= {}", max + 1), format!("if r2 s< 0 goto {out}")],
            _ => vec![format!("r2 = r{from}"), format!("r2 ^= {}", self.immediate()), format!("if r2 > {max} goto {out}")],
        };
        lines.iter().for_each(|line| self.line(line));
        // Sometimes the test is on one half, the use of the other.
        if self.one_in(60) {
            emit!(self, "r2 {} {}", self.pick(&["+=", "-=", "^=", "|="]), self.pick(&[1, 8, 64]));
        }
        if self.one_in(8) {
            emit!(self, "*(u{} *)(r10 - 64) = r2", self.pick(&[8, 16, 32, 64]));
            emit!(self, "r2 = *(u{} *)(r10 - 64)", self.pick(&[8, 8, 16, 32, 64]));
            if self.random.bool() {
                self.line("r2 &= 31");
            }
        }
    }

    fn base(&mut self) -> String {
        match self.random.u8(0..4) {
            0 => "r6".into(),
            1 => "r10".into(),
            2 => "r6@1".into(),
            _ => "r7@1".into(),
        }
    }

    /// An access at a bounded index, now and then one byte too far.
    fn indexed(&mut self) {
        let out = self.label();
        let base = self.base();
        let room = match &*base {
            "r6" => 56,
            "r10" => 120,
            _ => 15,
        };
        let max = self.random.i32(1..room);
        self.bounded(max, &out);
        let start = if base == "r10" { -BUFFER } else { 0 };
        let left = room - max + 8;
        let bits = self.pick(&[8, 16, 32, 64]);
        let offset = start + self.random.i32(0..=(left - bits / 8).max(0)) + i32::from(self.one_in(25));
        let (to, from) = (self.to(), self.from());
        if self.random.bool() {
            emit!(self, "r1 = {base}");
            self.line("r1 += r2");
        } else if self.random.bool() {
            self.line("r1 = r2");
            emit!(self, "r1 += {base}");
        } else {
            emit!(self, "r1 = {base}");
            self.line("r2 = -r2");
            self.line("r1 -= r2");
        }
        let place = format!("(r1 {} {})", if offset < 0 { '-' } else { '+' }, offset.abs());
        let line = match self.random.u8(0..if base == "r7@1" { 2 } else { 4 }) {
            0 => format!("r{to} = *(u{bits} *){place}"),
            1 if bits < 64 => format!("r{to} = *(s{bits} *){place}"),
            1 => format!("r{to} = *(u{bits} *){place}"),
            2 => format!("*(u{bits} *){place} = {}", self.immediate()),
            _ => format!("*(u{bits} *){place} = r{from}"),
        };
        self.line(&line);
        emit!(self, "{out}:");
    }

    fn set_pointer(&mut self, register: &str, writable: bool) {
        match self.random.u8(0..if writable { 4 } else { 6 }) {
            0 => emit!(self, "r{register} = r6"),
            1 => {
                let offset = self.random.i32(0..=48);
                emit!(self, "r{register} = r6");
                emit!(self, "r{register} += {offset}");
            }
            2 => {
                let offset = self.random.i32(16..=BUFFER);
                emit!(self, "r{register} = r10");
                emit!(self, "r{register} += -{offset}");
            }
            3 => {
                let from = self.from();
                emit!(self, "r1 = r{from}");
                emit!(self, "r1 &= {}", self.pick(&[1, 8, 24, 31, 7]));
                emit!(self, "r{register} = r6");
                emit!(self, "r{register} += r1");
            }
            4 => emit!(self, "r{register} = read_only + {} ll", self.random.i32(0..=48)),
            _ => {
                let from = self.from();
                emit!(self, "r1 = r{from}");
                emit!(self, "r1 &= {}", self.pick(&[8, 24, 31]));
                emit!(self, "r{register} = read_only + 8 ll");
                emit!(self, "r{register} += r1");
            }
        }
    }

    fn condition(&mut self) -> String {
        let (left, right, width) = (self.from(), self.from(), self.pick(&['r', 'w']));
        let condition = self.pick(&["==", "!=", "&", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<="]);
        let right = if self.random.bool() { format!("{width}{right}") } else { format!("{}", self.immediate()) };
        format!("{width}{left} {condition} {right}")
    }

    /// A pointer that is another on one way, or null there and tested.
    fn pointer_branch(&mut self) {
        let (register, writable) = self.pick(&[("6@1", true), ("7@1", false)]);
        let (other, condition) = (self.label(), self.condition());
        let null = self.one_in(4);
        emit!(self, "if {condition} goto {other}");
        if null {
            emit!(self, "r{register} = 0");
        } else {
            self.set_pointer(register, writable);
        }
        emit!(self, "{other}:");
        if null {
            let fine = self.label();
            match self.random.u8(0..3) {
                0 => {
                    emit!(self, "if r{register} != 0 goto {fine}");
                    self.set_pointer(register, writable);
                }
                1 => {
                    let set = self.label();
                    emit!(self, "if r{register} == 0 goto {set}");
                    emit!(self, "goto {fine}");
                    emit!(self, "{set}:");
                    self.set_pointer(register, writable);
                }
                _ => {
                    self.line("r1 = 0");
                    emit!(self, "if r1 != r{register} goto {fine}");
                    self.set_pointer(register, writable);
                }
            }
            emit!(self, "{fine}:");
        }
    }

    fn use_pointer(&mut self) {
        let (register, writable) = self.pick(&[("6@1", true), ("7@1", false)]);
        let ((bits, offset), to, from) = (self.inside(16), self.to(), self.from());
        let line = match self.random.u8(0..if writable { 4 } else { 2 }) {
            0 | 1 => format!("r{to} = *(u{bits} *)(r{register} + {offset})"),
            2 => format!("*(u{bits} *)(r{register} + {offset}) = r{from}"),
            _ => format!("*(u{bits} *)(r{register} + {offset}) = {}", self.immediate()),
        };
        self.line(&line);
        if self.random.bool() {
            let line = line.replace(&format!("r{to} ="), &format!("r{from} ="));
            self.line(&line);
        }
    }

    /// A pointer to the stack and back, whole, overwritten in part, or unaligned.
    fn spill(&mut self) {
        let (slot, register) = self.pick(&[(216, "6@1"), (224, "7@1")]);
        match self.random.u8(0..7) {
            0 => emit!(self, "*(u64 *)(r10 - {slot}) = r{register}"),
            1 => emit!(self, "r{register} = *(u64 *)(r10 - {slot})"),
            2 => {
                // Overwritten in part, and restored.
                emit!(self, "*(u{} *)(r10 - {}) = r7", self.pick(&[8, 16, 32]), slot - self.random.i32(0..=4));
                emit!(self, "*(u64 *)(r10 - {slot}) = r{register}");
            }
            3 => {
                emit!(self, "*(u64 *)(r10 - {}) = {}", slot - 4, self.immediate());
                emit!(self, "*(u64 *)(r10 - 216) = r6@1");
                emit!(self, "*(u64 *)(r10 - 224) = r7@1");
            }
            4 => {
                // An unaligned spill is beyond use, and written over.
                self.line("*(u64 *)(r10 - 236) = r6");
                self.line("*(u64 *)(r10 - 240) = r7");
                self.line("*(u64 *)(r10 - 232) = r8");
            }
            5 => {
                let (other, condition) = (self.label(), self.condition());
                emit!(self, "if {condition} goto {other}");
                emit!(self, "*(u64 *)(r10 - {slot}) = 0");
                emit!(self, "{other}:");
                emit!(self, "r1 = *(u64 *)(r10 - {slot})");
                let null = self.label();
                emit!(self, "if r1 == 0 goto {null}");
                let to = self.to();
                emit!(self, "r{to} = *(u16 *)(r1 + 3)");
                emit!(self, "{null}:");
                emit!(self, "*(u64 *)(r10 - {slot}) = r{register}");
            }
            _ => {
                let to = self.to();
                emit!(self, "*(u64 *)(r10 - 232) = r{to}");
                if self.random.bool() {
                    self.cut();
                }
                emit!(self, "r{to} = *(u{} *)(r10 - 232)", self.pick(&[8, 16, 32, 64]));
            }
        }
    }

    /// A number from the read-only data, perhaps as an index.
    fn table(&mut self) {
        let (out, to) = (self.label(), self.to());
        let from = self.from();
        emit!(self, "r1 = r{from}");
        emit!(self, "r1 &= {}", self.pick(&[8, 24, 16, 56]));
        self.line("r2 = read_only + 0 ll");
        self.line("r2 += r1");
        emit!(self, "r{to} = *({}{} *)(r2 + 0)", self.pick(&['u', 's']), self.pick(&[8, 16, 32]));
        if self.random.bool() {
            emit!(self, "if r{to} > 56 goto {out}");
            self.line("r1 = r6");
            emit!(self, "r1 += r{to}");
            self.line("r0 = *(u64 *)(r1 + 0)");
            if !self.frozen.contains(&from) {
                emit!(self, "r{from} = r0");
            }
        }
        emit!(self, "{out}:");
    }

    fn helper(&mut self) {
        let out = self.label();
        let max = self.random.i32(1..=16);
        self.bounded(max, &out);
        self.line("r3 = r2");
        if self.one_in(3) {
            // Dirt in the upper half does not count.
            emit!(self, "r0 = {:#x} ll", self.number() << 32);
            self.line("r3 |= r0");
        }
        let to = self.to();
        match self.random.u8(0..4) {
            0 => {
                self.line("r1 = r6@1");
                emit!(self, "r2 = r{to}");
                self.line("call naam_fill")
            }
            1 => self.lines(&["r1 = r3", "call naam_reply"]),
            2 => self.lines(&["r1 = r6@1", "r2 = r7@1", "call naam_copy"]),
            _ => {
                self.lines(&["r1 = r6@1", "r2 = r7@1", "call naam_compare"]);
                emit!(self, "r{to} = r0");
            }
        }
        emit!(self, "{out}:");
    }

    fn udma(&mut self) {
        let (out, to) = (self.label(), self.to());
        let max = self.random.i32(1..=16);
        self.bounded(max, &out);
        self.line("r4 = r2");
        let from = self.from();
        emit!(self, "r2 = r{from}");
        emit!(self, "r2 &= {}", self.pick(&[255, 248, 511, -1]));
        emit!(self, "r1 = region {} ll", self.random.u8(0..2));
        let condition = self.condition();
        let other = self.label();
        emit!(self, "if {condition} goto {other}");
        self.line("r1 = region 0 ll");
        emit!(self, "{other}:");
        match self.random.u8(0..4) {
            0 => self.lines(&["r3 = r6@1", "call naam_read"]),
            1 => self.lines(&["r3 = r7@1", "call naam_write"]),
            2 => {
                self.line("r2 &= -8");
                emit!(self, "r3 = r{}", NUMBERS[1]);
                self.lines(&["r4 = r6@1", "call naam_fetch_add"])
            }
            _ => {
                emit!(self, "r4 = r{}", NUMBERS[2]);
                self.lines(&["r3 = 0", "r5 = r6@1", "call naam_compare_swap"])
            }
        }
        if self.random.bool() {
            emit!(self, "r{to} = r0");
        }
        emit!(self, "{out}:");
    }

    /// A pointer moved by anything, and compared.
    fn pointer_number(&mut self) {
        let (out, from) = (self.label(), self.from());
        self.line("r1 = r6");
        emit!(self, "r1 += r{from}");
        let condition = self.pick(&["==", "!=", "<", ">", "s<", "<=", ">=", "s>="]);
        let against = self.pick(&["r6", "r2", "0"]);
        self.lines(&["r2 = r6", "r2 += 32"]);
        if against != "0" || condition == "==" || condition == "!=" {
            emit!(self, "if r1 {condition} {against} goto {out}");
        }
        let to = self.to();
        emit!(self, "r{to} += 1");
        self.line("r0 = *(u8 *)(r6 + 1)");
        emit!(self, "{out}:");
        self.line("r0 = *(u8 *)(r6 + 2)");
    }

    /// A pointer that is compared with the end of what it may touch.
    fn pointer_bound(&mut self) {
        let (out, from, to) = (self.label(), self.from(), self.to());
        let mask = self.pick(&[63, 127, 255, 4095]);
        emit!(self, "r2 = r{from}");
        emit!(self, "r2 &= {mask}");
        emit!(self, "r2 -= {}", self.pick(&[0, 8, 60]));
        self.lines(&["r1 = r6", "r1 += r2", "r3 = r6", "r3 += 56"]);
        emit!(self, "if r1 {} r3 goto {out}", self.pick(&[">", "s>", ">="]));
        emit!(self, "if r1 {} r6 goto {out}", self.pick(&["<", "s<"]));
        emit!(self, "r{to} = *(u64 *)(r1 + 0)");
        emit!(self, "{out}:");
    }

    /// The difference of two pointers as an index.
    fn difference(&mut self) {
        let (from, to, out) = (self.from(), self.to(), self.label());
        emit!(self, "r2 = r{from}");
        emit!(self, "r2 &= {}", self.pick(&[24, 31, 255]));
        self.lines(&["r1 = r6", "r1 += r2", "r3 = r6", "r3 += 40"]);
        self.line("r3 -= r1");
        if self.random.bool() {
            emit!(self, "if r3 s< 0 goto {out}");
            self.line("r1 = r6");
            self.line("r1 += r3");
            emit!(self, "r{to} = *(u64 *)(r1 + 16)");
        } else {
            emit!(self, "r{to} = r3");
        }
        emit!(self, "{out}:");
    }

    fn branch(&mut self, depth: u32) {
        let (end, other, condition) = (self.label(), self.label(), self.condition());
        emit!(self, "if {condition} goto {other}");
        for _ in 0..self.random.usize(1..4) {
            self.statement(depth + 1);
        }
        self.line("r0 = *(u8 *)(r6 + 5)");
        emit!(self, "goto {end}");
        emit!(self, "{other}:");
        self.line("r0 = *(u8 *)(r6 + 6)");
        for _ in 0..self.random.usize(0..3) {
            self.statement(depth + 1);
        }
        emit!(self, "{end}:");
    }

    fn counted_loop(&mut self, depth: u32) {
        if self.frozen.len() >= COUNTERS_MAX {
            return self.arithmetic();
        }
        let counter = self.to();
        self.frozen.push(counter);
        let (head, end) = (self.label(), self.label());
        let (w, limit, step) = (self.pick(&['r', 'w']), self.random.i32(1..40), self.random.i32(1..9));
        let from = self.from();
        let memory = self.one_in(4);
        let slot = self.pick(&[240, 248]);
        let size = if w == 'w' { 32 } else { 64 };
        let style = self.random.u8(0..10);
        let (start, test, change) = match style {
            0 => ("= 0".to_owned(), format!(">= {limit}"), format!("+= {step}")),
            1 => (format!("= {limit}"), "== 0".to_owned(), "-= 1".to_owned()),
            2 => (format!("= {limit}"), "s< 0".to_owned(), format!("-= {step}")),
            3 => (format!("= -{limit}"), "s>= 0".to_owned(), format!("+= {step}")),
            4 => (format!("= {}", limit * step), "== 0".to_owned(), format!("-= {step}")),
            5 => ("= 0".to_owned(), format!("== {limit}"), format!("+= {step}")),
            6 => ("&= 31".to_owned(), format!("> {limit}"), format!("+= {step}")),
            7 => ("= 0".to_owned(), format!(">= {w}{from}"), format!("+= {step}")),
            8 => ("= 0".to_owned(), format!("& {}", 1 << self.random.i32(2..6)), "+= 1".to_owned()),
            _ => (
                format!("= {}", self.pick(&[i32::MAX - 20, i32::MIN + 20])),
                format!("{} 0", self.pick(&["s<", "s>", "=="])),
                format!("+= {}", self.pick(&[1, 7, 1 << 29])),
            ),
        };
        emit!(self, "{w}{counter} {start}");
        if memory {
            emit!(self, "*(u{size} *)(r10 - {slot}) = {w}{counter}");
        }
        emit!(self, "{head}:");
        if memory {
            emit!(self, "r{counter} = *(u{size} *)(r10 - {slot})");
        }
        emit!(self, "if {w}{counter} {test} goto {end}");
        if self.random.bool() {
            let (bits, offset) = (self.pick(&[8, 16, 32]), self.random.i32(0..20));
            let to = self.from();
            self.lines(&["r1 = r6"]);
            emit!(self, "r1 += r{counter}");
            if !self.frozen.contains(&to) && (0..8).contains(&style) && style != 7 && style != 3 {
                emit!(self, "r{to} = *(u{bits} *)(r1 + {offset})");
            }
        }
        for _ in 0..self.random.usize(0..3) {
            self.statement(depth + 1);
        }
        if memory && self.random.bool() {
            emit!(self, "r{counter} = *(u{size} *)(r10 - {slot})");
        }
        emit!(self, "{w}{counter} {change}");
        if self.one_in(6) {
            let (skip, condition) = (self.label(), self.condition());
            emit!(self, "if {condition} goto {skip}");
            emit!(self, "{w}{counter} {change}");
            emit!(self, "{skip}:");
        }
        if memory {
            emit!(self, "*(u{size} *)(r10 - {slot}) = {w}{counter}");
        }
        emit!(self, "goto {head}");
        emit!(self, "{end}:");
        self.frozen.pop();
    }

    /// A pointer that walks up to an end.
    fn walk(&mut self) {
        let (head, end, to) = (self.label(), self.label(), self.to());
        let (bits, bytes) = self.pick(&[(8, 1), (16, 2), (32, 4), (64, 8), (8, 3), (16, 5)]);
        let length = 64 - self.pick(&[0, 8, 16, 3]);
        let condition = self.pick(&["==", ">=", ">", "s>="]);
        self.lines(&["r1 = r6", "r2 = r6"]);
        emit!(self, "r2 += {length}");
        emit!(self, "{head}:");
        emit!(self, "if r1 {condition} r2 goto {end}");
        emit!(self, "r3 = *(u{bits} *)(r1 + 0)");
        emit!(self, "r{to} += r3");
        emit!(self, "r1 += {bytes}");
        emit!(self, "goto {head}");
        emit!(self, "{end}:");
    }

    /// A slot that holds a pointer in one round and a number in the next.
    fn slot_loop(&mut self, depth: u32) {
        if self.frozen.len() >= COUNTERS_MAX {
            return self.spill();
        }
        let counter = self.to();
        self.frozen.push(counter);
        let (head, end) = (self.label(), self.label());
        emit!(self, "r{counter} = {}", self.random.i32(1..6));
        emit!(self, "*(u64 *)(r10 - 256) = r{}", self.pick(&["6", "6@1", "7", "10"]));
        emit!(self, "{head}:");
        emit!(self, "if r{counter} == 0 goto {end}");
        match self.random.u8(0..3) {
            0 => emit!(self, "*(u64 *)(r10 - 256) = r{}", self.pick(&["6", "6@1", "7"])),
            1 => {
                self.line("r1 = *(u64 *)(r10 - 256)");
                self.line("r0 = *(u8 *)(r1 + 0)")
            }
            _ => {
                let to = self.to();
                emit!(self, "r{to} = *(u64 *)(r10 - 256)")
            }
        }
        self.statement(depth + 1);
        emit!(self, "*(u64 *)(r10 - {}) = r{}", self.pick(&[256, 256, 252]), self.pick(&["6", "6@1", "7", "10"]));
        emit!(self, "r{counter} += -1");
        emit!(self, "goto {head}");
        emit!(self, "{end}:");
        self.frozen.pop();
    }

    /// A pointer that moves from round to round.
    fn pointer_loop(&mut self, depth: u32) {
        if self.frozen.len() >= COUNTERS_MAX {
            return self.use_pointer();
        }
        let counter = self.to();
        self.frozen.push(counter);
        let (head, end) = (self.label(), self.label());
        let (rounds, step) = (self.random.i32(1..8), self.pick(&[1, 2, 4, 8]));
        self.lines(&["r6@1 = r6"]);
        emit!(self, "w{counter} = 0");
        emit!(self, "{head}:");
        emit!(self, "if w{counter} {} {rounds} goto {end}", self.pick(&["==", ">=", "s>="]));
        self.statement(depth + 1);
        let other = self.label();
        let condition = self.condition();
        if self.random.bool() {
            emit!(self, "if {condition} goto {other}");
        }
        if self.random.bool() {
            emit!(self, "r6@1 += {step}");
        } else {
            self.lines(&["r6@1 = r6"]);
            emit!(self, "r6@1 += r{counter}");
        }
        emit!(self, "{other}:");
        emit!(self, "w{counter} += 1");
        emit!(self, "goto {head}");
        emit!(self, "{end}:");
        self.lines(&["r6@1 = r6"]);
        self.frozen.pop();
    }
}

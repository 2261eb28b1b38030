//! Random handlers at the edge of what verifies: indices bounded in many ways, pointers of several kinds in one register, loops whose
//! invariants must be found, values that survive helper calls. A small part oversteps by one byte on purpose.
//!
//! r6 is the body and r7 to r9 hold numbers throughout; the other registers live within one statement. The eight words below r10
//! hold numbers, the ninth the body's address; [`BUFFER`] begins 64 bytes that helper calls use, and below it are words that only
//! some paths write.

use fastrand::Rng;
use std::fmt::Write;

/// Bytes of the body.
pub const BODY_BYTES: u32 = 64;
/// Bytes of each region.
pub const REGION_BYTES: usize = 256;
/// Offset of the stack's buffer from r10.
const BUFFER: i32 = -136;
const BUFFER_BYTES: i32 = 64;
const NUMBERS: [u8; 3] = [7, 8, 9];

/// The text of a random handler.
pub fn handler(random: &mut Rng) -> String {
    let mut generator = Generator { random, text: String::new(), labels: 0, numbers: NUMBERS.to_vec() };
    generator.line("r6 = r1".to_owned());
    for number in NUMBERS {
        let value = generator.number();
        match generator.random.bool() {
            true => generator.line(format!("r{number} = {value:#x} ll")),
            false => generator.load(number),
        }
    }
    for word in 1..=8 {
        let number = NUMBERS[word % 3];
        generator.line(format!("*(u64 *)(r10 - {}) = r{number}", 8 * word));
    }
    generator.line("*(u64 *)(r10 - 72) = r6".to_owned());
    match generator.random.u8(0..8) {
        0 => {}
        1..=4 => {
            let lines = ["r1 = r10", "r1 += -136", "r2 = 7", "r3 = 64", "call naam_fill"];
            lines.iter().for_each(|line| generator.line((*line).to_owned()));
        }
        _ => (10..=17).for_each(|word| generator.line(format!("*(u64 *)(r10 - {}) = r7", 8 * word))),
    }
    // Words that are written on some paths only: on the others they read as zero.
    let (end, other) = (generator.label(), generator.label());
    let writes: Vec<String> = (1..=4).map(|word| format!("*(u64 *)(r10 - {}) = r9", -BUFFER + 8 * word)).collect();
    let nothing = vec!["r1 = 0".to_owned()];
    let (first, second) = if generator.random.bool() { (writes, nothing) } else { (nothing, writes) };
    generator.line(format!("if r8 & 1 goto {other}"));
    generator.lines(&first);
    generator.lines(&[format!("goto {end}"), format!("{other}:")]);
    generator.lines(&second);
    generator.place(&end);
    for _ in 0..generator.random.usize(3..12) {
        generator.statement(0);
    }
    for line in ["r0 = r7", "r0 ^= r8", "r0 += r9", "exit"] {
        generator.line(line.to_owned());
    }
    generator.text
}

struct Generator<'a> {
    random: &'a mut Rng,
    text: String,
    labels: u32,
    /// Which of [`NUMBERS`] may be written here: not the counters of the loops around.
    numbers: Vec<u8>,
}

impl Generator<'_> {
    fn line(&mut self, line: String) {
        writeln!(self.text, "  {line}").expect("a string takes all text");
    }

    fn label(&mut self) -> String {
        self.labels += 1;
        format!("L{}", self.labels)
    }

    fn place(&mut self, label: &str) {
        writeln!(self.text, "{label}:").expect("a string takes all text");
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.usize(0..from.len())]
    }

    /// One in `n`.
    fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(0..n) == 0
    }

    fn written(&mut self) -> u8 {
        self.pick(&self.numbers.clone())
    }

    fn read(&mut self) -> u8 {
        self.pick(&NUMBERS)
    }

    fn number(&mut self) -> u64 {
        let value = match self.random.u8(0..4) {
            0 => self.random.u64(0..70),
            1 => 1 << self.random.u8(0..64),
            2 => self.random.u64(..) >> self.random.u8(0..64),
            _ => u64::from(self.random.u32(..)),
        };
        if self.one_in(3) { value.wrapping_neg() } else { value }
    }

    fn statement(&mut self, depth: u32) {
        match self.random.u8(0..if depth < 3 { 20 } else { 11 }) {
            0..=2 => self.arithmetic(),
            3 => {
                let written = self.written();
                self.load(written);
            }
            4 => self.store(),
            5 => self.stack_word(),
            6..=8 => self.indexed(),
            9 => self.local_helper(),
            10 => self.udma(),
            11 | 12 => self.branch(depth),
            13 | 14 => self.counted_loop(depth),
            15 => self.either_pointer(),
            16 => self.sum(),
            17 => self.kept_pointer(),
            18 => self.null_by_arithmetic(),
            _ => self.walk(),
        }
    }

    fn arithmetic(&mut self) {
        let (to, from, width) = (self.written(), self.read(), self.pick(&['r', 'w']));
        let operand = match self.random.bool() {
            true => format!("{width}{from}"),
            false => format!("{}", self.number() as i32),
        };
        let line = match self.random.u8(0..18) {
            0 => format!("{width}{to} = -{width}{to}"),
            1 => format!("{width}{to} = (s{}){width}{from}", self.pick(&[8, 16])),
            2 => format!("r{to} = {}{} r{to}", self.pick(&["le", "be", "bswap"]), self.pick(&[16, 32, 64])),
            3 => format!("r{to} = {:#x} ll", self.number()),
            4..=6 => format!("{width}{to} {} {}", self.pick(&["<<=", ">>=", "s>>="]), self.random.u32(0..32)),
            7..=9 => format!("{width}{to} &= {}", self.pick(&[1, 7, 15, 31, 63, 255, -8])),
            _ => {
                let operator =
                    self.pick(&["+=", "-=", "*=", "/=", "s/=", "%=", "s%=", "|=", "&=", "^=", "<<=", ">>=", "s>>=", "="]);
                format!("{width}{to} {operator} {operand}")
            }
        };
        self.line(line);
    }

    fn load(&mut self, to: u8) {
        let (bits, offset) = self.inside(BODY_BYTES as i32);
        let kind = if bits < 64 { self.pick(&['u', 's']) } else { 'u' };
        self.line(format!("r{to} = *({kind}{bits} *)(r6 + {offset})"));
    }

    fn store(&mut self) {
        let ((bits, offset), from) = (self.inside(BODY_BYTES as i32), self.read());
        let value = if self.one_in(3) { format!("{}", self.number() as i32) } else { format!("r{from}") };
        self.line(format!("*(u{bits} *)(r6 + {offset}) = {value}"));
    }

    /// Bits and offset of an access inside so many bytes.
    fn inside(&mut self, bytes: i32) -> (i32, i32) {
        let bits = self.pick(&[8, 16, 32, 64]);
        let too_far = i32::from(self.one_in(150));
        (bits, self.random.i32(0..=bytes - bits / 8) + too_far * bits / 8)
    }

    fn stack_word(&mut self) {
        let (to, from) = (self.written(), self.read());
        let bits = self.pick(&[8, 16, 32, 64, 64]);
        let offset = if self.one_in(3) { -BUFFER + self.random.i32(bits / 8..=32) } else { self.random.i32(bits / 8..=64) };
        let line = match self.random.u8(0..5) {
            0 | 1 => format!("r{to} = *(u{bits} *)(r10 - {offset})"),
            2 => format!("lock *(u64 *)(r10 - {}) += r{from}", self.random.i32(1..=8) * 8),
            3 => format!("r{to} = atomic_fetch_xor((u64 *)(r10 - {}), r{to})", self.random.i32(1..=8) * 8),
            _ => format!("*(u{bits} *)(r10 - {offset}) = r{from}"),
        };
        self.line(line);
    }

    /// Leaves in r2 a number of at most `max`, by one of many ways, from a number that may be anything. Some ways jump to `out`.
    fn bounded(&mut self, max: i32, out: &str) {
        let from = self.read();
        match self.random.u8(0..12) {
            0 => self.lines(&[format!("r2 = r{from}"), format!("r2 &= {}", mask_below(max))]),
            1 => self.lines(&[format!("w2 = w{from}"), format!("w2 %= {}", max + 1)]),
            2 => self.lines(&[format!("r2 = r{from}"), format!("if r2 > {max} goto {out}")]),
            3 => self.lines(&[format!("if r{from} >= {} goto {out}", max + 1), format!("r2 = r{from}")]),
            4 => self.lines(&[format!("r1 = r{from}"), format!("if r1 > {max} goto {out}"), format!("r2 = r{from}")]),
            5 => self.lines(&[format!("w2 = w{from}"), format!("if w2 > {max} goto {out}")]),
            6 => self.lines(&[
                format!("if r{from} s> {max} goto {out}"),
                format!("if r{from} s< 0 goto {out}"),
                format!("r2 = r{from}"),
            ]),
            7 => self.lines(&[
                format!("if w{from} s> {max} goto {out}"),
                format!("if w{from} s< 0 goto {out}"),
                format!("w2 = w{from}"),
            ]),
            8 => self.lines(&[format!("r2 = r{from}"), "r2 &= 255".to_owned(), format!("r2 *= {max}"), "r2 >>= 8".to_owned()]),
            9 => {
                let low = self.random.i32(1..100);
                self.lines(&[format!("r2 = r{from}"), format!("r2 -= {low}"), format!("if r2 > {max} goto {out}")]);
            }
            10 => self.lines(&[
                "r2 = *(u8 *)(r6 + 3)".to_owned(),
                format!("r3 = {max}"),
                format!("if r2 <= r3 goto {out}_ok"),
                format!("r2 = {max}"),
                format!("{out}_ok:"),
            ]),
            _ => self.lines(&[
                format!("w2 = w{from}"),
                format!("w2 >>= {}", 32 - (max + 1).ilog2()),
                format!("if r2 != {max} goto {out}_ok"),
                "r2 = 0".to_owned(),
                format!("{out}_ok:"),
            ]),
        }
    }

    fn lines(&mut self, lines: &[String]) {
        for line in lines {
            match line.strip_suffix(':') {
                Some(label) => self.place(label),
                None => self.line(line.clone()),
            }
        }
    }

    /// An access at a bounded index into body or buffer.
    fn indexed(&mut self) {
        let out = self.label();
        let max = self.random.i32(1..56);
        self.bounded(max, &out);
        let bits = self.pick(&[8, 16, 32, 64]);
        let room = BODY_BYTES as i32 - max - bits / 8;
        let offset = self.random.i32(room.min(0)..=room.max(0)) + i32::from(self.one_in(20));
        let (to, from) = (self.written(), self.read());
        match self.random.u8(0..4) {
            0 => self.lines(&["r1 = r6".to_owned(), "r1 += r2".to_owned()]),
            1 => self.lines(&["r1 = *(u64 *)(r10 - 72)".to_owned(), "r1 += r2".to_owned()]),
            2 => self.lines(&["r1 = r2".to_owned(), "r1 += r6".to_owned()]),
            _ => self.lines(&["r1 = r10".to_owned(), "r1 += r2".to_owned(), format!("r1 += {BUFFER}")]),
        }
        let line = match self.random.bool() {
            true => format!("r{to} = *(u{bits} *)(r1 {} {})", if offset < 0 { '-' } else { '+' }, offset.abs()),
            false => format!("*(u{bits} *)(r1 {} {}) = r{from}", if offset < 0 { '-' } else { '+' }, offset.abs()),
        };
        self.line(line);
        self.place(&out);
    }

    /// r1 becomes the body or the buffer, which one known only when it runs.
    fn either_pointer(&mut self) {
        let (out, from, to) = (self.label(), self.read(), self.written());
        self.lines(&[
            "r1 = r6".to_owned(),
            format!("if r{from} s> 0 goto {out}"),
            "r1 = r10".to_owned(),
            format!("r1 += {BUFFER}"),
            format!("{out}:"),
        ]);
        let (bits, offset) = self.inside(BUFFER_BYTES);
        let line = match self.random.bool() {
            true => format!("r{to} = *(u{bits} *)(r1 + {offset})"),
            false => format!("*(u{bits} *)(r1 + {offset}) = r{from}"),
        };
        self.line(line);
    }

    fn branch(&mut self, depth: u32) {
        let (left, right, width) = (self.read(), self.read(), self.pick(&['r', 'w']));
        let condition = self.pick(&["==", "!=", "&", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<="]);
        let (end, other) = (self.label(), self.label());
        let right = if self.random.bool() { format!("{width}{right}") } else { format!("{}", self.number() as i32) };
        self.line(format!("if {width}{left} {condition} {right} goto {other}"));
        for _ in 0..self.random.usize(1..4) {
            self.statement(depth + 1);
        }
        self.line(format!("goto {end}"));
        self.place(&other);
        for _ in 0..self.random.usize(0..3) {
            self.statement(depth + 1);
        }
        self.place(&end);
    }

    /// A loop with a counter that its body may use as an index, or without a bound that could be proved.
    fn counted_loop(&mut self, depth: u32) {
        if self.numbers.len() < 2 {
            return self.arithmetic();
        }
        let counter = self.written();
        let before = self.numbers.clone();
        self.numbers.retain(|number| *number != counter);
        let (head, end) = (self.label(), self.label());
        let limit = self.random.i32(1..12);
        match self.random.u8(0..4) {
            // Up to a constant, to a byte of the message, or to a register that is bounded.
            0 => self.lines(&[format!("r{counter} = 0"), format!("{head}:"), format!("if r{counter} >= {limit} goto {end}")]),
            1 => self.lines(&[
                format!("r{counter} = 0"),
                format!("{head}:"),
                "r1 = *(u8 *)(r6 + 5)".to_owned(),
                "r1 &= 7".to_owned(),
                format!("if r{counter} >= r1 goto {end}"),
            ]),
            2 => self.lines(&[format!("w{counter} = {limit}"), format!("{head}:"), format!("if w{counter} == 0 goto {end}")]),
            _ => self.lines(&[format!("r{counter} &= 31"), format!("{head}:"), format!("if r{counter} s> {limit} goto {end}")]),
        }
        let counts_down = self.text.ends_with(&format!("if w{counter} == 0 goto {end}\n"));
        if self.random.bool() {
            let (bits, to, offset) = (self.pick(&[8, 16, 32]), self.written(), self.random.i32(0..60));
            self.lines(&["r1 = r6".to_owned(), format!("r1 += r{counter}"), format!("r{to} = *(u{bits} *)(r1 + {offset})")]);
        }
        for _ in 0..self.random.usize(0..3) {
            self.statement(depth + 1);
        }
        let step = self.random.i32(1..4);
        match counts_down {
            true => self.line(format!("w{counter} -= 1")),
            false => self.line(format!("r{counter} += {step}")),
        }
        self.line(format!("goto {head}"));
        self.place(&end);
        self.numbers = before;
    }

    /// A place and a length that are bounded together, and used behind a cut.
    fn sum(&mut self) {
        if self.numbers.len() < 2 {
            return self.arithmetic();
        }
        let (place, length, out) = (self.numbers[0], self.numbers[1], self.label());
        let too_many = i32::from(self.one_in(20));
        let (first, second) = (self.pick(&[63, 127]), self.pick(&[31, 63, 255]));
        self.lines(&[
            format!("r{place} &= {first}"),
            format!("r{length} &= {second}"),
            format!("r1 = r{place}"),
            format!("r1 += r{length}"),
            format!("if r1 > {} goto {out}", BODY_BYTES as i32 + too_many),
        ]);
        if self.random.bool() {
            self.lines(&["r1 = region 0 ll".to_owned(), "r2 = 8".to_owned(), "r3 = 1".to_owned(), "r4 = r10".to_owned()]);
            self.lines(&["r4 += -64".to_owned(), "call naam_fetch_add".to_owned()]);
        }
        match self.random.bool() {
            true => {
                self.lines(&["r1 = r6".to_owned(), format!("r1 += r{place}"), "r2 = 3".to_owned(), format!("r3 = r{length}")]);
                self.line("call naam_fill".to_owned());
            }
            false => {
                self.lines(&["r1 = region 1 ll".to_owned(), "r2 = 0".to_owned(), "r3 = r6".to_owned(), format!("r3 += r{place}")]);
                self.lines(&[format!("r4 = r{length}"), "call naam_write".to_owned()]);
            }
        }
        self.place(&out);
    }

    /// An address that is computed, spilled, and used behind a cut.
    fn kept_pointer(&mut self) {
        let (out, max) = (self.label(), self.random.i32(1..40));
        self.bounded(max, &out);
        self.lines(&["r1 = r6".to_owned(), "r1 += r2".to_owned(), "*(u64 *)(r10 - 216) = r1".to_owned()]);
        self.lines(&["r1 = region 1 ll".to_owned(), "r2 = 16".to_owned(), "r3 = r10".to_owned(), format!("r3 += {BUFFER}")]);
        self.lines(&["r4 = 8".to_owned(), "call naam_read".to_owned(), "r1 = *(u64 *)(r10 - 216)".to_owned()]);
        let (bits, offset) = self.inside(BODY_BYTES as i32 - max);
        let to = self.written();
        self.lines(&[format!("r{to} = *(u{bits} *)(r1 + {offset})"), "*(u64 *)(r10 - 216) = 0".to_owned(), format!("{out}:")]);
    }

    /// An address to which any number was added is compared with null, and a number known on one way only is used as an index.
    fn null_by_arithmetic(&mut self) {
        let (meet, from, to) = (self.label(), self.read(), self.written());
        let base = self.pick(&[6, 10]);
        let condition = self.pick(&["==", "!="]);
        self.lines(&[format!("r1 = r{base}"), format!("r1 += r{from}"), format!("r2 = r{to}")]);
        self.lines(&[format!("if r1 {condition} 0 goto {meet}"), "r2 &= 31".to_owned(), format!("{meet}:")]);
        // Without the mask a finding, unless the comparison proves that only the other way is taken.
        if !self.one_in(4) {
            self.line("r2 &= 63".to_owned());
        }
        self.lines(&["r1 = r6".to_owned(), "r1 += r2".to_owned(), format!("r{to} = *(u8 *)(r1 + 0)")]);
    }

    /// A walk over the body, by its address.
    fn walk(&mut self) {
        let (head, end, to) = (self.label(), self.label(), self.written());
        let (bits, bytes) = self.pick(&[(8, 1), (16, 2), (32, 4), (64, 8)]);
        let length = BODY_BYTES as i32 - self.pick(&[0, 8, 16]);
        let condition = self.pick(&["==", ">="]);
        self.lines(&["r1 = r6".to_owned(), "r2 = r6".to_owned(), format!("r2 += {length}"), format!("{head}:")]);
        self.lines(&[format!("if r1 {condition} r2 goto {end}"), format!("r3 = *(u{bits} *)(r1 + 0)"), format!("r{to} += r3")]);
        self.lines(&[format!("r1 += {bytes}"), format!("goto {head}"), format!("{end}:")]);
    }

    /// r1 becomes memory of `BODY_BYTES`.
    fn memory(&mut self, register: u8) {
        match self.random.bool() {
            true => self.line(format!("r{register} = r6")),
            false => self.lines(&[format!("r{register} = r10"), format!("r{register} += {BUFFER}")]),
        }
    }

    fn local_helper(&mut self) {
        let out = self.label();
        let max = self.random.i32(1..=63);
        self.bounded(max, &out);
        let skip = self.random.i32(0..=64 - max) + i32::from(self.one_in(20));
        self.line("r3 = r2".to_owned());
        let to = self.written();
        match self.random.u8(0..5) {
            0 => {
                self.memory(1);
                self.lines(&[format!("r1 += {skip}"), format!("r2 = r{}", NUMBERS[0]), "call naam_fill".to_owned()]);
            }
            1 => self.lines(&["r1 = r3".to_owned(), "call naam_reply".to_owned()]),
            2 => self.lines(&["r1 = region 1 ll".to_owned(), "call naam_length".to_owned(), format!("r{to} = r0")]),
            kind => {
                self.memory(1);
                self.line(format!("r1 += {skip}"));
                self.memory(2);
                self.line(if kind == 3 { "call naam_copy".to_owned() } else { "call naam_compare".to_owned() });
                if kind == 4 {
                    self.line(format!("r{to} = r0"));
                }
            }
        }
        self.place(&out);
    }

    fn udma(&mut self) {
        let (out, to, from) = (self.label(), self.written(), self.read());
        let (max, region) = (self.random.i32(1..=63), self.random.u8(0..2));
        let skip = self.random.i32(0..=64 - max);
        self.bounded(max, &out);
        self.lines(&["r4 = r2".to_owned(), format!("r2 = r{from}"), "r2 &= 511".to_owned()]);
        self.line(format!("r1 = region {region} ll"));
        if self.one_in(3) {
            let other = self.label();
            self.lines(&[format!("if r{from} == 5 goto {other}"), "r1 = region 0 ll".to_owned(), format!("{other}:")]);
        }
        match self.random.u8(0..4) {
            kind @ (0 | 1) => {
                self.memory(3);
                self.line(format!("r3 += {skip}"));
                self.line(if kind == 0 { "call naam_read".to_owned() } else { "call naam_write".to_owned() });
            }
            2 => {
                self.lines(&["r2 &= -8".to_owned(), format!("r3 = r{}", NUMBERS[1])]);
                self.memory(4);
                self.line("call naam_fetch_add".to_owned());
            }
            _ => {
                self.lines(&["r3 = 0".to_owned(), format!("r4 = r{}", NUMBERS[2])]);
                self.memory(5);
                self.line("call naam_compare_swap".to_owned());
            }
        }
        match self.random.u8(0..3) {
            0 => self.line(format!("r{to} = r0")),
            1 => self.line(format!("if r0 != 0 goto {out}")),
            _ => {}
        }
        self.place(&out);
    }
}

/// The largest number of the form 2^n - 1 that is at most `max`.
fn mask_below(max: i32) -> i32 {
    (1 << (max + 1).ilog2()) - 1
}

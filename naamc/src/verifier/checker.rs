//! What must hold for an instruction to be allowed, and what is said if it does not.
//!
//! Every access is checked here and recorded for engines and manifest. After a finding the value that it is about counts as reported:
//! nothing that follows from it is reported again, and checking goes on.

use super::arithmetic::{truncate, zero_extend};
use super::contract::ByteRange;
use super::memory::StackBytes;
use super::state::{Address, Kind, Linear, State, Symbols, Word};
use super::transfer::argument_length;
use super::value::Scalar;
use super::{Access, Call, Touched, words};
use crate::abi::{Extent, Helper, Parameter, Rights, STACK_BYTES};
use crate::diagnostic::{Code, Finding};
use crate::isa::{Register, Size};
use crate::program::{Environment, Function};
use std::collections::BTreeSet;

/// Findings of one function; what follows is most likely noise.
const FINDINGS_MAX: usize = 64;

const HINT_BOUNDS: &str = "test the value right before its use, or clamp it with `naam_at_most(x, max)`; if C tests it already, the optimiser has \
                           moved the test to a copy: build with `naamc build`, whose flags (`-mllvm -disable-lsr -fno-unroll-loops`) avoid most of that";

/// What an access that was reported may touch, so that nothing else is said of these bytes.
const SOMEWHERE: Touched = Touched { stack: Some(ByteRange { start: 0, end: STACK_BYTES as u32 }), body: None, read_only: None };

/// One kind of memory that an access may reach, with the bytes that it may begin at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    pub(super) kind: Kind,
    /// Smallest place of the first byte: on stack and body an offset from the stack's first byte, else into the read-only data.
    pub(super) first: u32,
    /// Largest place of the first byte.
    pub(super) last: u32,
    /// Distance of the places from each other; 0 if there is one.
    pub(super) stride: u64,
    /// One past the last byte that may be touched.
    pub(super) end: u32,
}

impl Reach {
    pub(super) fn exact(&self) -> Option<u32> {
        (self.first == self.last).then_some(self.first)
    }

    pub(super) fn hull(&self) -> ByteRange {
        ByteRange { start: self.first, end: self.end }
    }
}

/// What one argument of a helper is.
#[derive(Clone, Debug, Default)]
pub(super) struct Argument {
    pub(super) number: Option<Scalar>,
    /// The number as a word, cut to 32 bits if the parameter is.
    word: Option<Linear>,
    pub(super) regions: u64,
    pub(super) reaches: Vec<Reach>,
    /// Whether it was reported, and so may be written anywhere.
    failed: bool,
}

/// How many bytes are accessed.
#[derive(Clone, Copy)]
struct Length {
    min: u64,
    max: u64,
    /// The number itself, if it is not a constant.
    word: Option<Linear>,
}

/// When the arguments of a helper are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Before a suspension point, with all that is known: everything must hold.
    Before,
    /// After it, with what the contract says: that the memory lies inside its object was checked before, or when a continuation was decoded.
    After,
    /// At a call that is no suspension point.
    Local,
}

/// What a pass learns besides states.
pub(super) struct Record {
    pub(super) accesses: Vec<Access>,
    pub(super) calls: Vec<Call>,
    /// Stack bytes that must be zeroed at entry.
    pub(super) zeroed: StackBytes,
    pub(super) result: Option<Scalar>,
    pub(super) reply_bytes_max: Option<u32>,
}

/// Executes instructions on states, and records what they do and what is wrong with it.
pub(super) struct Checker<'a> {
    pub(super) function: &'a Function,
    pub(super) environment: &'a Environment,
    pub(super) symbols: Symbols,
    pub(super) record: Record,
    pub(super) findings: Vec<Finding>,
    /// Whether findings are worth their words: not while contracts are still inferred.
    reporting: bool,
    /// Symbols that a finding called out of bounds.
    unbounded: BTreeSet<u32>,
    /// Instructions executed so far, and what else took time.
    pub(super) steps: u64,
}

impl<'a> Checker<'a> {
    pub(super) fn new(function: &'a Function, environment: &'a Environment, reporting: bool) -> Checker<'a> {
        let record =
            Record { accesses: Vec::new(), calls: Vec::new(), zeroed: StackBytes::NONE, result: None, reply_bytes_max: None };
        let (symbols, findings, unbounded) = (Symbols::default(), Vec::new(), BTreeSet::new());
        Checker { function, environment, symbols, record, findings, reporting, unbounded, steps: 0 }
    }

    /// Reports a finding at an instruction, once for each code.
    pub(super) fn report(&mut self, at: u32, finding: impl FnOnce() -> Finding) {
        if self.reporting && self.findings.len() < FINDINGS_MAX {
            let finding = finding().at(at);
            if !self.findings.iter().any(|other| other.place.instruction == Some(at) && other.code == finding.code) {
                self.findings.push(finding);
            }
        }
    }

    pub(super) fn report_leak(&mut self, at: u32, how: &str) {
        self.report(at, || {
            Finding::new(Code::POINTER_LEAK, format!("an address, or something computed from one, {how}"))
                .hint("store the data that it points to, or an index or offset instead")
        });
    }

    /// Sets a register; r10 cannot be set.
    pub(super) fn set(&mut self, state: &mut State, at: u32, register: Register, word: Word) {
        if register == Register::R10 {
            self.report(at, || Finding::new(Code::REGISTER_READ_ONLY, "r10 is written"));
        } else {
            state.set(register, word);
        }
    }

    /// What a register holds, which must be something.
    pub(super) fn defined(&mut self, state: &mut State, at: u32, register: Register) -> Word {
        if state.get(register) == Word::Undefined {
            self.report(at, || {
                Finding::new(Code::REGISTER_UNDEFINED, format!("`{register}` has no value here on some path"))
                    .hint("initialise the variable on every path; r1 to r5 do not survive a call")
            });
            state.set(register, Word::Reported);
        }
        state.get(register)
    }

    /// What a register holds, which must be a number: it becomes data as `how` says.
    pub(super) fn number(&mut self, state: &mut State, at: u32, register: Register, how: &str) -> Option<Linear> {
        match self.defined(state, at, register) {
            Word::Number(number) => Some(number),
            Word::Pointer(_) | Word::Unusable => {
                self.report_leak(at, how);
                state.set(register, Word::Reported);
                None
            }
            Word::Reported | Word::Undefined => None,
        }
    }

    /// The result of the function.
    pub(super) fn exit(&mut self, state: &mut State, at: u32) {
        let facts = match state.get(Register::R0) {
            Word::Undefined => {
                self.report(at, || {
                    Finding::new(Code::REGISTER_UNDEFINED, "the handler's result (`r0`) has no value here on some path")
                        .hint("return a value on every path")
                });
                Scalar::ANY
            }
            _ => match self.number(state, at, Register::R0, "is returned") {
                Some(number) => state.deep_facts(&self.symbols, number),
                None => Scalar::ANY,
            },
        };
        self.record.result = Some(self.record.result.map_or(facts, |all| all.join(facts)));
    }

    /// Checks a load or store; none if it must not be looked at further.
    pub(super) fn access(
        &mut self,
        state: &mut State,
        at: u32,
        (base, offset): (Register, i32),
        size: Size,
        write: bool,
    ) -> Option<Vec<Reach>> {
        let bytes = size.bytes() as u64;
        let length = Length { min: bytes, max: bytes, word: None };
        let reaches = self.reach(state, at, (base, offset.into()), length, write, false);
        let exact = matches!(reaches.as_deref(), Some([reach]) if reach.exact().is_some());
        let touched = reaches.as_deref().map_or(if write { SOMEWHERE } else { Touched::default() }, touched);
        if self.reporting {
            self.record.accesses.push(Access { instruction: at, touched, exact });
        }
        reaches
    }

    /// The bytes behind `register + displacement`, all of which must exist (and be writable, if `write`); that they exist is not
    /// reported again if it is `assumed`.
    fn reach(
        &mut self,
        state: &mut State,
        at: u32,
        (register, displacement): (Register, i64),
        length: Length,
        write: bool,
        assumed: bool,
    ) -> Option<Vec<Reach>> {
        let address = self.accessible(state, at, register)?;
        let mut reaches = Vec::with_capacity(1);
        let kinds = [(Kind::Stack, address.stack), (Kind::Body, address.body), (Kind::ReadOnly, address.read_only)];
        for (kind, offset) in kinds.into_iter().filter_map(|(kind, offset)| Some((kind, offset?))) {
            if write && kind == Kind::ReadOnly {
                self.report(at, || {
                    Finding::new(Code::READ_ONLY_WRITTEN, format!("`{register}` points to read-only data, which cannot be written"))
                });
                state.set(register, Word::Reported);
                return None;
            }
            let offset = offset.plus(displacement as u64);
            let single = address.single().is_some();
            let together = kind != Kind::ReadOnly && (assumed || (single && self.sum_fits(state, kind, offset, length)));
            let reach = match self.within(state, kind, offset, length, together) {
                Some(reach) => reach,
                None if self.is_known_unbounded(offset) => {
                    state.set(register, Word::Reported);
                    return None;
                }
                None => {
                    self.report_bounds(state, at, register, kind, offset, length);
                    // Checking goes on as if the test that is missing were there.
                    let (min, max) = self.limits(kind, length.max);
                    let mended = single && min <= max && state.assume(&self.symbols, offset, Scalar::signed(min, max));
                    let reach = if mended { self.within(state, kind, offset, length, false) } else { None };
                    if reach.is_none() {
                        state.set(register, Word::Reported);
                    }
                    reach?
                }
            };
            reaches.push(reach);
        }
        Some(reaches)
    }

    /// Whether a finding said already that this offset, or what it was computed from, is not bounded. Remembers it if not.
    fn is_known_unbounded(&mut self, offset: Linear) -> bool {
        let Some(symbol) = offset.symbol.filter(|_| self.reporting) else { return false };
        let mut symbols = vec![symbol];
        symbols.extend(self.symbols.definition(symbol).parts().into_iter().flatten());
        let known = symbols.iter().any(|symbol| self.unbounded.contains(symbol));
        self.unbounded.extend(symbols);
        known
    }

    /// Whether offset and length, of which neither need be small enough alone, are so together.
    fn sum_fits(&mut self, state: &State, kind: Kind, offset: Linear, length: Length) -> bool {
        let Some(word) = length.word else { return false };
        self.steps += state.facts_known() as u64 / 8;
        let (min, max) = self.limits(kind, 0);
        let facts = state.deep_facts(&self.symbols, offset);
        facts.signed_min >= min && state.sum_max(&self.symbols, offset, word).is_some_and(|sum| sum <= max)
    }

    /// The address in a register, if it leads to memory.
    fn accessible(&mut self, state: &mut State, at: u32, register: Register) -> Option<Address> {
        let word = self.defined(state, at, register);
        let address = match word {
            Word::Reported | Word::Undefined => return None,
            Word::Pointer(address) => address,
            Word::Number(number) => {
                let facts = state.deep_facts(&self.symbols, number);
                let null = facts == Scalar::constant(0);
                self.report(at, || match null {
                    true => Finding::new(Code::MAYBE_NULL, format!("`{register}` is null here")),
                    false => Finding::new(Code::NOT_A_POINTER, format!("`{register}` is a number, not an address"))
                        .known(format!("`{register}` is {facts}"))
                        .hint("handlers reach the server's memory only through `naam_read`, `naam_write` and the other UDMA calls"),
                });
                state.set(register, Word::Reported);
                return None;
            }
            Word::Unusable => {
                self.report(at, || {
                    Finding::new(Code::NOT_A_POINTER, format!("`{register}` was computed from an address, but is none any more"))
                        .hint("only adding and subtracting numbers keeps an address; an address that is null on some path must be tested before it is computed with")
                });
                state.set(register, Word::Reported);
                return None;
            }
        };
        if address.regions != 0 {
            self.report(at, || {
                Finding::new(Code::REGION_ACCESSED, format!("`{register}` is a region, whose memory cannot be accessed directly"))
                    .hint("use `naam_read` and `naam_write`")
            });
        } else if address.null {
            self.report(at, || {
                Finding::new(Code::MAYBE_NULL, format!("`{register}` is null here on some path")).hint("test it before this access")
            });
        } else {
            return Some(address);
        }
        state.set(register, Word::Reported);
        None
    }

    /// Smallest and largest offset at which so many bytes lie inside.
    fn limits(&self, kind: Kind, bytes: u64) -> (i64, i64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        match kind {
            Kind::Stack => (-(STACK_BYTES as i64), -bytes),
            Kind::Body | Kind::ReadOnly => (0, self.size(kind) as i64 - bytes),
        }
    }

    fn size(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Stack => STACK_BYTES as u64,
            Kind::Body => self.function.entry.body_bytes.into(),
            Kind::ReadOnly => self.environment.read_only.len() as u64,
        }
    }

    /// The bytes of an access at this offset, if they surely lie inside; if that is `assumed`, those of them that do.
    fn within(&self, state: &State, kind: Kind, offset: Linear, length: Length, assumed: bool) -> Option<Reach> {
        let facts = state.deep_facts(&self.symbols, offset);
        let (min, max) = self.limits(kind, if assumed { length.min } else { length.max });
        if !assumed && (facts.signed_min < min || facts.signed_max > max) {
            return None;
        }
        let (first, last) = (facts.signed_min.max(min), facts.signed_max.min(max));
        if first > last {
            return None;
        }
        // Where the interval was cut its end need not lie on the stride.
        let stride = if first == facts.signed_min { facts.stride } else { 1 };
        let start = if kind == Kind::ReadOnly { 0 } else { STACK_BYTES as i64 };
        let (_, end) = self.limits(kind, 0);
        let place = |offset: i64| u32::try_from(start + offset).ok();
        let end = end.min(last.saturating_add(i64::try_from(length.max).unwrap_or(i64::MAX)));
        Some(Reach { kind, first: place(first)?, last: place(last)?, stride, end: place(end)? })
    }

    fn report_bounds(&mut self, state: &State, at: u32, register: Register, kind: Kind, offset: Linear, length: Length) {
        let facts = state.deep_facts(&self.symbols, offset);
        let size = self.size(kind);
        let (code, name) = match kind {
            Kind::Stack => (Code::STACK_BOUNDS, "stack"),
            Kind::Body => (Code::MESSAGE_BOUNDS, "message"),
            Kind::ReadOnly => (Code::READ_ONLY_BOUNDS, "read-only data"),
        };
        self.report(at, || {
            let constant = facts.as_constant().is_some() && length.min == length.max;
            let sure = if constant { "lie" } else { "may lie" };
            let bytes = match (length.min, length.max) {
                (1, 1) => String::from("byte"),
                (min, max) if min == max => format!("{max} bytes"),
                (min, max) => format!("{min} to {max} bytes"),
            };
            let finding = Finding::new(code, format!("the {bytes} accessed through `{register}` {sure} outside the {name}"))
                .known(words::place(kind, &facts))
                .known(words::extent(kind, size));
            if constant { finding } else { finding.hint(HINT_BOUNDS) }
        });
    }

    /// Notes that these bytes are read; false if they hold an address or a part of one, or no contract promises them.
    pub(super) fn read(&mut self, state: &State, range: ByteRange) -> bool {
        self.record.zeroed.insert_except(range, state.memory.written());
        state.memory.is_readable(range) && !state.memory.holds_secret(range)
    }

    pub(super) fn check_atomic(&mut self, at: u32, reach: &Reach, size: Size) {
        let bytes = size.bytes() as u32;
        let aligned = reach.first.is_multiple_of(bytes) && reach.stride.is_multiple_of(bytes.into());
        if !aligned || reach.kind == Kind::ReadOnly {
            self.report(at, || {
                Finding::new(
                    Code::ATOMIC_PLACE,
                    format!("an atomic operation on {bytes} bytes at an address that is not a multiple of {bytes}"),
                )
                .known(format!(
                    "the address is {} past such a multiple, in steps of {}",
                    reach.first % bytes,
                    reach.stride
                ))
            });
        }
    }

    /// Checks the arguments of a helper, and records the call unless it is about to suspend.
    pub(super) fn arguments(&mut self, state: &mut State, at: u32, helper: Helper, look: Look) -> Vec<Argument> {
        let mut arguments = vec![Argument::default(); helper.parameters().len()];
        let parameters = || helper.parameters().iter().zip(Register::ARGUMENTS).enumerate();
        for (index, (parameter, register)) in parameters() {
            match parameter {
                Parameter::Region(rights) => arguments[index].regions = self.region(state, at, helper, register, *rights),
                Parameter::U64 | Parameter::U32 => {
                    let how = format!("is passed to {} as a number", helper.name());
                    let number = self.number(state, at, register, &how);
                    let word =
                        number.map(|number| if *parameter == Parameter::U32 { self.zero_extended(state, number) } else { number });
                    let facts = word.map_or(Scalar::ANY, |word| state.deep_facts(&self.symbols, word));
                    arguments[index].number = Some(if *parameter == Parameter::U32 { zero_extend(facts) } else { facts });
                    arguments[index].word = word;
                }
                Parameter::Source(_) | Parameter::Destination(_) => {}
            }
        }
        for (index, (parameter, register)) in parameters() {
            let (Parameter::Source(extent) | Parameter::Destination(extent)) = parameter else { continue };
            let write = matches!(parameter, Parameter::Destination(_));
            let facts = argument_length(&arguments, *extent);
            let word = match extent {
                Extent::Parameter(index) => arguments.get(*index).and_then(|argument| argument.word),
                Extent::Word => None,
            };
            let length = Length { min: facts.unsigned_min, max: facts.unsigned_max, word };
            let reaches = self.reach(state, at, (register, 0), length, write, look == Look::After);
            arguments[index].failed = write && reaches.is_none();
            let reaches = reaches.unwrap_or_default();
            for reach in reaches.iter().filter(|reach| !write && reach.kind != Kind::ReadOnly && reach.first < reach.end) {
                if !self.read(state, reach.hull()) {
                    self.report_leak(at, &format!("is among the bytes that {} reads", helper.name()));
                }
            }
            arguments[index].reaches = reaches;
        }
        if helper == Helper::Reply {
            self.reply(at, arguments[0].number.unwrap_or(truncate(Scalar::ANY, 4)));
        }
        if look != Look::Before && self.reporting {
            self.record_call(at, helper, &arguments);
        }
        arguments
    }

    fn record_call(&mut self, at: u32, helper: Helper, arguments: &[Argument]) {
        let pointers = || {
            let all = helper.parameters().iter().zip(Register::ARGUMENTS).zip(arguments);
            all.filter(|((parameter, _), _)| matches!(parameter, Parameter::Source(_) | Parameter::Destination(_)))
                .map(|((_, register), argument)| (register, argument))
        };
        let constant = |argument: &Argument| matches!(argument.reaches.as_slice(), [reach] if reach.exact().is_some());
        self.record.calls.push(Call {
            instruction: at,
            helper,
            regions: arguments.first().map_or(0, |argument| argument.regions),
            numbers: Register::ARGUMENTS
                .into_iter()
                .zip(arguments)
                .filter_map(|(register, a)| Some((register, a.number?)))
                .collect(),
            memory: pointers().map(|(register, a)| (register, if a.failed { SOMEWHERE } else { touched(&a.reaches) })).collect(),
            exact: pointers().filter(|(_, argument)| constant(argument)).map(|(register, _)| register).collect(),
        });
    }

    fn reply(&mut self, at: u32, length: Scalar) {
        let body_bytes = self.function.entry.body_bytes;
        if length.unsigned_max > body_bytes.into() {
            self.report(at, || {
                Finding::new(Code::REPLY_TOO_LONG, "the reply may be longer than the message")
                    .known(format!("the length is {length}"))
                    .known(words::extent(Kind::Body, body_bytes.into()))
                    .hint(HINT_BOUNDS)
            });
        }
        let max = length.unsigned_max.min(body_bytes.into()) as u32;
        self.record.reply_bytes_max = Some(self.record.reply_bytes_max.unwrap_or(0).max(max));
    }

    /// The regions that a register may be, which must be nothing else and give the rights.
    fn region(&mut self, state: &mut State, at: u32, helper: Helper, register: Register, rights: Rights) -> u64 {
        let none = Address::default();
        let regions = match self.defined(state, at, register) {
            Word::Reported | Word::Undefined => return 0,
            Word::Pointer(address) if address.regions != 0 && address == (Address { regions: address.regions, ..none }) => {
                address.regions
            }
            _ => {
                self.report(at, || {
                    Finding::new(
                        Code::REGION_EXPECTED,
                        format!("the first argument of {} is not a region on every path", helper.name()),
                    )
                    .hint("pass the address of a region declared with SEC(\".maps\"): `naam_read(&index, ...)`")
                });
                state.set(register, Word::Reported);
                return 0;
            }
        };
        for (index, region) in self.environment.regions.iter().enumerate().take(64) {
            if regions >> index & 1 == 1 && !region.rights.contains(rights) {
                let (name, has) = (region.name.clone(), region.rights);
                self.report(at, || {
                    Finding::new(Code::RIGHT_MISSING, format!("{} needs the right `{rights}` on region `{name}`", helper.name()))
                        .known(format!("`{name}` is declared with the rights `{has}`"))
                        .hint("add the right to the region's declaration: `__uint(rights, ...)`")
                });
            }
        }
        regions
    }
}

/// The hulls of what is reached, by kind.
fn touched(reaches: &[Reach]) -> Touched {
    let mut all = Touched::default();
    for reach in reaches {
        let range = Some(reach.hull());
        match reach.kind {
            Kind::Stack => all.stack = range,
            Kind::Body => all.body = range,
            Kind::ReadOnly => all.read_only = range,
        }
    }
    all
}

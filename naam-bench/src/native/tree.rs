//! Cell's readers, `lookup` and `scan`, in native Rust: the same region reads as `handlers/cell/cell.c` makes, in the same order.

use super::machine::{BODY, NODE, WORD, address, handle};
use crate::cell::{
    HEADER_BYTES, HIGH, LINE_WORDS, LINK, NODE_BYTES_MAX, ORDER, ORDER_BYTES, PAGE_BYTES, PAGE_HEADER_BYTES, Shape, TREE, next_word,
};
use crate::mica::{ABSENT, BUSY, OK};
use naamc::abi::Helper;
use naamc::activation::{Activation, POINT_START};
use naamc::interpreter::{Failure, Issued, Outcome};
use naamc::program::Environment;
use runtime::engine::{Program, Turn};

/// Tree nodes that a message reads before it gives up.
const PATIENCE: u32 = 1000;
/// Words of the largest tree node.
const NODE_WORDS_MAX: usize = NODE_BYTES_MAX / 8;
/// No tree node: the way begins at the root.
const NO_NUMBER: u64 = u64::MAX;
/// First of the registers that hold a [`State`] while suspended.
const STATE_REGISTER: usize = 6;

/// A reader of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The record under a key.
    Lookup,
    /// A page of records from a key on.
    Scan,
}

/// A reader of the trees of one deployment.
#[derive(Clone, Copy, Debug)]
pub struct TreeReader {
    reader: Reader,
    shape: Shape,
}

impl Reader {
    /// All of them, with the handlers' names.
    pub const ALL: [(&'static str, Reader); 2] = [("lookup", Reader::Lookup), ("scan", Reader::Scan)];

    /// The helper at each suspension point of these programs.
    pub fn operations() -> Vec<Helper> {
        vec![Helper::Read; 3]
    }

    /// For a deployment with these constants. Sizes that no tree has are taken for those that it has by default.
    pub fn of(self, environment: &Environment) -> TreeReader {
        let constant = |name: &str| {
            let constant = environment.constants.iter().find(|constant| constant.name == name)?;
            let bytes = environment.read_only.get(constant.offset as usize..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes) as usize)
        };
        let shape = constant("node_bytes").zip(constant("value_bytes")).and_then(|(node, value)| Shape::new(node, value));
        TreeReader { reader: self, shape: shape.unwrap_or(Shape { node_bytes: 1024, value_bytes: 64 }) }
    }
}

impl Program for TreeReader {
    fn run(&self, activation: &mut Activation, turn: &mut Turn<'_>) -> Outcome {
        let mut machine = Machine { activation, turn, shape: self.shape, state: State::default() };
        machine.enter(self.reader);
        let ended = match self.reader {
            Reader::Lookup => machine.lookup(),
            Reader::Scan => machine.scan(),
        };
        match ended {
            Ok(result) => Outcome::Finished(result as u32 as u64),
            Err(outcome) => outcome,
        }
    }

    fn unnoted_bytes(&self) -> u32 {
        0
    }
}

/// Where a program stands. All but the first are its suspension points: before that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Next,
    Root,
    Node,
    Check,
}

impl Step {
    const POINTS: [Step; 3] = [Step::Root, Step::Node, Step::Check];
}

/// A program's variables, by the names that `cell.c` gives them.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    step: Step,
    key: u64,
    number: u64,
    level: u32,
    patience: u32,
    version: u32,
    hit: bool,
    /// Of a scan: records in the page, those that may be, those that will be.
    taken: u32,
    wanted: u32,
    filled: u32,
    /// Where a scan goes on if nobody has committed meanwhile, and the tree node there, if it is another one.
    next: u64,
    right: Option<u32>,
}

struct Machine<'m, 't> {
    activation: &'m mut Activation,
    turn: &'m mut Turn<'t>,
    shape: Shape,
    state: State,
}

impl Machine<'_, '_> {
    /// Begins, or goes on where the program was suspended.
    #[inline(always)]
    fn enter(&mut self, reader: Reader) {
        if self.activation.point == POINT_START {
            self.activation.reply_bytes = 0;
            self.state = State { key: self.word(BODY), number: NO_NUMBER, patience: PATIENCE, ..State::default() };
            if reader == Reader::Scan {
                let room = (PAGE_BYTES / self.shape.record_bytes()) as u32;
                self.state.wanted = (self.word(BODY + 8) as u32).min(room);
            }
            return;
        }
        let at = |index: usize| self.activation.registers[STATE_REGISTER + index];
        self.state = State {
            step: Step::POINTS[self.activation.point as usize % Step::POINTS.len()],
            key: at(0),
            number: at(1),
            level: at(2) as u32,
            patience: (at(2) >> 32) as u32,
            version: at(3) as u32,
            hit: at(3) >> 32 & 1 == 1,
            right: (at(3) >> 33 & 1 == 1).then_some((at(4) >> 32) as u32),
            taken: at(4) as u16 as u32,
            wanted: (at(4) >> 16) as u16 as u32,
            filled: at(5) as u32,
            next: at(6),
        };
    }

    #[inline(always)]
    fn suspend(&mut self, arguments: [u64; 5]) -> Outcome {
        let state = self.state;
        self.activation.point = Step::POINTS.iter().position(|step| *step == state.step).unwrap_or(0) as u32;
        let registers = &mut self.activation.registers;
        registers[1..6].copy_from_slice(&arguments);
        registers[STATE_REGISTER..STATE_REGISTER + 7].copy_from_slice(&[
            state.key,
            state.number,
            u64::from(state.level) | u64::from(state.patience) << 32,
            u64::from(state.version) | u64::from(state.hit) << 32 | u64::from(state.right.is_some()) << 33,
            u64::from(state.taken) | u64::from(state.wanted) << 16 | u64::from(state.right.unwrap_or(0)) << 32,
            u64::from(state.filled),
            state.next,
        ]);
        Outcome::Suspended
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.activation.memory[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// A word of the tree node.
    #[inline]
    fn node_word(&self, index: usize) -> u64 {
        self.word(NODE + index % NODE_WORDS_MAX * 8)
    }

    /// The word that the slot of an entry begins with.
    #[inline]
    fn slot(&self, directory: usize, index: usize) -> usize {
        let skipped = if index < ORDER_BYTES[0] { 0 } else { 8 };
        let at = (directory + ORDER) * 8 + index + skipped;
        usize::from(self.activation.memory[NODE + at % NODE_BYTES_MAX]) % NODE_WORDS_MAX
    }

    #[inline]
    fn entries(&self, directory: usize) -> usize {
        ((self.node_word(directory + LINK) >> 32 & 0xff) as usize).min(ORDER_BYTES[0] + ORDER_BYTES[1])
    }

    /// How many keys are not above this one.
    #[inline(always)]
    fn search(&self, directory: usize, key: u64) -> usize {
        let (mut low, mut high) = (0, self.entries(directory));
        while low < high {
            let middle = (low + high) / 2;
            if self.node_word(self.slot(directory, middle)) <= key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Reads the tree node of the leaves whose keys are around the state's key. False if it was too often in vain.
    #[inline(always)]
    fn descend(&mut self) -> Result<bool, Outcome> {
        loop {
            match self.state.step {
                Step::Root => {
                    self.read(0, WORD, 8)?;
                    let root = self.word(WORD);
                    self.state.number = u64::from(root as u32);
                    self.state.level = (root >> 32) as u32 & 0xff;
                    self.state.step = Step::Node;
                }
                Step::Node => {
                    let offset = HEADER_BYTES.wrapping_add(self.state.number.wrapping_mul(self.shape.node_bytes as u64));
                    let read = self.read(offset, NODE, self.shape.node_bytes)?;
                    self.state.step = Step::Next;
                    if read != 0 {
                        self.state.number = NO_NUMBER;
                    } else if self.visit() {
                        return Ok(true);
                    }
                }
                _ => {
                    if self.state.patience == 0 {
                        return Ok(false);
                    }
                    self.state.patience -= 1;
                    self.state.step = if self.state.number == NO_NUMBER { Step::Root } else { Step::Node };
                }
            }
        }
    }

    /// Looks at the tree node that was read: true if it is the leaf, else the state says which one is next.
    #[inline(always)]
    fn visit(&mut self) -> bool {
        let word = self.node_word(0);
        let version = word as u32 & !1;
        let directory = self.shape.directory(version.into());
        let State { key, level, .. } = self.state;
        if level == 0 {
            let lines = (LINE_WORDS..self.shape.node_bytes / 8).step_by(LINE_WORDS);
            if lines.fold(0, |others, line| others | self.node_word(line) ^ u64::from(version)) != 0 {
                return false;
            }
        }
        if (word >> 48) as u32 & 0xff != level || key < self.node_word(1) {
            self.state.number = NO_NUMBER;
            return false;
        }
        let right = self.node_word(directory + LINK) as u32;
        if right != 0 && key >= self.node_word(directory + HIGH) {
            self.state.number = right.into();
            return false;
        }
        if level == 0 {
            self.state.version = version;
            return true;
        }
        let count = self.search(directory, key);
        self.state.number = NO_NUMBER;
        // A torn directory may count bytes that were never written, and so begin before the slots.
        let slot = if count > 0 { self.slot(directory, count - 1) } else { 0 };
        if slot >= self.shape.slots() {
            self.state.number = u64::from(self.node_word(next_word(slot)) as u32);
            self.state.level -= 1;
        }
        false
    }

    /// Copies words of the tree node, versions skipped, to the body. Returns the word behind them.
    #[inline(always)]
    fn copy(&mut self, mut from: usize, to: usize, words: usize) -> usize {
        self.activation.note_written(to + words * 8);
        for index in 0..words {
            let word = self.node_word(from).to_le_bytes();
            self.activation.memory[to + index * 8..][..8].copy_from_slice(&word);
            from = next_word(from);
        }
        from
    }

    /// Whether nobody has committed to the tree node since it was read.
    #[inline(always)]
    fn unchanged(&mut self) -> Result<bool, Outcome> {
        self.read(HEADER_BYTES + self.state.number * self.shape.node_bytes as u64, WORD, 8)?;
        Ok(self.word(WORD) as u32 & !1 == self.state.version)
    }

    #[inline(always)]
    fn lookup(&mut self) -> Result<i32, Outcome> {
        loop {
            if self.state.step != Step::Check {
                if !self.descend()? {
                    return Ok(BUSY);
                }
                let directory = self.shape.directory(self.state.version.into());
                let count = self.search(directory, self.state.key);
                let at = if count > 0 { self.slot(directory, count - 1) } else { 0 };
                self.state.hit = count > 0 && self.node_word(at) == self.state.key;
                self.copy(next_word(at), BODY + 8, self.shape.value_bytes / 8);
                self.state.step = Step::Check;
            }
            if self.unchanged()? {
                break;
            }
            self.state.step = Step::Next;
        }
        if !self.state.hit {
            return Ok(ABSENT);
        }
        self.activation.reply_bytes = self.shape.record_bytes() as u32;
        Ok(OK)
    }

    #[inline(always)]
    fn scan(&mut self) -> Result<i32, Outcome> {
        let mut more = true;
        while self.state.taken < self.state.wanted {
            if self.state.step != Step::Check {
                if !self.descend()? {
                    return Ok(BUSY);
                }
                self.fill_page();
                self.state.step = Step::Check;
            }
            let unchanged = self.unchanged()?;
            self.state.step = Step::Next;
            if !unchanged {
                continue;
            }
            self.state.taken = self.state.filled;
            self.state.key = self.state.next;
            match self.state.right {
                Some(0) => {
                    more = false;
                    break;
                }
                Some(right) => self.state.number = right.into(),
                None => {}
            }
        }
        self.activation.note_written(BODY + PAGE_HEADER_BYTES);
        let counts = u64::from(self.state.taken) | u64::from(more) << 32;
        self.activation.memory[BODY..BODY + 8].copy_from_slice(&self.state.key.to_le_bytes());
        self.activation.memory[BODY + 8..BODY + 16].copy_from_slice(&counts.to_le_bytes());
        self.activation.reply_bytes = (PAGE_HEADER_BYTES + self.state.taken as usize * self.shape.record_bytes()) as u32;
        Ok(OK)
    }

    /// Copies what the leaf has for the page, and says where the scan goes on.
    #[inline(always)]
    fn fill_page(&mut self) {
        let directory = self.shape.directory(self.state.version.into());
        let count = self.entries(directory);
        let words = self.shape.record_bytes() / 8;
        let mut index = match self.state.key {
            0 => 0,
            key => self.search(directory, key - 1),
        };
        self.state.filled = self.state.taken;
        while index < count && self.state.filled < self.state.wanted {
            let to = BODY + PAGE_HEADER_BYTES + self.state.filled as usize * words * 8;
            self.copy(self.slot(directory, index), to, words);
            self.state.filled += 1;
            index += 1;
        }
        if index < count {
            self.state.next = self.node_word(self.slot(directory, index));
            self.state.right = None;
        } else {
            self.state.next = self.node_word(directory + HIGH);
            self.state.right = Some(self.node_word(directory + LINK) as u32);
        }
    }

    /// `naam_read` into the activation's memory, at the current step. The completion.
    #[inline(always)]
    fn read(&mut self, offset: u64, to: usize, length: usize) -> Result<i64, Outcome> {
        let issued = if self.activation.completed != 0 {
            self.activation.completed = 0;
            Issued::Done(self.activation.completion)
        } else if self.activation.udma_operations_left == 0 {
            return Err(Outcome::Failed(Failure::UdmaOperationsExhausted));
        } else {
            self.turn.read(TREE.1, offset, &mut self.activation.memory[to..to + length])
        };
        match issued {
            Issued::Done(completion) => {
                self.activation.udma_operations_left = self.activation.udma_operations_left.saturating_sub(1);
                self.activation.udma_operations += 1;
                if completion != 0 {
                    self.activation.memory[to..to + length].fill(0);
                }
                Ok(completion)
            }
            Issued::Suspend => Err(self.suspend([handle(TREE), offset, address(to), length as u64, 0])),
            Issued::Failed(failure) => Err(Outcome::Failed(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Application;
    use crate::cell::Image;
    use crate::workload::keys::fnv;
    use runtime::engine::{Engine, InterpreterEngine};
    use runtime::memory::{Region, Regions};
    use std::io::Read;
    use std::sync::Arc;

    /// Result, reply, UDMA operations.
    type Ending = (i32, Vec<u8>, u32);

    fn run(program: &dyn Program, regions: &Regions, request: &[u8], operations: u32) -> Ending {
        let mut activation = Activation::new_boxed();
        let mut body = request.to_vec();
        body.resize(PAGE_HEADER_BYTES + PAGE_BYTES, 0);
        activation.begin(&body, 1 << 20, 4096);
        loop {
            let mut turn = Turn::new(regions, 1);
            turn.operations_left = operations;
            match program.run(&mut activation, &mut turn) {
                Outcome::Finished(result) => {
                    let reply = activation.body()[..activation.reply_bytes as usize].to_vec();
                    return (result as i32, reply, activation.udma_operations);
                }
                Outcome::Suspended => activation.memory[BODY - 4096..BODY - 2200].fill(0xa5),
                Outcome::Failed(failure) => panic!("{failure}"),
            }
        }
    }

    /// Each reader does what its handler does, with the same operations, whether or not it is suspended before each of them.
    #[test]
    fn readers_do_what_the_handlers_do() {
        for (node_bytes, value_bytes) in [(512, 80), (1024, 64), (2048, 8)] {
            let shape = Shape::new(node_bytes, value_bytes).unwrap();
            let mut keys: Vec<(u64, u64)> = (0..3000).map(|number| (fnv(number), number)).collect();
            keys.sort_unstable();
            let mut bytes = Vec::new();
            Image::new(shape, keys, |number, value| value.fill(number as u8)).read_to_end(&mut bytes).unwrap();
            let region = Region::anonymous(bytes.len() as u64).unwrap();
            assert_eq!(region.write(0, &bytes), 0);
            let regions: Regions = [region].into_iter().collect();
            let constants = [("node_bytes", node_bytes), ("value_bytes", value_bytes)];
            let constants: Vec<_> = constants.map(|(name, value)| (name.to_owned(), value.into())).into();
            let bundle = naamc::build::build(Application::Cell.elf()).unwrap();
            let bundle = bundle.bundle().clone().with_constants(&constants).unwrap().check().unwrap();
            let environment = &bundle.bundle().meaning.environment;
            let mut hits = 0;
            for (name, reader) in Reader::ALL {
                let proof = &bundle.proofs()[bundle.handler(name).unwrap()];
                let handler = InterpreterEngine.compile(proof, environment, &regions).unwrap();
                let native: Arc<dyn Program> = Arc::new(reader.of(environment));
                for number in 2900..3100 {
                    let request = [&fnv(number).to_le_bytes()[..], &(number as u32 % 130).to_le_bytes()].concat();
                    let expected = run(&*handler, &regions, &request, 64);
                    hits += u32::from(expected.0 == OK && !expected.1.is_empty());
                    for operations in [64, 1] {
                        // With one operation in a turn it suspends before every second one.
                        assert_eq!(run(&*native, &regions, &request, operations), expected, "{name} {number} in {shape:?}");
                    }
                }
            }
            assert_eq!(hits, 300);
        }
    }
}

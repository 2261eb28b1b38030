//! Control flow of a flat function: blocks, their order, and the edges that close loops.
//!
//! Every stage that walks code in some order (verifier, engines, code generation) takes the order from here, so that they agree on what
//! a loop head is and which jumps take fuel. All of it is iterative, deterministic and linear in the number of instructions; code that
//! cannot be reached is not part of the graph. What values flow along the edges is the verifier's business.

use crate::abi::{INSTRUCTIONS_MAX, REGISTERS_MAX};
use crate::diagnostic::{Code, Finding};
use crate::isa::Instruction;

/// A run of instructions that is entered at its first and left after its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Index of its first instruction.
    pub start: u32,
    /// One past its last instruction.
    pub end: u32,
    /// Blocks that may follow: where it falls through to first, then the jump's target; the same one is not listed twice.
    pub successors: Vec<u32>,
    /// Blocks that it may follow, ascending.
    pub predecessors: Vec<u32>,
}

/// An edge that closes a cycle: it leads to a block that is on the depth-first path to the edge's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetreatingEdge {
    /// Index of the instruction that it leaves: the last of its block.
    pub from_instruction: u32,
    /// Index of the loop's first instruction.
    pub head: u32,
}

/// The control-flow graph of the reachable code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    blocks: Vec<Block>,
    block_of: Vec<u32>,
    retreating: Vec<RetreatingEdge>,
    heads: Vec<u32>,
}

/// Marks an instruction that is in no block.
const UNREACHABLE: u32 = u32::MAX;

impl Graph {
    /// Builds the graph.
    ///
    /// # Errors
    ///
    /// Findings for code without end: too long, falling off the end, targets outside, calls that were not inlined, registers that do not
    /// exist, and blocks that cannot reach an exit.
    pub fn new(instructions: &[Instruction]) -> Result<Graph, Vec<Finding>> {
        if instructions.is_empty() || instructions.len() > INSTRUCTIONS_MAX {
            let message = format!("the function has {} instructions; 1 to {INSTRUCTIONS_MAX} are possible", instructions.len());
            return Err(vec![Finding::new(Code::FUNCTION_LENGTH, message)]);
        }
        let reachable = reachable(instructions)?;
        let (blocks, block_of) = cut_into_blocks(instructions, &reachable);
        let (order, retreating) = depth_first(&blocks);
        let graph = Graph::in_order(blocks, block_of, &order, &retreating);
        let endless = graph.endless(instructions);
        if endless.is_empty() { Ok(graph) } else { Err(endless) }
    }

    /// The blocks, in reverse postorder: the entry first, and every edge that is not retreating leads to a later block.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The block of an instruction, as an index into [`Graph::blocks`]; none if it is unreachable.
    pub fn block_of(&self, instruction: u32) -> Option<usize> {
        self.block_of.get(instruction as usize).filter(|block| **block != UNREACHABLE).map(|block| *block as usize)
    }

    /// The retreating edges, ascending.
    pub fn retreating_edges(&self) -> &[RetreatingEdge] {
        &self.retreating
    }

    /// First instructions of loops, ascending: the targets of retreating edges.
    pub fn loop_heads(&self) -> &[u32] {
        &self.heads
    }

    /// Whether going from the instruction `from` to the instruction `to` closes a loop.
    pub fn is_retreating(&self, from: u32, to: u32) -> bool {
        self.retreating.binary_search(&RetreatingEdge { from_instruction: from, head: to }).is_ok()
    }

    /// Renumbers the blocks into `order`, and finds predecessors, retreating edges and heads.
    fn in_order(blocks: Vec<Block>, block_of: Vec<u32>, order: &[u32], retreating: &[(u32, u32)]) -> Graph {
        let mut number = vec![0u32; blocks.len()];
        for (new, old) in order.iter().enumerate() {
            number[*old as usize] = new as u32;
        }
        let mut edges: Vec<RetreatingEdge> = retreating
            .iter()
            .map(|(from, to)| RetreatingEdge { from_instruction: blocks[*from as usize].end - 1, head: blocks[*to as usize].start })
            .collect();
        edges.sort_unstable();
        let mut heads: Vec<u32> = edges.iter().map(|edge| edge.head).collect();
        heads.sort_unstable();
        heads.dedup();
        let mut ordered: Vec<Block> = order
            .iter()
            .map(|old| {
                let mut block = blocks[*old as usize].clone();
                block.successors.iter_mut().for_each(|successor| *successor = number[*successor as usize]);
                block
            })
            .collect();
        for index in 0..ordered.len() {
            for successor in ordered[index].successors.clone() {
                ordered[successor as usize].predecessors.push(index as u32);
            }
        }
        let block_of = block_of.into_iter().map(|old| if old == UNREACHABLE { old } else { number[old as usize] }).collect();
        Graph { blocks: ordered, block_of, retreating: edges, heads }
    }

    /// A finding for every loop from which no path leads to an exit; one for those inside each other.
    fn endless(&self, instructions: &[Instruction]) -> Vec<Finding> {
        let mut ends = vec![false; self.blocks.len()];
        let mut pending: Vec<u32> = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            if instructions[block.end as usize - 1] == Instruction::Exit {
                ends[index] = true;
                pending.push(index as u32);
            }
        }
        while let Some(block) = pending.pop() {
            for predecessor in &self.blocks[block as usize].predecessors {
                if !std::mem::replace(&mut ends[*predecessor as usize], true) {
                    pending.push(*predecessor);
                }
            }
        }
        let mut findings = Vec::new();
        for head in &self.heads {
            let block = self.block_of[*head as usize];
            if ends[block as usize] {
                continue;
            }
            let back = self.retreating.iter().find(|edge| edge.head == *head).map_or(*head, |edge| edge.from_instruction);
            findings.push(
                Finding::new(Code::LOOP_WITHOUT_EXIT, "no path leads from this loop to the end of the handler")
                    .at(back)
                    .hint("give the loop a condition that can become false, or a `break` or `return`"),
            );
            pending.push(block);
            while let Some(block) = pending.pop() {
                if !std::mem::replace(&mut ends[block as usize], true) {
                    pending.extend(&self.blocks[block as usize].successors);
                }
            }
        }
        findings
    }
}

/// The instructions that may follow the one at `index`: where it falls through to, and where it jumps to. Either may lie outside.
pub fn successors(instruction: &Instruction, index: u32) -> [Option<u32>; 2] {
    match instruction {
        Instruction::Exit => [None, None],
        Instruction::Jump { target } => [Some(*target), None],
        Instruction::JumpIf { target, .. } if *target != index + 1 => [Some(index + 1), Some(*target)],
        _ => [Some(index + 1), None],
    }
}

/// Which instructions can be reached, or what is wrong with those.
fn reachable(instructions: &[Instruction]) -> Result<Vec<bool>, Vec<Finding>> {
    let mut reached = vec![false; instructions.len()];
    let mut findings = Vec::new();
    let mut pending = vec![0u32];
    while let Some(index) = pending.pop() {
        if std::mem::replace(&mut reached[index as usize], true) {
            continue;
        }
        let instruction = &instructions[index as usize];
        if let Instruction::CallLocal { .. } = instruction {
            findings.push(Finding::new(Code::CALL_NOT_INLINED, "a call between functions is left in a flat function").at(index));
        }
        if !instruction.is_possible() {
            let message = "no eBPF code has this instruction: its width, size or flags do not exist";
            findings.push(Finding::new(Code::INSTRUCTION_IMPOSSIBLE, message).at(index));
        }
        if let Some(register) = instruction.registers().into_iter().flatten().find(|register| register.index() >= REGISTERS_MAX) {
            findings.push(Finding::new(Code::REGISTER_UNKNOWN, format!("there is no register {}", register.0)).at(index));
        }
        for successor in successors(instruction, index).into_iter().flatten() {
            if (successor as usize) < instructions.len() {
                pending.push(successor);
            } else if successor == index + 1 {
                findings.push(Finding::new(Code::FALLS_OFF_END, "the code ends without `exit`").at(index));
            } else {
                findings
                    .push(Finding::new(Code::JUMP_TARGET, format!("a jump leads to {successor}, outside the function")).at(index));
            }
        }
    }
    findings.sort_by_key(|finding| (finding.place.instruction, finding.code));
    if findings.is_empty() { Ok(reached) } else { Err(findings) }
}

/// Blocks in the order of the code, successors as indices among them, and the block of every instruction.
fn cut_into_blocks(instructions: &[Instruction], reachable: &[bool]) -> (Vec<Block>, Vec<u32>) {
    let mut starts = vec![false; instructions.len() + 1];
    starts[0] = true;
    for (index, instruction) in instructions.iter().enumerate() {
        if !reachable[index] {
            starts[index + 1] = true;
        } else if let Instruction::Jump { target } | Instruction::JumpIf { target, .. } = instruction {
            starts[*target as usize] = true;
            starts[index + 1] = true;
        } else if *instruction == Instruction::Exit {
            starts[index + 1] = true;
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut block_of = vec![UNREACHABLE; instructions.len()];
    for index in (0..instructions.len()).filter(|index| reachable[*index]) {
        if starts[index] {
            blocks.push(Block { start: index as u32, end: index as u32, successors: Vec::new(), predecessors: Vec::new() });
        }
        block_of[index] = blocks.len() as u32 - 1;
        blocks.last_mut().expect("instruction 0 starts a block").end = index as u32 + 1;
    }
    for block in &mut blocks {
        let last = block.end - 1;
        block.successors =
            successors(&instructions[last as usize], last).into_iter().flatten().map(|next| block_of[next as usize]).collect();
    }
    (blocks, block_of)
}

/// Reverse postorder of the blocks and the retreating edges, both as indices of blocks. Successors are visited last one first, so that
/// in the resulting order a fall-through tends to follow its block.
fn depth_first(blocks: &[Block]) -> (Vec<u32>, Vec<(u32, u32)>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let mut marks = vec![Mark::New; blocks.len()];
    let mut postorder = Vec::with_capacity(blocks.len());
    let mut retreating = Vec::new();
    let mut path: Vec<(u32, usize)> = vec![(0, blocks[0].successors.len())];
    marks[0] = Mark::OnPath;
    while let Some((block, left)) = path.last_mut() {
        let block = *block;
        if *left == 0 {
            marks[block as usize] = Mark::Done;
            postorder.push(block);
            path.pop();
            continue;
        }
        *left -= 1;
        let successor = blocks[block as usize].successors[*left];
        match marks[successor as usize] {
            Mark::New => {
                marks[successor as usize] = Mark::OnPath;
                path.push((successor, blocks[successor as usize].successors.len()));
            }
            Mark::OnPath => retreating.push((block, successor)),
            Mark::Done => {}
        }
    }
    postorder.reverse();
    (postorder, retreating)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{AtomicOperation, Condition, Operand, Register, Size, Width};

    fn jump_if(target: u32) -> Instruction {
        let (left, right) = (Register(6), Operand::Immediate(0));
        Instruction::JumpIf { width: Width::W64, condition: Condition::NotEqual, left, right, target }
    }

    fn codes(instructions: &[Instruction]) -> Vec<(Code, Option<u32>)> {
        let findings = Graph::new(instructions).expect_err("must be refused");
        findings.iter().map(|finding| (finding.code, finding.place.instruction)).collect()
    }

    const NOTHING: Instruction = Instruction::LoadImmediate { destination: Register::R0, value: 0 };

    #[test]
    fn nested_loops_have_their_heads_and_an_order_that_follows_the_code() {
        let code = [NOTHING, NOTHING, NOTHING, jump_if(2), jump_if(1), Instruction::Exit];
        let graph = Graph::new(&code).unwrap();
        assert_eq!(graph.loop_heads(), [1, 2]);
        assert_eq!(
            graph.retreating_edges(),
            [RetreatingEdge { from_instruction: 3, head: 2 }, RetreatingEdge { from_instruction: 4, head: 1 }]
        );
        assert!(graph.is_retreating(3, 2) && !graph.is_retreating(3, 4));
        let starts: Vec<u32> = graph.blocks().iter().map(|block| block.start).collect();
        assert_eq!(starts, [0, 1, 2, 4, 5]);
        assert_eq!(graph.blocks()[2].predecessors, [1, 2]);
    }

    #[test]
    fn every_edge_that_is_not_retreating_leads_forward() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut accepted = 0;
        for _ in 0..2_000 {
            let length = random.u32(2..40);
            let mut code: Vec<Instruction> = (0..length)
                .map(|_| match random.u8(0..6) {
                    0 => Instruction::Jump { target: random.u32(0..length) },
                    1 | 2 => jump_if(random.u32(0..length)),
                    _ => NOTHING,
                })
                .collect();
            code.push(Instruction::Exit);
            let Ok(graph) = Graph::new(&code) else { continue };
            accepted += 1;
            for (index, block) in graph.blocks().iter().enumerate() {
                for successor in &block.successors {
                    let to = graph.blocks()[*successor as usize].start;
                    assert_eq!(graph.is_retreating(block.end - 1, to), *successor as usize <= index);
                }
            }
        }
        assert!(accepted > 500, "{accepted}");
    }

    #[test]
    fn unreachable_code_is_not_looked_at() {
        let code = [Instruction::Exit, Instruction::Jump { target: 99 }, Instruction::CallLocal { target: 7 }];
        let graph = Graph::new(&code).unwrap();
        assert_eq!(graph.blocks().len(), 1);
        assert_eq!(graph.block_of(1), None);
        assert_eq!(graph.block_of(4_000_000_000), None);
    }

    #[test]
    fn loops_without_exit_are_found_once_each() {
        assert_eq!(codes(&[NOTHING, Instruction::Jump { target: 0 }]), [(Code::LOOP_WITHOUT_EXIT, Some(1))]);
        let two = [jump_if(3), NOTHING, Instruction::Jump { target: 1 }, jump_if(3), Instruction::Jump { target: 3 }];
        assert_eq!(codes(&two), [(Code::LOOP_WITHOUT_EXIT, Some(2)), (Code::LOOP_WITHOUT_EXIT, Some(3))]);
        assert_eq!(codes(&[jump_if(0), jump_if(0), Instruction::Jump { target: 0 }]), [(Code::LOOP_WITHOUT_EXIT, Some(0))]);
    }

    #[test]
    fn targets_and_ends_stay_inside() {
        assert_eq!(codes(&[NOTHING]), [(Code::FALLS_OFF_END, Some(0))]);
        assert_eq!(codes(&[jump_if(u32::MAX), Instruction::Exit]), [(Code::JUMP_TARGET, Some(0))]);
        assert_eq!(codes(&[Instruction::CallLocal { target: 1 }, Instruction::Exit]), [(Code::CALL_NOT_INLINED, Some(0))]);
        assert_eq!(codes(&[]), [(Code::FUNCTION_LENGTH, None)]);
        let bad = Instruction::LoadImmediate { destination: Register(39), value: 0 };
        assert_eq!(codes(&[bad, Instruction::Exit]), [(Code::REGISTER_UNKNOWN, Some(0))]);
    }

    #[test]
    fn instructions_that_decoding_cannot_give_are_refused() {
        let (destination, source, base) = (Register(1), Register(2), Register(10));
        let extend = |width, bits| Instruction::MoveSignExtend { width, bits, destination, source };
        let order = |bits| Instruction::ByteOrder { order: crate::isa::ByteOrder::Big, bits, destination };
        let atomic = |operation, size, fetch| Instruction::Atomic { operation, size, fetch, base, offset: -8, source };
        let bad = [
            extend(Width::W64, 0),
            extend(Width::W64, 64),
            extend(Width::W32, 32),
            order(0),
            order(8),
            Instruction::Load { size: Size::B8, signed: true, destination, base, offset: -8 },
            atomic(AtomicOperation::Add, Size::B2, false),
            atomic(AtomicOperation::Exchange, Size::B8, false),
            atomic(AtomicOperation::CompareExchange, Size::B4, false),
        ];
        for instruction in bad {
            assert_eq!(codes(&[instruction, Instruction::Exit]), [(Code::INSTRUCTION_IMPOSSIBLE, Some(0))], "{instruction:?}");
        }
        let good = [extend(Width::W64, 32), order(16), atomic(AtomicOperation::Exchange, Size::B4, true)];
        for instruction in good {
            Graph::new(&[instruction, Instruction::Exit]).expect("possible");
        }
    }

    #[test]
    fn the_longest_function_is_quick_and_needs_no_recursion() {
        let mut code: Vec<Instruction> = (0..INSTRUCTIONS_MAX as u32 - 1).map(|index| jump_if(index / 2)).collect();
        code.push(Instruction::Exit);
        assert_eq!(Graph::new(&code).unwrap().blocks().len(), INSTRUCTIONS_MAX);
    }
}

//! Lowering: from a checked function to Cranelift's intermediate representation, one body at a time.
//!
//! Registers are 64-bit variables that hold canonical addresses and numbers. An access to stack or body is
//! `memory_base + register + offset`, where `memory_base` is the machine address that canonical address 0 would have; a constant one
//! is an offset from the activation. Nothing is checked here that the verifier proved; code that the verifier found unreachable
//! ends the message with an engine fault. Helper calls are lowered in `call`, memory operations in `memory`.

use super::surroundings::Status;
use crate::engine::Turn;
use crate::memory::Extent;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I8, I16, I32, I64};
use cranelift_codegen::ir::{
    AbiParam, AliasRegionData, Block, Function as Code, InstBuilder, JumpTableData, MemFlagsData, SigRef, Signature, Type,
    UserFuncName, Value,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use naamc::abi::address::{BODY_START, READ_ONLY_START, REGION_START, STACK_END, STACK_START};
use naamc::abi::{Helper, REGISTERS_MAX};
use naamc::activation::Activation;
use naamc::cfg::Graph;
use naamc::interpreter::Failure;
use naamc::isa::{AluOperation, ByteOrder, Condition, Instruction, Operand, Register, Symbol, Width};
use naamc::verifier::{Access, Call, Proof};
use std::mem::offset_of;

/// Which of a handler's two bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// From the entry. Loops stay reducible.
    Start,
    /// From any suspension point.
    Resume,
}

/// What is lowered.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The handler.
    pub proof: &'a Proof,
    /// The regions that every turn will offer.
    pub regions: &'a [Extent],
}

/// Lowers one body.
///
/// # Errors
/// In words, if the function's control flow has no graph. No checked function is like that.
pub fn lower(source: &Source<'_>, body: Body, target: TargetFrontendConfig) -> Result<Code, String> {
    let instructions = &source.proof.function().instructions;
    let graph = Graph::new(instructions).map_err(|findings| format!("control flow: {}", findings[0]))?;
    let mut code = Code::with_name_signature(UserFuncName::testcase(&*source.proof.function().name), signature(2, 2));
    let mut context = FunctionBuilderContext::new();
    let mut lowering = Lowering::new(FunctionBuilder::new(&mut code, &mut context), source, body, &graph);
    lowering.entry();
    lowering.instructions();
    lowering.builder.seal_all_blocks();
    lowering.builder.finalize(target);
    Ok(code)
}

/// A function of so many 64-bit parameters and results, in the machine's usual calling convention.
fn signature(parameters: usize, results: usize) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(I64); parameters];
    signature.returns = vec![AbiParam::new(I64); results];
    signature
}

/// Flags of every kind of memory that compiled code touches. What is in different alias regions never overlaps.
#[derive(Clone, Copy)]
pub(super) struct Flags {
    /// Stack and body.
    pub(super) memory: MemFlagsData,
    /// Registers, counters and turn.
    pub(super) state: MemFlagsData,
    /// What does not change during a turn and can be loaded at any time: the turn's pointers, the table of regions.
    pub(super) fixed: MemFlagsData,
    /// Likewise, but at an address that must be computed first: it cannot be loaded before that is known to be right.
    pub(super) table: MemFlagsData,
    /// Read-only data.
    pub(super) read_only: MemFlagsData,
    /// Read-only data or stack and body.
    pub(super) either: MemFlagsData,
    /// Region memory; atomic accesses only.
    pub(super) region: MemFlagsData,
}

/// One body under construction.
pub(super) struct Lowering<'a, 'b> {
    pub(super) builder: FunctionBuilder<'b>,
    pub(super) source: &'a Source<'a>,
    body: Body,
    graph: &'a Graph,
    /// Whether each instruction is reached in this body.
    reached: Vec<bool>,
    /// The block that begins with an instruction, if one does.
    blocks: Vec<Option<Block>>,
    /// Blocks on metered edges that are still empty, with the instructions that they lead to.
    metered_edges: Vec<(Block, u32)>,
    registers: [Variable; REGISTERS_MAX],
    back_edges_left: Variable,
    meters: bool,
    /// Bytes of helper calls that were lowered to moves so far.
    pub(super) inline_bytes: u32,
    pub(super) flags: Flags,
    pub(super) turn: Value,
    pub(super) activation: Value,
    pub(super) memory_base: Value,
    out_of_back_edges: Option<Block>,
    signatures: Vec<((usize, usize), SigRef)>,
}

impl<'a, 'b> Lowering<'a, 'b> {
    fn new(mut builder: FunctionBuilder<'b>, source: &'a Source<'a>, body: Body, graph: &'a Graph) -> Lowering<'a, 'b> {
        let mut region = |user_id, name: &'static str| {
            Some(builder.func.dfg.alias_regions.insert(AliasRegionData { user_id, description: name.into() }))
        };
        let (memory, state) = (region(0, "activation memory"), region(1, "turn state"));
        let plain = MemFlagsData::new().with_notrap();
        let flags = Flags {
            memory: plain.with_alias_region(memory),
            state: MemFlagsData::trusted().with_alias_region(state),
            fixed: MemFlagsData::trusted().with_readonly().with_can_move(),
            table: MemFlagsData::trusted().with_readonly(),
            read_only: plain.with_readonly(),
            // Read-only data is in no alias region: to the alias analysis this is memory, which is what may change.
            either: plain.with_alias_region(memory),
            region: MemFlagsData::trusted(),
        };
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let [turn, activation] = [0, 1].map(|index| builder.block_params(entry)[index]);
        let memory_base = builder.ins().iadd_imm_s(activation, MEMORY as i64 - STACK_START as i64);
        let registers = [(); REGISTERS_MAX].map(|()| builder.declare_var(I64));
        let back_edges_left = builder.declare_var(I32);
        let count = source.proof.function().instructions.len();
        Lowering {
            builder,
            source,
            body,
            graph,
            reached: vec![false; count],
            blocks: vec![None; count],
            metered_edges: Vec::new(),
            registers,
            back_edges_left,
            inline_bytes: 0,
            meters: source.proof.analysis().loops.iter().any(|one| one.metered),
            flags,
            turn,
            activation,
            memory_base,
            out_of_back_edges: None,
            signatures: Vec::new(),
        }
    }

    /// The access of an instruction; none if the verifier found that it cannot be reached.
    fn access(&self, index: u32) -> Option<&'a Access> {
        let accesses = &self.source.proof.analysis().accesses;
        accesses.binary_search_by_key(&index, |access| access.instruction).ok().map(|found| &accesses[found])
    }

    /// Likewise for a call.
    fn call(&self, index: u32) -> Option<&'a Call> {
        let calls = &self.source.proof.analysis().calls;
        calls.binary_search_by_key(&index, |call| call.instruction).ok().map(|found| &calls[found])
    }

    /// Whether the verifier found that nothing gets here.
    fn is_dead(&self, index: u32) -> bool {
        match self.source.proof.function().instructions[index as usize] {
            Instruction::Load { .. } | Instruction::Store { .. } | Instruction::Atomic { .. } => self.access(index).is_none(),
            Instruction::CallHelper { .. } => self.call(index).is_none(),
            Instruction::CallLocal { .. } => true,
            _ => false,
        }
    }

    /// Instructions of suspension points, by number.
    fn points(&self) -> impl Iterator<Item = u32> + 'a {
        self.source.proof.contracts().suspensions.iter().map(|contract| contract.instruction)
    }

    /// Finds what is reached, and makes a block for whatever is entered from elsewhere than the instruction before it.
    fn find_blocks(&mut self) {
        let instructions = &self.source.proof.function().instructions;
        let mut pending = match self.body {
            Body::Start => vec![0],
            Body::Resume => self.points().collect(),
        };
        for root in pending.clone() {
            self.make_block(root);
        }
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut self.reached[index as usize], true) || self.is_dead(index) {
                continue;
            }
            let instruction = &instructions[index as usize];
            let ends = matches!(instruction, Instruction::Jump { .. } | Instruction::JumpIf { .. })
                || matches!(instruction, Instruction::CallHelper { number } if Helper::from_number(*number).is_some_and(Helper::is_udma));
            for next in naamc::cfg::successors(instruction, index).into_iter().flatten() {
                if ends || self.meters_edge(index, next) {
                    self.make_block(next);
                }
                pending.push(next);
            }
        }
    }

    fn make_block(&mut self, index: u32) {
        if self.blocks[index as usize].is_none() {
            self.blocks[index as usize] = Some(self.builder.create_block());
        }
    }

    /// Whether going from one instruction to another takes fuel.
    fn meters_edge(&self, from: u32, to: u32) -> bool {
        let loops = &self.source.proof.analysis().loops;
        self.graph.is_retreating(from, to)
            && loops.binary_search_by_key(&to, |one| one.head).is_ok_and(|found| loops[found].metered)
    }

    /// Where to jump to go from one instruction to another.
    pub(super) fn edge(&mut self, from: u32, to: u32) -> Block {
        if self.meters_edge(from, to) {
            let block = self.builder.create_block();
            self.metered_edges.push((block, to));
            return block;
        }
        self.blocks[to as usize].expect("find_blocks made one for every successor of a jump")
    }

    /// Fills the blocks on metered edges.
    fn fill_metered_edges(&mut self) {
        while let Some((block, to)) = self.metered_edges.pop() {
            let exhausted = *self.out_of_back_edges.get_or_insert_with(|| self.builder.create_block());
            let take = self.builder.create_block();
            self.builder.switch_to_block(block);
            let left = self.builder.use_var(self.back_edges_left);
            self.builder.ins().brif(left, take, &[], exhausted, &[]);
            self.builder.switch_to_block(take);
            let less = self.builder.ins().iadd_imm_s(left, -1);
            self.builder.def_var(self.back_edges_left, less);
            let target = self.blocks[to as usize].expect("find_blocks made one for every target of a metered edge");
            self.builder.ins().jump(target, &[]);
        }
    }

    /// The body's own entry.
    fn entry(&mut self) {
        self.find_blocks();
        let zero = self.builder.ins().iconst(I64, 0);
        for register in self.registers {
            self.builder.def_var(register, zero);
        }
        if self.meters {
            let left =
                self.builder.ins().load(I32, self.flags.state, self.activation, offset_of!(Activation, back_edges_left) as i32);
            self.builder.def_var(self.back_edges_left, left);
        }
        match self.body {
            Body::Start => self.start_entry(),
            Body::Resume => self.resume_entry(),
        }
    }

    fn start_entry(&mut self) {
        self.zero_stack();
        let body = self.builder.ins().iconst(I64, BODY_START as i64);
        self.set(Register::R1, body);
        if let Some(number) = self.source.proof.function().entry.second_argument {
            let number = self.builder.ins().iconst(I64, number as i64);
            self.set(Register::R2, number);
        }
        let first = self.blocks[0].expect("find_blocks made one for the entry");
        self.builder.ins().jump(first, &[]);
    }

    /// One jump table on the point; then the contract's registers, and on before or after the call.
    fn resume_entry(&mut self) {
        let point = self.builder.ins().load(I32, self.flags.state, self.activation, offset_of!(Activation, point) as i32);
        let unknown = self.builder.create_block();
        let contracts = &self.source.proof.contracts().suspensions;
        let arrivals: Vec<Block> = contracts.iter().map(|_| self.builder.create_block()).collect();
        let default = self.builder.func.dfg.block_call(unknown, &[]);
        let table: Vec<_> = arrivals.iter().map(|block| self.builder.func.dfg.block_call(*block, &[])).collect();
        let table = self.builder.create_jump_table(JumpTableData::new(default, &table));
        self.builder.ins().br_table(point, table);
        for (contract, block) in contracts.iter().zip(arrivals) {
            self.builder.switch_to_block(block);
            for (register, _) in &contract.registers {
                let value = self.builder.ins().load(I64, self.flags.state, self.activation, saved(*register));
                self.set(*register, value);
            }
            let call = self.blocks[contract.instruction as usize].expect("find_blocks made one for every suspension point");
            if self.is_dead(contract.instruction) {
                self.builder.ins().jump(call, &[]);
                continue;
            }
            let completed_offset = offset_of!(Activation, completed) as i32;
            let completed = self.builder.ins().load(I32, self.flags.state, self.activation, completed_offset);
            let after = self.builder.create_block();
            self.builder.ins().brif(completed, after, &[], call, &[]);
            self.builder.switch_to_block(after);
            let none = self.builder.ins().iconst(I32, 0);
            self.builder.ins().store(self.flags.state, none, self.activation, completed_offset);
            let result = self.builder.ins().load(I64, self.flags.state, self.activation, offset_of!(Activation, completion) as i32);
            self.set(Register::R0, result);
            let next = self.edge(contract.instruction, contract.instruction + 1);
            self.builder.ins().jump(next, &[]);
        }
        self.builder.switch_to_block(unknown);
        self.fail(Failure::EngineFault);
        self.fill_metered_edges();
    }

    fn instructions(&mut self) {
        let instructions = &self.source.proof.function().instructions;
        let mut open = false;
        for (index, instruction) in instructions.iter().enumerate() {
            let index = index as u32;
            if let Some(block) = self.blocks[index as usize] {
                if open {
                    let next = self.edge(index - 1, index);
                    self.builder.ins().jump(next, &[]);
                    self.fill_metered_edges();
                }
                self.builder.switch_to_block(block);
                open = true;
            }
            if !open {
                continue;
            }
            if self.is_dead(index) {
                self.fail(Failure::EngineFault);
                open = false;
                continue;
            }
            open = self.instruction(instruction, index);
            if !open {
                self.fill_metered_edges();
            }
        }
        if let Some(exhausted) = self.out_of_back_edges {
            self.builder.set_cold_block(exhausted);
            self.builder.switch_to_block(exhausted);
            self.fail(Failure::BackEdgesExhausted);
        }
    }

    /// Lowers one instruction; whether the block goes on after it.
    fn instruction(&mut self, instruction: &Instruction, index: u32) -> bool {
        match *instruction {
            Instruction::Alu { width, operation, destination, source } => self.alu(width, operation, destination, source),
            Instruction::MoveSignExtend { width, bits, destination, source } => {
                let narrow = self.low(source, bits);
                let value = match width {
                    Width::W64 => self.builder.ins().sextend(I64, narrow),
                    Width::W32 => {
                        let value = self.builder.ins().sextend(I32, narrow);
                        self.builder.ins().uextend(I64, value)
                    }
                };
                self.set(destination, value);
            }
            Instruction::Negate { width, destination } => {
                let value = self.at_width(width, destination);
                let value = self.builder.ins().ineg(value);
                self.set_at_width(width, destination, value);
            }
            Instruction::ByteOrder { order, bits, destination } => self.byte_order(order, bits, destination),
            Instruction::LoadImmediate { destination, value } => self.set_constant(destination, value),
            Instruction::LoadAddress { destination, symbol } => {
                let address = match symbol {
                    Symbol::Region(region) => REGION_START + u64::from(region),
                    Symbol::ReadOnly(offset) => READ_ONLY_START + u64::from(offset),
                };
                self.set_constant(destination, address);
            }
            Instruction::Load { size, signed, destination, base, offset } => {
                let access = self.access(index).expect("a dead access is not lowered");
                self.load(access, size, signed, destination, base, offset);
            }
            Instruction::Store { size, base, offset, source } => {
                let access = self.access(index).expect("a dead access is not lowered");
                self.store(access, size, base, offset, source);
            }
            Instruction::Atomic { .. } => {
                let access = self.access(index).expect("a dead access is not lowered");
                self.atomic(access, instruction);
            }
            Instruction::Jump { target } => {
                let target = self.edge(index, target);
                self.builder.ins().jump(target, &[]);
                return false;
            }
            Instruction::JumpIf { width, condition, left, right, target } => {
                let holds = self.condition(width, condition, left, right);
                let (then, otherwise) = (self.edge(index, target), self.edge(index, index + 1));
                self.builder.ins().brif(holds, then, &[], otherwise, &[]);
                return false;
            }
            Instruction::CallHelper { .. } => {
                let call = self.call(index).expect("a dead call is not lowered");
                return self.helper(call);
            }
            Instruction::CallLocal { .. } => self.fail(Failure::EngineFault),
            Instruction::Exit => {
                let value = self.get(Register::R0);
                self.finish(Status::Finished, value);
                return false;
            }
        }
        true
    }

    /// Writes back what is kept in registers and returns.
    pub(super) fn finish(&mut self, status: Status, value: Value) {
        self.write_back();
        let status = self.builder.ins().iconst(I64, status as i64);
        self.builder.ins().return_(&[status, value]);
    }

    /// Writes the counter that is kept in a register to where Rust expects it.
    pub(super) fn write_back(&mut self) {
        if self.meters {
            let left = self.builder.use_var(self.back_edges_left);
            self.builder.ins().store(self.flags.state, left, self.activation, offset_of!(Activation, back_edges_left) as i32);
        }
    }

    /// Ends the message without a result.
    pub(super) fn fail(&mut self, failure: Failure) {
        let value = self.builder.ins().iconst(I64, failure as i64);
        self.finish(Status::Failed, value);
    }

    /// Where the code finds what surrounds it.
    pub(super) fn surroundings(&mut self) -> Value {
        self.builder.ins().load(I64, self.flags.fixed, self.turn, offset_of!(Turn<'_>, surroundings) as i32)
    }

    /// Calls a thunk by its offset in the surroundings.
    pub(super) fn thunk(&mut self, offset: usize, arguments: &[Value], results: usize) -> Vec<Value> {
        let shape = (arguments.len(), results);
        let known = self.signatures.iter().find(|(known, _)| *known == shape).map(|(_, signature)| *signature);
        let signature = known.unwrap_or_else(|| {
            let new = self.builder.import_signature(signature(shape.0, shape.1));
            self.signatures.push((shape, new));
            new
        });
        let surroundings = self.surroundings();
        let thunk = self.builder.ins().load(I64, self.flags.table, surroundings, offset as i32);
        let call = self.builder.ins().call_indirect(signature, thunk, arguments);
        self.builder.inst_results(call).to_vec()
    }

    pub(super) fn get(&mut self, register: Register) -> Value {
        if register == Register::R10 {
            return self.builder.ins().iconst(I64, STACK_END as i64);
        }
        self.builder.use_var(self.registers[register.index()])
    }

    pub(super) fn set(&mut self, register: Register, value: Value) {
        self.builder.def_var(self.registers[register.index()], value);
    }

    pub(super) fn set_constant(&mut self, register: Register, value: u64) {
        let value = self.builder.ins().iconst(I64, value as i64);
        self.set(register, value);
    }

    /// The low bits of a register.
    pub(super) fn low(&mut self, register: Register, bits: u8) -> Value {
        let value = self.get(register);
        match bits {
            64 => value,
            bits => self.builder.ins().ireduce(integer(bits), value),
        }
    }

    pub(super) fn at_width(&mut self, width: Width, register: Register) -> Value {
        self.low(register, if width == Width::W64 { 64 } else { 32 })
    }

    fn set_at_width(&mut self, width: Width, register: Register, value: Value) {
        let value = match width {
            Width::W64 => value,
            Width::W32 => self.builder.ins().uextend(I64, value),
        };
        self.set(register, value);
    }

    fn operand(&mut self, width: Width, operand: Operand) -> Value {
        match operand {
            Operand::Register(register) => self.at_width(width, register),
            Operand::Immediate(number) => {
                let number_type = if width == Width::W64 { I64 } else { I32 };
                self.builder.ins().iconst(number_type, i64::from(number))
            }
        }
    }

    fn alu(&mut self, width: Width, operation: AluOperation, destination: Register, source: Operand) {
        let right = self.operand(width, source);
        let value = match operation {
            AluOperation::Move => right,
            AluOperation::Divide | AluOperation::Modulo | AluOperation::SignedDivide | AluOperation::SignedModulo => {
                self.divide(width, operation, destination, right)
            }
            _ => {
                let left = self.at_width(width, destination);
                let ins = self.builder.ins();
                match operation {
                    AluOperation::Add => ins.iadd(left, right),
                    AluOperation::Subtract => ins.isub(left, right),
                    AluOperation::Multiply => ins.imul(left, right),
                    AluOperation::Or => ins.bor(left, right),
                    AluOperation::And => ins.band(left, right),
                    AluOperation::Xor => ins.bxor(left, right),
                    AluOperation::ShiftLeft => ins.ishl(left, right),
                    AluOperation::ShiftRight => ins.ushr(left, right),
                    _ => ins.sshr(left, right),
                }
            }
        };
        self.set_at_width(width, destination, value);
    }

    /// Division as RFC 9669 defines it: by zero the quotient is 0 and the remainder the dividend, and the most negative number by -1 is
    /// itself, remainder 0. Cranelift's would trap, so such divisors are replaced by 1 and the result selected.
    fn divide(&mut self, width: Width, operation: AluOperation, destination: Register, divisor: Value) -> Value {
        let number_type = if width == Width::W64 { I64 } else { I32 };
        let dividend = self.at_width(width, destination);
        let ins = |lowering: &mut Self, value| lowering.builder.ins().iconst(number_type, value);
        let (zero, one) = (ins(self, 0), ins(self, 1));
        let by_zero = self.builder.ins().icmp_imm_s(IntCC::Equal, divisor, 0);
        if matches!(operation, AluOperation::Divide | AluOperation::Modulo) {
            let safe = self.builder.ins().select(by_zero, one, divisor);
            return if operation == AluOperation::Divide {
                let quotient = self.builder.ins().udiv(dividend, safe);
                self.builder.ins().select(by_zero, zero, quotient)
            } else {
                let remainder = self.builder.ins().urem(dividend, safe);
                self.builder.ins().select(by_zero, dividend, remainder)
            };
        }
        let by_minus_one = self.builder.ins().icmp_imm_s(IntCC::Equal, divisor, -1);
        let special = self.builder.ins().bor(by_zero, by_minus_one);
        let safe = self.builder.ins().select(special, one, divisor);
        if operation == AluOperation::SignedDivide {
            let quotient = self.builder.ins().sdiv(dividend, safe);
            let negated = self.builder.ins().ineg(dividend);
            let quotient = self.builder.ins().select(by_minus_one, negated, quotient);
            self.builder.ins().select(by_zero, zero, quotient)
        } else {
            // By -1 the remainder is that by 1: 0.
            let remainder = self.builder.ins().srem(dividend, safe);
            self.builder.ins().select(by_zero, dividend, remainder)
        }
    }

    fn byte_order(&mut self, order: ByteOrder, bits: u8, register: Register) {
        let value = self.low(register, bits);
        let value = if order == ByteOrder::Little { value } else { self.builder.ins().bswap(value) };
        let value = if bits == 64 { value } else { self.builder.ins().uextend(I64, value) };
        self.set(register, value);
    }

    fn condition(&mut self, width: Width, condition: Condition, left: Register, right: Operand) -> Value {
        let (left, right) = (self.at_width(width, left), self.operand(width, right));
        let code = match condition {
            Condition::AnySet => {
                let both = self.builder.ins().band(left, right);
                return self.builder.ins().icmp_imm_s(IntCC::NotEqual, both, 0);
            }
            Condition::Equal => IntCC::Equal,
            Condition::NotEqual => IntCC::NotEqual,
            Condition::Greater => IntCC::UnsignedGreaterThan,
            Condition::GreaterOrEqual => IntCC::UnsignedGreaterThanOrEqual,
            Condition::Less => IntCC::UnsignedLessThan,
            Condition::LessOrEqual => IntCC::UnsignedLessThanOrEqual,
            Condition::SignedGreater => IntCC::SignedGreaterThan,
            Condition::SignedGreaterOrEqual => IntCC::SignedGreaterThanOrEqual,
            Condition::SignedLess => IntCC::SignedLessThan,
            Condition::SignedLessOrEqual => IntCC::SignedLessThanOrEqual,
        };
        self.builder.ins().icmp(code, left, right)
    }
}

/// Offset of stack and body in an activation.
pub(super) const MEMORY: usize = offset_of!(Activation, memory);

/// Offset of a register in an activation.
pub(super) fn saved(register: Register) -> i32 {
    (offset_of!(Activation, registers) + 8 * register.index()) as i32
}

/// The integer type of so many bits.
pub(super) fn integer(bits: u8) -> Type {
    match bits {
        8 => I8,
        16 => I16,
        32 => I32,
        _ => I64,
    }
}

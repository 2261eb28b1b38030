//! Sets of numbers are sound: whatever numbers are drawn from the operands, the concrete result lies in the abstract one. This is what
//! memory safety rests on, so the concrete side is written here anew, from RFC 9669, and shares nothing with the code under test.

use fastrand::Rng;
use naamc::isa::{AluOperation, ByteOrder, Condition, Width};
use naamc::verifier::value::Scalar;
use naamc::verifier::{arithmetic, comparison};

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];

/// A number of the kinds that matter: small, near a power of two, near a sign, or anything.
fn number(random: &mut Rng) -> u64 {
    let near = |base: u64, random: &mut Rng| base.wrapping_add(random.u64(0..9)).wrapping_sub(4);
    match random.u8(0..8) {
        0 | 1 => random.u64(0..20),
        2 => near(0, random),
        3 => near(1 << random.u32(0..64), random),
        4 => near(i32::MIN as u64, random),
        5 => near(0x8000_0000, random),
        6 => u64::from(random.u32(..)),
        _ => random.u64(..),
    }
}

/// Numbers, and a set that holds them: their union, sometimes made wider by forgetting parts.
fn sample(random: &mut Rng) -> (Vec<u64>, Scalar) {
    let first = number(random);
    let step = random.u64(1..40);
    let progression = random.bool();
    let numbers: Vec<u64> =
        (0..random.u64(1..7)).map(|index| if progression { first.wrapping_add(index * step) } else { number(random) }).collect();
    let mut set = numbers.iter().map(|number| Scalar::constant(*number)).reduce(Scalar::join).unwrap();
    for _ in 0..random.u8(0..3) {
        match random.u8(0..6) {
            0 => (set.unsigned_min, set.unsigned_max) = (0, u64::MAX),
            1 => (set.low_unsigned_min, set.low_unsigned_max) = (0, u32::MAX),
            2 => (set.low_signed_min, set.low_signed_max) = (i32::MIN, i32::MAX),
            3 => (set.ones, set.zeros) = (0, 0),
            4 => set.stride = if set.stride == 0 { 0 } else { 1 },
            _ => set.signed_max = i64::MAX,
        }
    }
    (numbers, set.reduce().expect("a set with numbers is not empty"))
}

fn concrete(width: Width, operation: AluOperation, a: u64, b: u64) -> u64 {
    match width {
        Width::W64 => {
            let (x, y) = (a as i64, b as i64);
            match operation {
                AluOperation::Add => a.wrapping_add(b),
                AluOperation::Subtract => a.wrapping_sub(b),
                AluOperation::Multiply => a.wrapping_mul(b),
                AluOperation::Divide => a.checked_div(b).unwrap_or(0),
                AluOperation::Modulo => a.checked_rem(b).unwrap_or(a),
                AluOperation::SignedDivide if y == 0 => 0,
                AluOperation::SignedDivide => x.wrapping_div(y) as u64,
                AluOperation::SignedModulo if y == 0 => a,
                AluOperation::SignedModulo => x.wrapping_rem(y) as u64,
                AluOperation::Or => a | b,
                AluOperation::And => a & b,
                AluOperation::Xor => a ^ b,
                AluOperation::ShiftLeft => a.wrapping_shl(b as u32),
                AluOperation::ShiftRight => a.wrapping_shr(b as u32),
                AluOperation::ShiftRightSigned => x.wrapping_shr(b as u32) as u64,
                AluOperation::Move => b,
            }
        }
        Width::W32 => {
            let (a, b) = (a as u32, b as u32);
            let (x, y) = (a as i32, b as i32);
            u64::from(match operation {
                AluOperation::Add => a.wrapping_add(b),
                AluOperation::Subtract => a.wrapping_sub(b),
                AluOperation::Multiply => a.wrapping_mul(b),
                AluOperation::Divide => a.checked_div(b).unwrap_or(0),
                AluOperation::Modulo => a.checked_rem(b).unwrap_or(a),
                AluOperation::SignedDivide if y == 0 => 0,
                AluOperation::SignedDivide => x.wrapping_div(y) as u32,
                AluOperation::SignedModulo if y == 0 => a,
                AluOperation::SignedModulo => x.wrapping_rem(y) as u32,
                AluOperation::Or => a | b,
                AluOperation::And => a & b,
                AluOperation::Xor => a ^ b,
                AluOperation::ShiftLeft => a.wrapping_shl(b),
                AluOperation::ShiftRight => a.wrapping_shr(b),
                AluOperation::ShiftRightSigned => x.wrapping_shr(b) as u32,
                AluOperation::Move => b,
            })
        }
    }
}

fn holds(width: Width, condition: Condition, a: u64, b: u64) -> bool {
    let (a, b, x, y) = match width {
        Width::W64 => (a, b, a as i64, b as i64),
        Width::W32 => (a & 0xffff_ffff, b & 0xffff_ffff, i64::from(a as i32), i64::from(b as i32)),
    };
    match condition {
        Condition::Equal => a == b,
        Condition::NotEqual => a != b,
        Condition::AnySet => a & b != 0,
        Condition::Greater => a > b,
        Condition::GreaterOrEqual => a >= b,
        Condition::Less => a < b,
        Condition::LessOrEqual => a <= b,
        Condition::SignedGreater => x > y,
        Condition::SignedGreaterOrEqual => x >= y,
        Condition::SignedLess => x < y,
        Condition::SignedLessOrEqual => x <= y,
    }
}

#[test]
fn arithmetic_holds_every_result() {
    let mut random = Rng::with_seed(1);
    for round in 0..40_000 {
        let ((numbers_a, a), (numbers_b, b)) = (sample(&mut random), sample(&mut random));
        let (width, operation) = (WIDTHS[round % 2], AluOperation::ALL[round / 2 % AluOperation::ALL.len()]);
        let result = arithmetic::alu(width, operation, a, b);
        for (x, y) in numbers_a.iter().flat_map(|x| numbers_b.iter().map(move |y| (*x, *y))) {
            let expected = concrete(width, operation, x, y);
            assert!(
                result.admits(expected),
                "round {round}: {x:#x} {operation:?} {y:#x} {width:?} = {expected:#x} not in {result:?}\n{a:?}\n{b:?}"
            );
        }
    }
}

#[test]
fn arithmetic_on_single_numbers_is_exact() {
    let mut random = Rng::with_seed(2);
    for round in 0..20_000 {
        let (a, b) = (number(&mut random), number(&mut random));
        let (width, operation) = (WIDTHS[round % 2], AluOperation::ALL[round / 2 % AluOperation::ALL.len()]);
        let result = arithmetic::alu(width, operation, Scalar::constant(a), Scalar::constant(b));
        assert_eq!(result, Scalar::constant(concrete(width, operation, a, b)), "{a:#x} {operation:?} {b:#x} {width:?}");
    }
}

#[test]
fn conversions_hold_every_result() {
    let mut random = Rng::with_seed(3);
    for _ in 0..20_000 {
        let (numbers, set) = sample(&mut random);
        for number in numbers {
            assert!(arithmetic::zero_extend(set).admits(u64::from(number as u32)));
            assert!(arithmetic::sign_extend(set, 8).admits(number as i8 as u64));
            assert!(arithmetic::sign_extend(set, 16).admits(number as i16 as u64));
            assert!(arithmetic::sign_extend(set, 32).admits(number as i32 as u64));
            assert!(arithmetic::truncate(set, 1).admits(number & 0xff));
            assert!(arithmetic::truncate(set, 2).admits(number & 0xffff));
            assert!(arithmetic::negate(Width::W64, set).admits(number.wrapping_neg()));
            assert!(arithmetic::negate(Width::W32, set).admits(u64::from((number as u32).wrapping_neg())));
            for order in [ByteOrder::Little, ByteOrder::Big, ByteOrder::Swap] {
                let little = order == ByteOrder::Little;
                let expected = |swapped: u64, plain: u64| if little { plain } else { swapped };
                let halves = expected(u64::from((number as u16).swap_bytes()), number & 0xffff);
                assert!(arithmetic::byte_order(order, 16, set).admits(halves));
                let words = expected(u64::from((number as u32).swap_bytes()), number & 0xffff_ffff);
                assert!(arithmetic::byte_order(order, 32, set).admits(words));
                assert!(arithmetic::byte_order(order, 64, set).admits(expected(number.swap_bytes(), number)));
            }
        }
    }
}

#[test]
fn comparisons_keep_every_pair_that_agrees() {
    let mut random = Rng::with_seed(4);
    let mut impossible = 0;
    for round in 0..40_000 {
        let ((numbers_a, a), (numbers_b, b)) = (sample(&mut random), sample(&mut random));
        let (width, condition) = (WIDTHS[round % 2], Condition::ALL[round / 2 % Condition::ALL.len()]);
        for outcome in [false, true] {
            let refined = comparison::refine(width, condition, outcome, a, b);
            impossible += usize::from(refined.is_none());
            for (x, y) in numbers_a.iter().flat_map(|x| numbers_b.iter().map(move |y| (*x, *y))) {
                if holds(width, condition, x, y) == outcome {
                    let (left, right) = refined
                        .unwrap_or_else(|| panic!("{x:#x} {condition:?} {y:#x} {width:?} {outcome} is possible: {a:?} {b:?}"));
                    assert!(
                        left.admits(x) && right.admits(y),
                        "{x:#x} {condition:?} {y:#x} {width:?} {outcome}: {left:?} {right:?}"
                    );
                }
            }
        }
    }
    assert!(impossible > 4_000, "comparisons decide outcomes: {impossible}");
}

#[test]
fn the_lattice_keeps_its_promises() {
    let mut random = Rng::with_seed(5);
    let mut within = 0;
    for _ in 0..40_000 {
        let ((numbers_a, a), (numbers_b, b)) = (sample(&mut random), sample(&mut random));
        let join = a.join(b);
        let thresholds: Vec<u64> = (0..4).map(|_| number(&mut random)).collect();
        let wide = a.widen(join, &thresholds);
        assert!(a.is_within(&a));
        for x in numbers_a.iter().chain(&numbers_b) {
            assert!(join.admits(*x), "{x:#x} {a:?} {b:?} {join:?}");
            assert!(wide.admits(*x), "{x:#x} {a:?} {join:?} {wide:?}");
            if a.admits(*x) && b.admits(*x) {
                assert!(a.meet(b).is_some_and(|meet| meet.admits(*x)), "{x:#x} {a:?} {b:?}");
            }
        }
        let (small, large) = if random.bool() { (a, b) } else { (a, join) };
        if small.is_within(&large) {
            within += 1;
            assert!(numbers_a.iter().all(|x| large.admits(*x)));
        }
    }
    assert!(within > 10_000, "{within}");
}

/// Sets as a hostile bundle may hold them: any values in any part.
#[test]
fn reducing_any_parts_keeps_every_number() {
    let mut random = Rng::with_seed(6);
    let (mut empty, mut held) = (0, 0);
    for _ in 0..60_000 {
        let mut any = || number(&mut random);
        let set = Scalar {
            unsigned_min: any(),
            unsigned_max: any(),
            signed_min: any() as i64,
            signed_max: any() as i64,
            low_unsigned_min: any() as u32,
            low_unsigned_max: any() as u32,
            low_signed_min: any() as i32,
            low_signed_max: any() as i32,
            ones: any() & any() & any() & any(),
            zeros: any() & any() & any() & any(),
            stride: any() % 12,
        };
        let mut loose = set;
        if random.bool() {
            (loose.unsigned_min, loose.unsigned_max) = (set.unsigned_min.min(set.unsigned_max), u64::MAX);
            (loose.signed_min, loose.signed_max) = (set.signed_min.min(set.signed_max), i64::MAX);
            (loose.low_unsigned_min, loose.low_unsigned_max) = (0, set.low_unsigned_max);
            (loose.low_signed_min, loose.low_signed_max) = (i32::MIN, i32::MAX);
        }
        let reduced = loose.reduce();
        empty += usize::from(reduced.is_none());
        for _ in 0..20 {
            let steps = random.u64(0..50).wrapping_mul(loose.stride);
            let candidate = if random.bool() { number(&mut random) } else { (loose.signed_min as u64).wrapping_add(steps) };
            if loose.admits(candidate) {
                held += 1;
                assert!(reduced.is_some_and(|reduced| reduced.admits(candidate)), "{candidate:#x} {loose:?} {reduced:?}");
            }
        }
    }
    assert!(empty > 1_000 && held > 1_000, "{empty} {held}");
}

/// Every pair of small sets, and every number near them.
#[test]
fn small_sets_are_exhaustively_sound() {
    let edges: Vec<u64> = [
        0u64,
        1,
        3,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX - 2,
        u64::MAX,
    ]
    .to_vec();
    let pairs: Vec<[u64; 2]> = edges.iter().flat_map(|a| edges.iter().map(move |b| [*a, *b])).collect();
    for one in &pairs {
        for two in &pairs {
            let set = |pair: &[u64; 2]| Scalar::constant(pair[0]).join(Scalar::constant(pair[1]));
            let (a, b) = (set(one), set(two));
            for (width, operation) in
                WIDTHS.iter().flat_map(|width| AluOperation::ALL.iter().map(move |operation| (*width, *operation)))
            {
                let result = arithmetic::alu(width, operation, a, b);
                for (x, y) in [(one[0], two[0]), (one[0], two[1]), (one[1], two[0]), (one[1], two[1])] {
                    let expected = concrete(width, operation, x, y);
                    assert!(result.admits(expected), "{x:#x} {operation:?} {y:#x} {width:?} = {expected:#x} not in {result:?}");
                }
            }
        }
    }
}

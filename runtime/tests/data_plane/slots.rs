//! Slot records: one owner a request, and its answer kept.

use runtime::message::{Place, RuntimeError};
use runtime::session::{Answer, Grants, INLINE_BYTES, Owner, Request, SLOTS_MAX, SlotTable, Standing};
use std::sync::atomic::{AtomicU32, Ordering};

fn owner(executor: u16) -> Owner {
    Owner { executor, place: Place::Host, execution: 1000 + u64::from(executor) }
}

fn answer(executor: u16, body: &[u8]) -> Answer {
    let body_bytes = body.len() as u16;
    Answer { owner: owner(executor), outcome: Ok(-5), body_bytes, suspensions: 70_000, udma_operations: 80_000 }
}

fn request(slot: u16, sequence: u32) -> Request {
    Request { slot, sequence }
}

/// The life of a slot: claimed once, answered from the record, taken by the next request.
#[test]
fn a_slot_goes_through_its_states() {
    let slots = SlotTable::anonymous(4).unwrap();
    let mut body = [0; 8128];
    for (round, length) in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 8128].into_iter().enumerate() {
        let this = request(3, 1 + round as u32);
        assert_eq!(slots.standing(this), Standing::Unclaimed);
        assert_eq!(slots.claim(this, owner(7)), Standing::Unclaimed);
        assert_eq!(slots.claim(this, owner(8)), Standing::Running);
        assert_eq!(slots.claim(request(3, this.sequence + 1), owner(8)), Standing::Occupied);
        assert_eq!(slots.answer(this, &mut body), None);
        let sent: Vec<u8> = (0..length).map(|index| (index + round) as u8).collect();
        assert!(!slots.finish(this, &answer(8, &sent), &sent), "not its owner");
        assert!(slots.finish(this, &answer(7, &sent), &sent));
        assert!(!slots.finish(this, &answer(7, &sent), &sent), "done already");
        assert_eq!(slots.standing(this), Standing::Done);
        assert_eq!(slots.standing(request(3, this.sequence.wrapping_sub(1))), Standing::Superseded);
        assert_eq!(slots.answer(this, &mut body), Some(answer(7, &sent)));
        assert_eq!(body[..length], sent);
        assert_eq!(slots.standing(request(2, 9)), Standing::Unclaimed, "slots are independent");
    }
}

/// Errors are recorded as errors, and numbers wrap.
#[test]
fn sequences_wrap_and_errors_stay_errors() {
    let slots = SlotTable::anonymous(1).unwrap();
    for sequence in [u32::MAX - 1, u32::MAX, 0, 1] {
        let this = request(0, sequence);
        assert_eq!(slots.claim(this, owner(1)), Standing::Unclaimed);
        let failed = Answer { outcome: Err(RuntimeError::UdmaOperationsExhausted), ..answer(1, &[]) };
        assert!(slots.finish(this, &failed, &[]));
        assert_eq!(slots.answer(this, &mut [0; 64]).map(|answer| answer.outcome), Some(failed.outcome));
        assert_eq!(slots.standing(request(0, sequence.wrapping_sub(2))), Standing::Superseded);
    }
}

/// Claims of a dead executor become uncertain and stay so; others' do not, and the slot goes on with its next request.
#[test]
fn dead_owners_leave_uncertainty() {
    let slots = SlotTable::anonymous(3).unwrap();
    assert_eq!(slots.claim(request(0, 1), owner(1)), Standing::Unclaimed);
    assert_eq!(slots.claim(request(1, 1), owner(2)), Standing::Unclaimed);
    assert_eq!(slots.claim(request(2, 1), owner(1)), Standing::Unclaimed);
    assert!(slots.finish(request(2, 1), &answer(1, &[]), &[]));
    assert_eq!(slots.mark_uncertain(1), 1);
    assert_eq!(slots.mark_uncertain(1), 0);
    let standing = [0, 1, 2].map(|slot| slots.standing(request(slot, 1)));
    assert_eq!(standing, [Standing::Uncertain, Standing::Running, Standing::Done]);
    assert!(!slots.finish(request(0, 1), &answer(1, &[]), &[]), "a dead owner cannot answer");
    assert_eq!(slots.claim(request(0, 1), owner(2)), Standing::Uncertain);
    assert_eq!(slots.claim(request(0, 2), owner(2)), Standing::Unclaimed);
}

/// Threads race for every request: exactly one claims it, and the others see its answer whole or not at all.
#[test]
fn one_of_many_claims() {
    const REQUESTS: u32 = 3_000;
    let slots = SlotTable::anonymous(1).unwrap();
    let claims: Vec<AtomicU32> = (0..=REQUESTS).map(|_| AtomicU32::new(0)).collect();
    std::thread::scope(|scope| {
        for executor in 1..=3u16 {
            let (slots, claims) = (&slots, &claims);
            scope.spawn(move || {
                let mut body = [0; 64];
                for sequence in 1..=REQUESTS {
                    let this = request(0, sequence);
                    loop {
                        match slots.claim(this, owner(executor)) {
                            Standing::Unclaimed => {
                                claims[sequence as usize].fetch_add(1, Ordering::Relaxed);
                                let bytes = [sequence as u8; 60];
                                assert!(slots.finish(this, &answer(executor, &bytes), &bytes));
                            }
                            Standing::Done => {
                                if let Some(answer) = slots.answer(this, &mut body) {
                                    assert_eq!(answer.owner.execution, 1000 + u64::from(answer.owner.executor));
                                    assert_eq!(body[..60], [sequence as u8; 60]);
                                }
                            }
                            Standing::Running | Standing::Occupied => {
                                std::thread::yield_now();
                                continue;
                            }
                            Standing::Superseded => {}
                            Standing::Uncertain => panic!("nobody died"),
                        }
                        break;
                    }
                }
            });
        }
    });
    assert!(claims[1..].iter().all(|claims| claims.load(Ordering::Relaxed) == 1), "each request is claimed once");
}

/// Memory and slots must fit.
#[test]
fn tables_fit_their_memory() {
    assert!(SlotTable::anonymous(0).is_err());
    assert!(SlotTable::anonymous(SLOTS_MAX + 1).is_err());
    assert_eq!(SlotTable::anonymous(SLOTS_MAX).unwrap().slots(), SLOTS_MAX);
}

/// A session may call exactly what it was granted.
#[test]
fn grants_are_exact() {
    let mut grants = Grants::none();
    grants.allow_invoke(3);
    grants.allow_invoke(700);
    let allowed: Vec<u16> = (0..=u16::MAX).filter(|deployment| grants.may_invoke(*deployment)).collect();
    assert_eq!(allowed, [3, 700]);
    assert!((0..=u16::MAX).all(|deployment| Grants::all().may_invoke(deployment)));
}

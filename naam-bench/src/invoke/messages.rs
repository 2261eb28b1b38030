//! Messages of a run: drawn and encoded before the clock starts, so that nothing is spent on them while it runs.

use super::template::Template;
use fastrand::Rng;
use naamc::diagnostic::Finding;
use naamc::types::Types;
use runtime::steering::flow_of;

/// Bytes of all messages of a run at most.
pub const MESSAGES_BYTES_MAX: u64 = 1 << 30;

/// How a handler's messages are encoded.
pub struct Encoding<'a> {
    /// Types of its bundle.
    pub types: &'a Types,
    /// Type of its message.
    pub message: u32,
    /// Bytes that a request carries: the handler reads no other before it writes them.
    pub request_bytes: usize,
}

/// The messages of one client, in a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    bodies: Vec<u8>,
    request_bytes: usize,
    /// The flow of each message.
    flows: Vec<u16>,
}

impl Messages {
    /// Draws `count` messages of client `client` out of `clients`: of all messages, it has every `clients`th. `drawn` is called now and
    /// then with how many there are.
    ///
    /// # Errors
    /// If what was drawn does not fit the message's type: with the path.
    pub fn draw(
        template: &Template,
        encoding: &Encoding<'_>,
        count: u64,
        (client, clients): (u64, u64),
        seed: u64,
        mut drawn: impl FnMut(u64),
    ) -> Result<Messages, Box<Finding>> {
        let mut random = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(client));
        let Encoding { types, message, request_bytes } = *encoding;
        let mut bodies = Vec::with_capacity(count as usize * request_bytes);
        let mut flows = Vec::with_capacity(count as usize);
        for index in 0..count {
            let json = template.draw(&mut random, client + index * clients);
            let body = types.from_json(message, &json).map_err(Box::new)?;
            let sent = &body[..request_bytes];
            bodies.extend_from_slice(sent);
            flows.push(flow_of(hash(sent)));
            if index % 1024 == 0 {
                drawn(index);
            }
        }
        drawn(count);
        Ok(Messages { bodies, request_bytes, flows })
    }

    /// How many there are before the circle repeats.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// The body and the flow of a message below [`Messages::len`].
    #[inline]
    pub fn get(&self, index: usize) -> (&[u8], u64) {
        let start = index * self.request_bytes;
        (&self.bodies[start..start + self.request_bytes], self.flows[index].into())
    }
}

/// FNV-1a over a message, so that equal ones take the same flow and others spread.
fn hash(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 1_099_511_628_211;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use naamc::bundle::CheckedBundle;
    use serde_json::json;
    use std::collections::BTreeSet;

    const COUNTER_ELF: &[u8] = include_bytes!("../../../testdata/handlers/counter.o");

    fn counter() -> CheckedBundle {
        naamc::build::build(COUNTER_ELF).expect("the sample verifies")
    }

    fn draw(template: serde_json::Value, count: u64, client: (u64, u64), seed: u64) -> Result<Messages, Box<Finding>> {
        let checked = counter();
        let meaning = &checked.bundle().meaning;
        let handler = meaning.handlers.iter().find(|handler| handler.function.name == "count").unwrap();
        let encoding = Encoding { types: &meaning.types, message: handler.message, request_bytes: 16 };
        Messages::draw(&Template::new(&template).unwrap(), &encoding, count, client, seed, |_| {})
    }

    fn words(messages: &Messages) -> Vec<(u64, u64)> {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        (0..messages.len()).map(|index| messages.get(index).0).map(|body| (word(&body[..8]), word(&body[8..]))).collect()
    }

    /// Fields land where they belong; clients share a sequence without gap or repetition, and draw differently otherwise.
    #[test]
    fn messages_are_encoded_and_shared() {
        let template = json!({"index": {"$uniform": [0, 1_000_000]}, "value": {"$sequence": 10}});
        let all: Vec<Vec<(u64, u64)>> = (0..3).map(|client| words(&draw(template.clone(), 100, (client, 3), 1).unwrap())).collect();
        let sequence: BTreeSet<u64> = all.iter().flatten().map(|(_, value)| *value).collect();
        assert_eq!(sequence, (10..310).collect());
        assert!(all.iter().flatten().all(|(index, _)| *index <= 1_000_000));
        assert_ne!(all[0].iter().map(|word| word.0).collect::<Vec<_>>(), all[1].iter().map(|word| word.0).collect::<Vec<_>>());
        let again = draw(template.clone(), 100, (0, 3), 1).unwrap();
        assert_eq!(words(&again), all[0]);
        assert_ne!(draw(template, 100, (0, 3), 2).unwrap(), again);
    }

    /// Equal messages take one flow, different ones many.
    #[test]
    fn flows_follow_the_message() {
        let flows = |template| {
            let messages = draw(template, 1000, (0, 1), 1).unwrap();
            (0..1000).map(|index| messages.get(index).1).collect::<BTreeSet<u64>>().len()
        };
        assert_eq!(flows(json!({"index": 7})), 1);
        assert!(flows(json!({"index": {"$sequence": 0}})) > 400);
    }

    /// What a generator draws must fit its field.
    #[test]
    fn what_does_not_fit_is_refused_with_its_path() {
        let error = draw(json!({"index": {"$uniform": [-5, -1]}}), 10, (0, 1), 1).expect_err("it is unsigned");
        assert!(error.to_string().contains("index"), "{error}");
        let error = draw(json!({"indx": {"$sequence": 1}}), 10, (0, 1), 1).expect_err("there is no such field");
        assert!(error.to_string().contains("it has index, value"), "{error}");
    }
}

//! Templates of messages: JSON as in `docs/formats/message-json.md`, where any value may be a generator instead.
//!
//! | generator | a value |
//! | --- | --- |
//! | `{"$uniform": [LOW, HIGH]}` | an integer from LOW to HIGH, both included, all alike |
//! | `{"$zipfian": N}` | an integer below N: 0 most often, 1 next (theta 0.99) |
//! | `{"$sequence": START}` | START, START + 1, ...: each number once, whichever client sends it |
//! | `{"$choose": [...]}` | one of these values, all alike; they may hold generators themselves |
//! | `{"$bytes": N}` | N random bytes, for arrays of bytes |
//!
//! What a template is for, which fields there are and how wide, is the message type's business.

use crate::workload::distribution::Zipfian;
use fastrand::Rng;
use serde_json::{Map, Number, Value};

/// The generators, as an error lists them.
const GENERATORS: [&str; 5] = ["$uniform", "$zipfian", "$sequence", "$choose", "$bytes"];
/// What marks a generator: no field of C begins with it.
const MARK: char = '$';
/// Numbers that a Zipfian can draw from at most: what its constant is summed over takes a few seconds.
const ZIPFIAN_ITEMS_MAX: u64 = 100_000_000;
/// Bytes that one generator draws at most: no message has more.
const BYTES_MAX: u64 = 8192;

/// A template of messages.
#[derive(Clone, Debug)]
pub struct Template(Node);

#[derive(Clone, Debug)]
enum Node {
    /// The same in every message.
    Fixed(Value),
    Object(Vec<(String, Node)>),
    List(Vec<Node>),
    /// From the first number to the second.
    Uniform(i128, i128),
    Zipfian(Zipfian),
    Sequence(i128),
    Choose(Vec<Node>),
    Bytes(usize),
}

/// What is wrong with a template, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if path.is_empty() { String::new() } else { format!("at `{path}`: ") })]
pub struct TemplateError {
    path: String,
    reason: String,
}

impl Template {
    /// The template in this JSON.
    ///
    /// # Errors
    /// An unknown generator, or one that cannot draw anything; with its path.
    pub fn new(json: &Value) -> Result<Template, TemplateError> {
        node(json, &mut String::new()).map(Template)
    }

    /// Draws the message with this index among all. Sequences follow the index, all else `random`.
    pub fn draw(&self, random: &mut Rng, index: u64) -> Value {
        self.0.draw(random, index)
    }

    /// Whether all messages are the same.
    pub fn is_fixed(&self) -> bool {
        matches!(self.0, Node::Fixed(_))
    }
}

impl Node {
    fn draw(&self, random: &mut Rng, index: u64) -> Value {
        match self {
            Node::Fixed(value) => value.clone(),
            Node::Object(members) => {
                Value::Object(members.iter().map(|(name, member)| (name.clone(), member.draw(random, index))).collect())
            }
            Node::List(items) => Value::Array(items.iter().map(|item| item.draw(random, index)).collect()),
            Node::Uniform(low, high) => integer(random.i128(*low..=*high)),
            Node::Zipfian(zipfian) => zipfian.draw(random).into(),
            Node::Sequence(start) => integer(start + i128::from(index)),
            Node::Choose(items) => items[random.usize(0..items.len())].draw(random, index),
            Node::Bytes(count) => {
                let digits = (0..*count).map(|_| format!("{:02x}", random.u8(..)));
                Value::String(std::iter::once("0x".to_owned()).chain(digits).collect())
            }
        }
    }
}

/// A number of JSON. Whether its field is wide enough is found when it is encoded.
fn integer(number: i128) -> Value {
    Number::from_i128(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

fn node(json: &Value, path: &mut String) -> Result<Node, TemplateError> {
    match json {
        Value::Object(members) => object(members, path),
        Value::Array(items) => {
            let items = list(items, path)?;
            Ok(if items.iter().all(|item| matches!(item, Node::Fixed(_))) { Node::Fixed(json.clone()) } else { Node::List(items) })
        }
        _ => Ok(Node::Fixed(json.clone())),
    }
}

fn list(items: &[Value], path: &mut String) -> Result<Vec<Node>, TemplateError> {
    let length = path.len();
    let mut nodes = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        path.push_str(&format!("[{index}]"));
        nodes.push(node(item, path)?);
        path.truncate(length);
    }
    Ok(nodes)
}

fn object(members: &Map<String, Value>, path: &mut String) -> Result<Node, TemplateError> {
    if let Some((name, argument)) = members.iter().find(|(name, _)| name.starts_with(MARK)) {
        if members.len() > 1 {
            return Err(refused(path, format!("an object with `{name}` is that generator, and has nothing else in it")));
        }
        return generator(name, argument, path);
    }
    let length = path.len();
    let mut nodes = Vec::with_capacity(members.len());
    for (name, member) in members {
        if length > 0 {
            path.push('.');
        }
        path.push_str(name);
        nodes.push((name.clone(), node(member, path)?));
        path.truncate(length);
    }
    let fixed = nodes.iter().all(|(_, node)| matches!(node, Node::Fixed(_)));
    Ok(if fixed { Node::Fixed(Value::Object(members.clone())) } else { Node::Object(nodes) })
}

fn generator(name: &str, argument: &Value, path: &mut String) -> Result<Node, TemplateError> {
    match name {
        "$uniform" => {
            let bounds = argument.as_array().map(|bounds| bounds.iter().map(whole).collect::<Option<Vec<i128>>>());
            match bounds.flatten().as_deref() {
                Some(&[low, high]) if low <= high => Ok(Node::Uniform(low, high)),
                Some(&[low, high]) => Err(refused(path, format!("`$uniform` from {low} to {high} has nothing to draw"))),
                _ => Err(refused(path, "`$uniform` takes the smallest and the largest integer: [0, 999]".to_owned())),
            }
        }
        "$zipfian" => match argument.as_u64() {
            Some(items @ 1..=ZIPFIAN_ITEMS_MAX) => Ok(Node::Zipfian(Zipfian::new(items))),
            _ => Err(refused(path, format!("`$zipfian` takes how many numbers there are, 1 to {ZIPFIAN_ITEMS_MAX}: from 0 on"))),
        },
        "$sequence" => match argument.as_i64() {
            Some(start) => Ok(Node::Sequence(start.into())),
            None => Err(refused(path, format!("`$sequence` takes its first integer, {} to {}", i64::MIN, i64::MAX))),
        },
        "$choose" => match argument {
            Value::Array(items) if !items.is_empty() => {
                let length = path.len();
                path.push_str(".$choose");
                let items = list(items, path)?;
                path.truncate(length);
                Ok(Node::Choose(items))
            }
            _ => Err(refused(path, "`$choose` takes a list of values, at least one".to_owned())),
        },
        "$bytes" => match argument.as_u64() {
            Some(count @ 1..=BYTES_MAX) => Ok(Node::Bytes(count as usize)),
            _ => Err(refused(path, format!("`$bytes` takes how many, 1 to {BYTES_MAX}"))),
        },
        _ => Err(refused(path, format!("`{name}` is no generator; there are {}", GENERATORS.join(", ")))),
    }
}

/// An integer of JSON.
fn whole(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn refused(path: &str, reason: String) -> TemplateError {
    TemplateError { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};

    fn draw(json: &Value, count: u64, seed: u64) -> Vec<Value> {
        let template = Template::new(json).unwrap();
        let mut random = Rng::with_seed(seed);
        (0..count).map(|index| template.draw(&mut random, index)).collect()
    }

    /// What has no generator comes out as it went in, wherever it lies.
    #[test]
    fn plain_messages_are_themselves() {
        let message = json!({"key": 7, "name": "a$b", "pairs": [{"x": -1}, {"x": "0x10"}], "flag": true, "rest": null});
        assert!(Template::new(&message).unwrap().is_fixed());
        assert_eq!(draw(&message, 2, 1), [message.clone(), message]);
    }

    /// Every generator draws what it says: all of the range and nothing else, ends included.
    #[test]
    fn generators_draw_what_they_say() {
        let numbers = |json: Value| draw(&json, 4000, 3).into_iter().map(|value| value.as_i64().unwrap()).collect::<Vec<i64>>();
        let set = |numbers: &[i64]| numbers.iter().copied().collect::<BTreeSet<i64>>();
        assert_eq!(set(&numbers(json!({"$uniform": [-3, 4]}))), (-3..=4).collect());
        assert_eq!(set(&numbers(json!({"$uniform": [5, 5]}))), [5].into());
        assert_eq!(numbers(json!({"$sequence": -2}))[..5], [-2, -1, 0, 1, 2]);
        let skewed = numbers(json!({"$zipfian": 10}));
        let count = |wanted: i64| skewed.iter().filter(|number| **number == wanted).count();
        assert_eq!(set(&skewed), (0..10).collect());
        assert!(count(0) > count(1) && count(1) > count(9), "{} {} {}", count(0), count(1), count(9));
        let chosen = draw(&json!({"$choose": ["a", {"$sequence": 100}]}), 100, 3);
        assert!(chosen.contains(&json!("a")) && chosen.iter().any(|value| value.as_i64() > Some(100)));
        let bytes = draw(&json!({"$bytes": 5}), 2, 3);
        assert!(bytes[0] != bytes[1] && bytes.iter().all(|text| text.as_str().unwrap().len() == 12), "{bytes:?}");
        let widest = draw(&json!({"$uniform": [u64::MAX - 1, u64::MAX]}), 100, 3);
        assert!(widest.contains(&json!(u64::MAX)) && widest.contains(&json!(u64::MAX - 1)), "64 bits are exact");
    }

    /// Generators work inside objects and lists, and leave the rest alone; the seed decides.
    #[test]
    fn generators_work_anywhere() {
        let template = json!({"key": {"$uniform": [0, 1000]}, "pairs": [{"x": {"$sequence": 5}}, 9], "op": "get"});
        let drawn = draw(&template, 3, 1);
        assert_eq!(drawn[2]["pairs"], json!([{"x": 7}, 9]));
        assert!(drawn.iter().all(|message| message["op"] == "get"));
        let keys: BTreeMap<&str, &Value> =
            drawn[0].as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value)).collect();
        assert_eq!(keys.len(), 3);
        assert_eq!(drawn, draw(&template, 3, 1));
        assert_ne!(drawn, draw(&template, 3, 2));
        assert!(!Template::new(&template).unwrap().is_fixed());
    }

    /// Each is refused with its path and what would do; its twin is taken.
    #[test]
    fn bad_templates_are_refused() {
        let cases = [
            (
                json!({"a": {"$zipf": 5}}),
                "at `a`: `$zipf` is no generator; there are $uniform, $zipfian",
                json!({"a": {"$zipfian": 5}}),
            ),
            (json!({"a": {"$uniform": [1, 2], "b": 1}}), "nothing else in it", json!({"a": {"$uniform": [1, 2]}})),
            (
                json!({"a": [0, {"b": {"$uniform": [2, 1]}}]}),
                "at `a[1].b`: `$uniform` from 2 to 1",
                json!({"a": {"$uniform": [1, 1]}}),
            ),
            (json!({"$uniform": [1]}), "smallest and the largest", json!({"$uniform": [1, 2]})),
            (json!({"$uniform": [0, 1.5]}), "smallest and the largest", json!({"$uniform": [0, 1]})),
            (json!({"$uniform": "0..5"}), "smallest and the largest", json!({"$uniform": [0, 5]})),
            (json!({"$zipfian": 0}), "1 to 100000000", json!({"$zipfian": 1})),
            (json!({"$zipfian": 100_000_001}), "1 to 100000000", json!({"$zipfian": 3})),
            (json!({"$sequence": "a"}), "its first integer", json!({"$sequence": 0})),
            (json!({"$choose": []}), "at least one", json!({"$choose": [0]})),
            (json!({"a": {"$choose": [1, {"$x": 1}]}}), "at `a.$choose[1]`: `$x`", json!({"$choose": [1, 2]})),
            (json!({"$bytes": 8193}), "1 to 8192", json!({"$bytes": 8192})),
        ];
        for (json, reason, twin) in cases {
            let error = Template::new(&json).expect_err("it is refused").to_string();
            assert!(error.contains(reason), "{json}: {error}");
            assert!(Template::new(&twin).is_ok(), "{twin}");
        }
    }
}

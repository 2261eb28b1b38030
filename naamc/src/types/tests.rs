//! Tables of types, and JSON in both directions: what is written can be read back as the same bytes.

use super::*;
use serde_json::{Value, json};

/// struct sample { u64 id; s16 delta; enum { RED = -1, BLUE = 4 } colour; char name[8]; u8 key[4]; u16 pairs[2][2]; _Bool on; u32 low:3, high:7; }
fn sample() -> (Types, u32) {
    let field =
        |name: &str, type_index, offset_bits, width_bits| Field { name: name.to_string(), type_index, offset_bits, width_bits };
    let integer = |bytes, kind| Type::Integer { bytes, kind };
    let names = vec![("RED".to_string(), -1), ("BLUE".to_string(), 4)];
    let list = vec![
        integer(8, IntegerKind::Unsigned),
        integer(2, IntegerKind::Signed),
        Type::Enumeration { name: "colour".to_string(), bytes: 4, signed: true, names },
        integer(1, IntegerKind::Character),
        Type::Array { element: 3, count: 8 },
        integer(1, IntegerKind::Unsigned),
        Type::Array { element: 5, count: 4 },
        integer(2, IntegerKind::Unsigned),
        Type::Array { element: 7, count: 2 },
        Type::Array { element: 8, count: 2 },
        integer(1, IntegerKind::Boolean),
        integer(4, IntegerKind::Unsigned),
        Type::Structure {
            name: "sample".to_string(),
            bytes: 48,
            fields: vec![
                field("id", 0, 0, 0),
                field("delta", 1, 64, 0),
                field("colour", 2, 96, 0),
                field("name", 4, 128, 0),
                field("key", 6, 192, 0),
                field("pairs", 9, 224, 0),
                field("on", 10, 288, 0),
                field("low", 11, 320, 3),
                field("high", 11, 323, 7),
            ],
        },
    ];
    let types = Types { list };
    types.validate().expect("the sample is a table");
    (types, 12)
}

#[test]
fn json_becomes_bytes_and_the_same_json_again() {
    let (types, sample) = sample();
    let value = json!({
        "id": u64::MAX, "delta": -300, "colour": "BLUE", "name": "naïve", "key": "0x01ff0203", "pairs": [[1, 2], [3, 65535]],
        "on": true, "low": 5, "high": 127,
    });
    let bytes = types.from_json(sample, &value).expect("it fits");
    assert_eq!(bytes.len(), 48);
    assert_eq!(bytes[..8], [0xff; 8]);
    assert_eq!(bytes[8..10], (-300i16).to_le_bytes());
    assert_eq!(bytes[12..16], [4, 0, 0, 0]);
    assert_eq!(bytes[24..28], [1, 0xff, 2, 3]);
    assert_eq!(bytes[40..44], [0xfd, 0x03, 0, 0]);
    assert_eq!(types.to_json(sample, &bytes), value);
}

#[test]
fn any_bytes_survive_the_way_through_json() {
    let (types, sample) = sample();
    let mut random = fastrand::Rng::with_seed(7);
    // Bytes that are no field's: padding is not shown, so it comes back as zero.
    let mut shown = [true; 48];
    for padding in [10, 11, 37, 38, 39, 42, 43, 44, 45, 46, 47] {
        shown[padding] = false;
    }
    for _ in 0..2000 {
        let mut bytes: Vec<u8> = (0..48).map(|_| if random.bool() { random.u8(..) } else { random.u8(b'0'..b'z') }).collect();
        for (byte, shown) in bytes.iter_mut().zip(shown) {
            *byte = if shown { *byte } else { 0 };
        }
        bytes[41] &= 3;
        if random.bool() {
            bytes[24..28].copy_from_slice(b"0x12");
        }
        let value = types.to_json(sample, &bytes);
        assert_eq!(types.from_json(sample, &value).expect("what was written can be read"), bytes, "{value}");
    }
}

#[test]
fn other_forms_are_read_too() {
    let (types, sample) = sample();
    let value = json!({ "id": "0xffffffffffffffff", "delta": "-300", "colour": 4, "name": [110, -1], "key": "ab", "on": 1, "high": "0x7f" });
    let bytes = types.from_json(sample, &value).expect("it fits");
    let expected = json!({
        "id": u64::MAX, "delta": -300, "colour": "BLUE", "name": "0x6eff000000000000", "key": "ab", "pairs": [[0, 0], [0, 0]], "on": true,
        "low": 0, "high": 127,
    });
    assert_eq!(types.to_json(sample, &bytes), expected);
    // A reply may be shorter than its struct.
    assert_eq!(types.to_json(sample, &bytes[..8])["delta"], json!(0));
}

#[test]
fn what_does_not_fit_is_refused_with_its_path() {
    let (types, sample) = sample();
    let cases: [(Value, &str); 14] = [
        (json!(3), "struct sample is an object with fields, not a number"),
        (json!({ "ident": 3 }), "struct sample has no field `ident`; it has id, delta, colour, name, key, pairs, on, low, high"),
        (json!({ "id": -1 }), "`id`: -1 does not fit; 0 to 18446744073709551615 do"),
        (json!({ "id": 1.5 }), "`id`: 1.5 is not a whole number"),
        (json!({ "id": 1e23 }), "`id`: a number of more than 64 bits does not fit; 0 to 18446744073709551615 do"),
        (json!({ "id": null }), "`id`: u64 is a number, not null"),
        (json!({ "id": "0x" }), "`id`: \"0x\" is not a number"),
        (json!({ "delta": 32768 }), "`delta`: 32768 does not fit; -32768 to 32767 do"),
        (json!({ "colour": "GREEN" }), "`colour`: enum colour has no `GREEN`; it has RED, BLUE"),
        (json!({ "name": "nine bytes" }), "`name`: 10 bytes; the array has 8"),
        (json!({ "key": "0x0" }), "`key`: \"0x0\" begins with 0x, but is not made of pairs of hexadecimal digits"),
        (json!({ "pairs": [[1], [2], [3]] }), "`pairs`: 3 elements; the array has 2"),
        (json!({ "pairs": [[1], [2, "x"]] }), "`pairs[1][1]`: \"x\" is not a number"),
        (json!({ "high": 128 }), "`high`: 128 does not fit; 0 to 127 do"),
    ];
    for (value, message) in cases {
        let finding = types.from_json(sample, &value).expect_err(message);
        assert_eq!((finding.code, finding.message.as_str()), (Code::MESSAGE_JSON, message));
    }
    assert!(types.from_json(99, &json!({})).is_err());
    assert_eq!(types.to_json(99, &[]), Value::Null);
}

#[test]
fn names_are_as_in_c() {
    let (types, sample) = sample();
    let names: Vec<String> = [0, 1, 2, 4, 9, 10, sample].into_iter().map(|index| types.name(index)).collect();
    assert_eq!(names, ["u64", "s16", "enum colour", "char[8]", "u16[2][2]", "bool", "struct sample"]);
}

#[test]
fn tables_that_make_no_sense_are_refused() {
    let byte = Type::Integer { bytes: 1, kind: IntegerKind::Unsigned };
    let structure = |bytes, fields| Type::Structure { name: String::new(), bytes, fields };
    let field =
        |name: &str, type_index, offset_bits, width_bits| Field { name: name.to_string(), type_index, offset_bits, width_bits };
    let tables: Vec<(Vec<Type>, &str)> = vec![
        (vec![Type::Integer { bytes: 3, kind: IntegerKind::Signed }], "an integer of 3 bytes"),
        (vec![Type::Array { element: 0, count: 1 }], "refers to type 0, which is not before it"),
        (vec![byte.clone(), Type::Array { element: 2, count: 1 }, byte.clone()], "refers to type 2"),
        (vec![structure(0, vec![]), Type::Array { element: 0, count: 9 }], "elements without bytes"),
        (vec![byte.clone(), Type::Array { element: 0, count: u32::MAX }], "bytes; 16777216 are allowed"),
        (vec![byte.clone(), structure(1, vec![field("a", 0, 8, 0)])], "field `a` ends outside"),
        (vec![byte.clone(), structure(1, vec![field("a", 0, 1, 0)])], "field `a` does not begin at a byte"),
        (vec![byte.clone(), structure(2, vec![field("a", 0, 0, 9)])], "bit field of 9 bits"),
        (vec![byte.clone(), structure(1, vec![field("", 0, 0, 0)])], "is not a name"),
        (vec![byte.clone(), structure(1, vec![field("a", 0, 0, 0), field("a", 0, 0, 0)])], "two members are named `a`"),
        (vec![byte.clone(); TYPES_MAX + 1], "4097 types"),
    ];
    for (list, what) in tables {
        let finding = Types { list }.validate().expect_err(what);
        assert_eq!(finding.code, Code::TYPES_MALFORMED);
        assert!(finding.message.contains(what), "{finding} does not say {what}");
    }
    // Unions of unions: every level doubles the numbers that a value shows.
    let mut list = vec![byte.clone()];
    for level in 0..30 {
        list.push(structure(1, vec![field("a", level, 0, 0), field("b", level, 0, 0)]));
    }
    assert!(Types { list }.validate().expect_err("2^30 numbers").message.contains("numbers"));
    let nested = (0..40).map(|level| if level == 0 { byte.clone() } else { structure(1, vec![field("a", level - 1, 0, 0)]) });
    assert!(Types { list: nested.collect() }.validate().expect_err("40 levels").message.contains("nested"));
}

#[test]
fn tables_survive_their_encoding() {
    let (types, _) = sample();
    let bytes = minicbor::to_vec(&types).expect("memory");
    assert_eq!(minicbor::decode::<Types>(&bytes).expect("its own encoding"), types);
}

#[test]
fn lists_of_numbers_share_lines() {
    let value =
        serde_json::json!({ "key": 7, "empty": [], "few": [1, 2, 3], "pairs": [{ "a": [1, 2] }, {}], "many": vec![1000; 40] });
    let text = json_text(&value);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "{text}");
    let start = "{\n  \"key\": 7,\n  \"empty\": [],\n  \"few\": [1, 2, 3],\n  \"pairs\": [\n    {\n      \"a\": [1, 2]\n    },\n    {}\n  ],\n  \"many\": [\n    1000, ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert_eq!(text.lines().count(), 13 + 3, "{text}");
}

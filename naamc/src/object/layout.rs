//! What BTF means to handlers: layouts of messages and elements, region declarations, prototypes, settable constants.

use super::btf::{Btf, BtfType};
use crate::abi::{BODY_BYTES_MAX, Rights};
use crate::diagnostic::{Code, Finding};
use crate::types::{Field, IntegerKind, MEMBERS_MAX, Measures, TYPE_DEPTH_MAX, TYPES_MAX, Type, Types};
use std::collections::HashMap;

/// Members looked at while anonymous structures are dissolved into one structure: bounds towers of empty ones.
const STEPS_MAX: usize = 16 * MEMBERS_MAX;
/// The message of the handler named `recover`.
const RECOVER: (&str, u32) = ("naam_recover", 16);

/// Makes the table of types.
pub struct Layouts<'b, 'a> {
    btf: &'b Btf<'a>,
    /// The table so far.
    pub types: Types,
    /// Index of each BTF type that is in it.
    converted: HashMap<u32, u32>,
    /// Index of each type in it: equal types are one.
    interned: HashMap<Type, u32>,
    /// Sees that every type makes sense: what comes out of here is a table that every reader of the bundle accepts.
    measures: Measures,
}

/// What a region's declaration says.
pub struct Declaration {
    /// Rights that handlers use.
    pub rights: Rights,
    /// Least length in bytes.
    pub length_bytes_min: u64,
    /// Type of an element: index into the types.
    pub element: Option<u32>,
}

impl<'b, 'a> Layouts<'b, 'a> {
    /// An empty table.
    pub fn new(btf: &'b Btf<'a>) -> Layouts<'b, 'a> {
        let (converted, interned) = (HashMap::new(), HashMap::new());
        Layouts { btf, types: Types::default(), converted, interned, measures: Measures::default() }
    }

    /// Index of a BTF type in the table; puts it there if need be.
    ///
    /// # Errors
    ///
    /// N113 for what has no place in messages, with the path to it; N102 beyond a limit.
    pub fn convert(&mut self, id: u32, what: &str) -> Result<u32, Finding> {
        self.add(id, 0).map_err(|problem| problem.finding(what))
    }

    /// Checks that BTF type `id` is `int name(struct T *message)`, and returns the index of `struct T` and its size.
    ///
    /// # Errors
    ///
    /// N112 for another prototype, N113 for a message that cannot be sent.
    pub fn prototype(&mut self, id: u32, handler: &str) -> Result<(u32, u32), Finding> {
        let wrong = |what: String| {
            Err(Finding::new(Code::HANDLER_PROTOTYPE, format!("handler `{handler}` {what}"))
                .hint("declare it as `int name(struct T *message)`"))
        };
        let BtfType::Function { prototype, .. } = self.btf.get(id) else {
            return wrong("is not a function".to_string());
        };
        let BtfType::Prototype { result, parameters } = self.btf.get(*prototype) else {
            return wrong("is not a function".to_string());
        };
        let (result, ..) = self.btf.resolve(*result);
        if !matches!(self.btf.get(result), BtfType::Integer { bytes: 4, signed: true, .. }) {
            return wrong("does not return `int`".to_string());
        }
        let [parameter] = parameters.as_slice() else {
            return wrong(format!("has {} parameters instead of one", parameters.len()));
        };
        let (parameter, ..) = self.btf.resolve(*parameter);
        let BtfType::Pointer(message) = self.btf.get(parameter) else {
            return wrong("does not take a pointer".to_string());
        };
        let (message, ..) = self.btf.resolve(*message);
        let BtfType::Structure { name, bytes, .. } = self.btf.get(message) else {
            return wrong("does not take a pointer to a complete struct".to_string());
        };
        if *bytes == 0 {
            return wrong("takes an empty struct: a message has at least one byte".to_string());
        }
        let wrong =
            |what: String, hint: &str| Err(Finding::new(Code::HANDLER_PROTOTYPE, format!("handler `{handler}` {what}")).hint(hint));
        if *bytes as usize > BODY_BYTES_MAX {
            return wrong(
                format!("takes a message of {bytes} bytes; {BODY_BYTES_MAX} are possible"),
                "send large data in several messages",
            );
        }
        if handler == "recover" && (*name, *bytes) != RECOVER {
            return wrong(
                "is called after an executor's death, with a `struct naam_recover` as its message".to_string(),
                "declare it as `int recover(struct naam_recover *message)`, or name the handler otherwise",
            );
        }
        Ok((self.convert(message, &format!("the message of handler `{handler}`"))?, *bytes))
    }

    /// Reads the type of a region's declaration.
    ///
    /// # Errors
    ///
    /// N114 if it is none, N113 if its element cannot be described.
    pub fn region(&mut self, id: u32, name: &str) -> Result<Declaration, Finding> {
        let wrong = |what: String| Err(Finding::new(Code::REGION_DECLARATION, format!("region `{name}` {what}")));
        let (id, ..) = self.btf.resolve(id);
        let BtfType::Structure { members, .. } = self.btf.get(id) else {
            return wrong("is not declared as a struct".to_string());
        };
        let mut declaration = Declaration { rights: Rights::NONE, length_bytes_min: 0, element: None };
        let mut has_rights = false;
        for member in members {
            let (pointer, ..) = self.btf.resolve(member.member_type);
            let BtfType::Pointer(target) = *self.btf.get(pointer) else {
                return wrong(format!("has a member `{}` that is neither `__uint` nor `__type`", member.name));
            };
            let number = match self.btf.get(self.btf.resolve(target).0) {
                BtfType::Array { count, .. } => Some(*count),
                _ => None,
            };
            match (member.name, number) {
                ("rights", Some(rights @ 1..=7)) => (declaration.rights, has_rights) = (Rights(rights as u8), true),
                ("rights", _) => return wrong("has rights that are not made of NAAM_READ, NAAM_WRITE and NAAM_ATOMIC".to_string()),
                ("min_length", Some(length)) => declaration.length_bytes_min = length.into(),
                ("element", _) => {
                    declaration.element = Some(self.convert(target, &format!("the element of region `{name}`"))?);
                }
                (other, _) => {
                    return wrong(format!("has a member `{other}`; there are `rights`, `min_length` and `element`"));
                }
            }
        }
        if !has_rights {
            return wrong("has no rights".to_string());
        }
        Ok(declaration)
    }

    /// Whether a variable of this type is `const volatile`. In C, qualifiers of an array are those of its elements.
    pub fn is_settable(&self, id: u32) -> bool {
        let (mut id, mut constant, mut volatile) = self.btf.resolve(id);
        for _ in 0..TYPE_DEPTH_MAX {
            let BtfType::Array { element, .. } = self.btf.get(id) else { break };
            let (inner, inner_constant, inner_volatile) = self.btf.resolve(*element);
            (id, constant, volatile) = (inner, constant | inner_constant, volatile | inner_volatile);
        }
        constant && volatile
    }

    fn add(&mut self, id: u32, depth: u32) -> Result<u32, Problem> {
        let (id, ..) = self.btf.resolve(id);
        if let Some(known) = self.converted.get(&id) {
            return Ok(*known);
        }
        if depth > TYPE_DEPTH_MAX {
            return Err(Problem::limit(format!("types are nested deeper than {TYPE_DEPTH_MAX}")));
        }
        let made = match self.btf.get(id) {
            BtfType::Integer { bytes, signed, boolean, partial, name } => {
                let kind = match (boolean, *name, signed) {
                    (true, _, _) => IntegerKind::Boolean,
                    (_, "char", _) => IntegerKind::Character,
                    (_, _, true) => IntegerKind::Signed,
                    _ => IntegerKind::Unsigned,
                };
                match *bytes {
                    bytes @ (1 | 2 | 4 | 8) if !partial && (kind != IntegerKind::Boolean || bytes == 1) => {
                        Type::Integer { bytes: bytes as u8, kind }
                    }
                    bytes => return Err(Problem::new(format!("is an integer of {bytes} bytes (`{name}`)"))),
                }
            }
            BtfType::Enumeration { name, bytes, signed, names } => {
                let (bytes, signed) = (*bytes, *signed);
                if !matches!(bytes, 1 | 2 | 4 | 8) {
                    return Err(Problem::new(format!("is an enumeration of {bytes} bytes")));
                }
                let names = names.iter().map(|(name, number)| (name.to_string(), *number)).collect();
                Type::Enumeration { name: name.to_string(), bytes: bytes as u8, signed, names }
            }
            BtfType::Array { element, count } => {
                let element = self.add(*element, depth + 1).map_err(|problem| problem.inside("[]"))?;
                Type::Array { element, count: *count }
            }
            BtfType::Structure { name, bytes, .. } => {
                let mut fields = Vec::new();
                self.fields(id, 0, depth, &mut fields, &mut 0)?;
                Type::Structure { name: name.to_string(), bytes: *bytes, fields }
            }
            BtfType::Pointer(_) => return Err(Problem::new("is a pointer, which means nothing on another machine".to_string())),
            BtfType::Float => return Err(Problem::new("is a floating-point number, which eBPF does not have".to_string())),
            BtfType::Forward { name } => {
                return Err(Problem::new(format!("is `struct {name}`, which is declared but not defined")));
            }
            _ => return Err(Problem::new("has no value".to_string())),
        };
        let index = self.intern(made)?;
        self.converted.insert(id, index);
        Ok(index)
    }

    fn intern(&mut self, made: Type) -> Result<u32, Problem> {
        if let Some(known) = self.interned.get(&made) {
            return Ok(*known);
        }
        if self.types.list.len() >= TYPES_MAX {
            return Err(Problem::limit(format!("more than {TYPES_MAX} types")));
        }
        self.measures.add(&made).map_err(|what| Problem::new(format!("makes no sense: {what}")))?;
        let index = self.types.list.len() as u32;
        self.types.list.push(made.clone());
        self.interned.insert(made, index);
        Ok(index)
    }

    /// Collects the fields of a structure; those of anonymous ones inside it are its own.
    fn fields(&mut self, id: u32, base_bits: u32, depth: u32, out: &mut Vec<Field>, steps: &mut usize) -> Result<(), Problem> {
        let btf = self.btf;
        let BtfType::Structure { members, .. } = btf.get(id) else { return Ok(()) };
        for member in members {
            *steps += 1;
            if *steps > STEPS_MAX || out.len() >= MEMBERS_MAX {
                return Err(Problem::limit(format!("a structure has more than {MEMBERS_MAX} fields")));
            }
            let offset_bits = base_bits
                .checked_add(member.offset_bits)
                .ok_or_else(|| Problem::new("lies outside its structure".to_string()).inside(member.name))?;
            let (inner, ..) = btf.resolve(member.member_type);
            if !member.name.is_empty() {
                let type_index = self.add(inner, depth + 1).map_err(|problem| problem.inside(member.name))?;
                out.push(Field { name: member.name.to_string(), type_index, offset_bits, width_bits: member.width_bits });
            } else if matches!(btf.get(inner), BtfType::Structure { .. }) {
                if depth > TYPE_DEPTH_MAX {
                    return Err(Problem::limit(format!("types are nested deeper than {TYPE_DEPTH_MAX}")));
                }
                self.fields(inner, offset_bits, depth + 1, out, steps)?;
            }
        }
        Ok(())
    }
}

/// Why a type cannot be taken, and where inside the type that was asked for.
struct Problem {
    code: Code,
    what: String,
    /// Members, innermost first.
    path: Vec<String>,
}

impl Problem {
    fn new(what: String) -> Problem {
        Problem { code: Code::MESSAGE_TYPE, what, path: Vec::new() }
    }

    fn limit(what: String) -> Problem {
        Problem { code: Code::OBJECT_LIMIT, what, path: Vec::new() }
    }

    fn inside(mut self, member: &str) -> Problem {
        self.path.push(member.to_string());
        self
    }

    fn finding(mut self, what: &str) -> Finding {
        self.path.reverse();
        let path = self.path.join(".").replace(".[]", "[]");
        match (self.code, path.is_empty()) {
            (Code::OBJECT_LIMIT, _) => Finding::new(self.code, format!("{what}: {}", self.what)),
            (_, true) => Finding::new(self.code, format!("{what} {}", self.what)),
            (_, false) => Finding::new(self.code, format!("{what}: `{path}` {}", self.what)),
        }
    }
}

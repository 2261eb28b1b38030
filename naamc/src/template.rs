//! The first handler of a new author: a C file that builds, runs in `naamc trace`, and shows region, message and UDMA calls.

const HANDLER: &str = include_str!("template/handler.c");

/// Words of C up to C23, and those that GNU C adds, except the ones that begin with `_`.
const KEYWORDS: &str = "alignas alignof asm auto bool break case char const constexpr continue default do double else enum extern false \
                        float for goto if inline int long main nullptr register restrict return short signed sizeof static static_assert \
                        struct switch thread_local true typedef typeof typeof_unqual union unsigned void volatile while";
/// Names of `naam.h`, except the ones that begin with `naam_` or `NAAM_`.
const DEFINED: &str = "EFAULT EINVAL SEC s16 s32 s64 s8 u16 u32 u64 u8";

/// The text of `NAME.c` with a handler of that name; `name` is a C identifier that is not [`taken`].
pub fn handler(name: &str) -> String {
    HANDLER.replace("NAME", name)
}

/// What an identifier is already, if it is something that keeps a handler from having that name.
pub fn taken(name: &str) -> Option<&'static str> {
    let among = |names: &str| names.split_ascii_whitespace().any(|taken| taken == name);
    let begins = |start: &str| name.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    match name {
        "counters" => Some("the name of the file's region"),
        "recover" => Some("the name of the handler that cleans up after an executor, which has a message of its own"),
        _ if among(KEYWORDS) => Some("a word of C"),
        _ if among(DEFINED) || begins("naam_") => Some("a name of naam.h"),
        _ if name.starts_with("__")
            || name.starts_with('_') && name[1..].starts_with(|second: char| second.is_ascii_uppercase()) =>
        {
            Some("a name that C keeps for itself")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::NAAM_H;

    #[test]
    fn the_name_is_everywhere() {
        let text = handler("tally");
        assert!(text.contains("SEC(\"naam/tally\") int tally(struct tally *message)"));
        assert!(text.starts_with("/*\n * tally.c: "));
        assert!(!text.contains("NAME"));
    }

    /// Types, macros and functions of the header, as its lines introduce them.
    #[test]
    fn names_of_the_header_are_taken() {
        let word =
            |text: &str| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap().to_owned();
        let mut names = Vec::new();
        for line in NAAM_H.lines() {
            if let Some(type_name) = line.strip_prefix("typedef ").and_then(|rest| rest.rsplit(' ').next()) {
                names.push(word(type_name));
            } else if let Some(rest) = line.strip_prefix("#define ") {
                names.push(word(rest));
            } else if let Some(arguments) = line.strip_prefix("NAAM_HELPER(") {
                names.push(word(arguments.split(", ").nth(2).unwrap()));
            } else if let Some(rest) = line.strip_prefix("struct ") {
                names.push(word(rest));
            }
        }
        assert!(names.len() > 25 && names.contains(&"u64".to_owned()) && names.contains(&"naam_read".to_owned()), "{names:?}");
        let free: Vec<&String> = names.iter().filter(|name| taken(name).is_none()).collect();
        assert!(free.is_empty(), "{free:?}");
    }

    #[test]
    fn words_of_c_are_taken_and_others_are_not() {
        for name in ["int", "while", "main", "typeof", "recover", "counters", "_Bool", "__bpf__", "naam_read", "SEC"] {
            assert!(taken(name).is_some(), "{name}");
        }
        for name in ["tally", "integer", "message", "slot", "_tally", "Int", "u128", "naam"] {
            assert_eq!(taken(name), None, "{name}");
        }
    }
}

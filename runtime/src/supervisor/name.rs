//! Names of clusters, regions and deployments: safe in paths, in command lines and in error messages.

use super::error::{Code, ControlError};

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 64;

/// Whether `name` may name a cluster, region or deployment: letters, digits, `.`, `_`, `-`, beginning with a letter or digit.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "._-".contains(character))
}

/// Refuses what [`is_name`] does not take; `what` is "region" or the like.
pub fn check_name(what: &str, name: &str) -> Result<(), ControlError> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    Err(ControlError::new(Code::BadRequest, format!("{shown:?} cannot name a {what}"))
        .hint(format!("use letters, digits, `.`, `_` and `-`, beginning with a letter or digit, at most {NAME_BYTES_MAX} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "default", "Region_1", "0.x-y", &"n".repeat(64)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "-x", "a/b", "a b", "ä", "a\0", &"n".repeat(65)] {
            assert!(!is_name(name), "{name}");
        }
    }
}

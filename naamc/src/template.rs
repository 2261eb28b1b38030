//! The first handler of a new author: a C file that builds, runs in `naamc trace`, and shows region, message and UDMA calls.

const HANDLER: &str = include_str!("template/handler.c");

/// The text of `NAME.c` with a handler of that name; `name` is a C identifier other than `counters`, which the text uses for its region.
pub fn handler(name: &str) -> String {
    HANDLER.replace("NAME", name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_is_everywhere() {
        let text = super::handler("tally");
        assert!(text.contains("SEC(\"naam/tally\") int tally(struct tally *message)"));
        assert!(text.starts_with("/*\n * tally.c: "));
        assert!(!text.contains("NAME"));
    }
}

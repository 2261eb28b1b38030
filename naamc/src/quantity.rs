//! Numbers as people write and read them: bytes with their units, counts with their nouns.

/// Parses `4096`, `64K`, `64M`, `1G`, `2T`; also with `iB` or `B`. Powers of 1,024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text, "4096, 64M or 1G")?;
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" if !unit.contains('i') => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("{unit:?} is no unit: use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| "more bytes than a number holds".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than a number holds".to_owned())
}

/// Reads a count, as in `4096`, `64K` or `1M`. Units are powers of 1,000: these are no bytes.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_count(text: &str) -> Result<u128, String> {
    let (number, unit) = number_and_unit(text, "4096, 64K or 1M")?;
    let factor: u128 = match unit {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is no unit: use K, M or G: a thousand, a million, a billion")),
    };
    let number: u64 = number.parse().map_err(|_| "more than a number holds".to_owned())?;
    Ok(u128::from(number) * factor)
}

/// The digits with which a text begins, and the letters that follow them.
fn number_and_unit<'a>(text: &'a str, examples: &str) -> Result<(&'a str, &'a str), String> {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|character: char| !character.is_ascii_digit()).unwrap_or(trimmed.len()));
    if number.is_empty() || unit.starts_with(|first: char| !first.is_alphabetic()) {
        return Err(format!("expected a whole number that is not negative, as in {examples}"));
    }
    Ok((number, unit))
}

/// Lets a command line take `-1` for a value where there is to be one: what is wrong with it is then said, instead of that there is no such option.
pub fn values_may_be_negative(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| match argument.get_action().takes_values() {
            true => argument.allow_negative_numbers(true),
            false => argument,
        })
        .mut_subcommands(values_may_be_negative)
}

/// The shortest exact way to write it.
pub fn show_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => counted(bytes, "byte"),
    }
}

/// `1 client`, `2,000 clients`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// `at most 1 step`, `at most 2,000 steps`, `no steps`.
pub fn at_most(most: u64, noun: &str) -> String {
    if most == 0 { format!("no {noun}s") } else { format!("at most {}", counted(most, noun)) }
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let grouped: Vec<String> = [0, 7, 999, 1000, 32_061_725].into_iter().map(grouped).collect();
        assert_eq!(grouped, ["0", "7", "999", "1,000", "32,061,725"]);
        assert_eq!([counted(1, "client"), counted(2000, "client")], ["1 client", "2,000 clients"]);
        assert_eq!([0, 1, 2].map(|most| at_most(most, "step")), ["no steps", "at most 1 step", "at most 2 steps"]);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65536),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("1G", 1 << 30),
            ("2TiB", 2 << 40),
            ("3B", 3),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1X", "-1", "1.5G", "1 2", "16777216T", "99999999999999999999", "1iB", "1Gi GB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(
            [show_bytes(1 << 30), show_bytes(4096), show_bytes(1000), show_bytes(3 << 20)],
            ["1 GiB", "4 KiB", "1,000 bytes", "3 MiB"]
        );
    }
}

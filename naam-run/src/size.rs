//! Numbers of bytes as people write and read them.

/// Parses `4096`, `64K`, `64M`, `1G`, `2T`; also with `iB` or `B`. Powers of 1,024.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|character: char| !character.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" if !unit.contains('i') => 0,
        "K" | "k" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("{unit:?} is no unit: use K, M, G or T")),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number, as in 4096, 64M or 1G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than a number holds".to_owned())
}

/// The shortest exact way to write it.
pub fn show_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift)) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ["1 GiB", "4 KiB", "1000 bytes", "3 MiB"]
        );
    }
}

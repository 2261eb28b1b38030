//! RESP2, the protocol of Redis, as far as a key-value client needs it: commands are written as arrays of bulk strings, replies are
//! single values (redis.io, "Redis serialization protocol specification").
//!
//! What a server sends is an allegation: every length is checked against a limit before anything is waited for, and a reply is either whole,
//! or incomplete, or malformed for ever. Nothing is allocated and nothing is copied.

/// Bytes of a line (a status, an error, an integer, a length) at most, without its end. Redis cuts its own error messages below this.
pub const LINE_BYTES_MAX: usize = 1024;
/// Bytes that a bulk string takes beside its content at most: `$`, ten digits, and two line ends.
pub const BULK_OVERHEAD_BYTES_MAX: usize = 1 + 10 + 2 + 2;
/// The end of every line and of every bulk string.
const LINE_END: &[u8; 2] = b"\r\n";

/// One reply, inside the bytes that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`
    Status(&'a [u8]),
    /// `-ERR ...`: the command was refused.
    Error(&'a [u8]),
    /// `:7`
    Integer(i64),
    /// `$5 hello`
    Bulk(&'a [u8]),
    /// `$-1`: no such key.
    Nil,
}

/// Why bytes are no reply, and cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first byte names no kind of reply that a command of this program gets.
    #[error("a reply that begins with byte {0:#04x}")]
    Kind(u8),
    /// A line does not end where it must.
    #[error("a line of more than {LINE_BYTES_MAX} bytes, or with a stray line end")]
    Line,
    /// A number is not one, or has more digits than it needs.
    #[error("a number that is none")]
    Number,
    /// A bulk string is longer than any that was asked for.
    #[error("a string of {0} bytes, where at most {1} were expected")]
    TooLong(u64, usize),
    /// A bulk string is not followed by a line end.
    #[error("a string that does not end where it says")]
    BulkEnd,
}

/// Appends a command with these arguments, the first of which is its name.
#[inline]
pub fn write_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    write_length(out, b'*', arguments.len());
    for argument in arguments {
        write_length(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(LINE_END);
    }
}

/// Appends a kind, a number and a line end.
#[inline]
fn write_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    const DIGITS_MAX: usize = 20;
    let (mut digits, mut start, mut rest) = ([0; DIGITS_MAX], DIGITS_MAX, length);
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(LINE_END);
}

/// The reply at the beginning of `bytes` and the bytes that it takes, or nothing if more must arrive first. No bulk string may have more than
/// `bulk_bytes_max` bytes.
///
/// # Errors
/// If these bytes are not the beginning of a reply, whatever follows.
#[inline]
pub fn parse(bytes: &[u8], bulk_bytes_max: usize) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    if !b"+-:$".contains(&kind) {
        return Err(Malformed::Kind(kind));
    }
    let Some(line) = line(rest)? else { return Ok(None) };
    let line_bytes = 1 + line.len() + LINE_END.len();
    let reply = match kind {
        b'+' => Reply::Status(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number(line)?),
        _ if line == b"-1" => Reply::Nil,
        _ => {
            let length = u64::try_from(number(line)?).map_err(|_| Malformed::Number)?;
            let length = match usize::try_from(length) {
                Ok(length_bytes) if length_bytes <= bulk_bytes_max => length_bytes,
                _ => return Err(Malformed::TooLong(length, bulk_bytes_max)),
            };
            return bulk(&bytes[line_bytes..], length)
                .map(|bulk| bulk.map(|content| (Reply::Bulk(content), line_bytes + length + LINE_END.len())));
        }
    };
    Ok(Some((reply, line_bytes)))
}

/// The line at the beginning of `bytes`, without its end, or nothing if that is still to come.
#[inline]
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX + 1)];
    match within.iter().position(|byte| LINE_END.contains(byte)) {
        Some(end) => match (bytes[end], bytes.get(end + 1)) {
            (b'\r', Some(b'\n')) => Ok(Some(&bytes[..end])),
            (b'\r', None) => Ok(None),
            _ => Err(Malformed::Line),
        },
        None if bytes.len() > LINE_BYTES_MAX => Err(Malformed::Line),
        None => Ok(None),
    }
}

/// The content of a bulk string with this length, without its end.
#[inline]
fn bulk(bytes: &[u8], length: usize) -> Result<Option<&[u8]>, Malformed> {
    let end = bytes.get(length..).unwrap_or_default();
    match end {
        [b'\r', b'\n', ..] => Ok(Some(&bytes[..length])),
        [] | [b'\r'] => Ok(None),
        _ => Err(Malformed::BulkEnd),
    }
}

/// A number in its one shortest form.
#[inline]
fn number(line: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match line {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits[0] == b'0' && (digits.len() > 1 || negative) {
        return Err(Malformed::Number);
    }
    digits.iter().try_fold(0i64, |value, digit| {
        let digit = i64::from(digit.wrapping_sub(b'0'));
        if digit > 9 {
            return Err(Malformed::Number);
        }
        // Negative numbers grow downwards, so that the smallest one is reached too.
        let next =
            value.checked_mul(10).and_then(|value| if negative { value.checked_sub(digit) } else { value.checked_add(digit) });
        next.ok_or(Malformed::Number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK_BYTES_MAX: usize = 300;

    /// A reply that owns its bytes, to be written down and compared.
    #[derive(Clone, Debug, PartialEq)]
    enum Owned {
        Status(Vec<u8>),
        Error(Vec<u8>),
        Integer(i64),
        Bulk(Vec<u8>),
        Nil,
    }

    impl Owned {
        fn of(reply: Reply<'_>) -> Owned {
            match reply {
                Reply::Status(text) => Owned::Status(text.to_vec()),
                Reply::Error(text) => Owned::Error(text.to_vec()),
                Reply::Integer(number) => Owned::Integer(number),
                Reply::Bulk(content) => Owned::Bulk(content.to_vec()),
                Reply::Nil => Owned::Nil,
            }
        }

        fn write(&self, out: &mut Vec<u8>) {
            match self {
                Owned::Status(text) => out.extend([b"+", &text[..], LINE_END].concat()),
                Owned::Error(text) => out.extend([b"-", &text[..], LINE_END].concat()),
                Owned::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
                Owned::Bulk(content) => {
                    out.extend(format!("${}\r\n", content.len()).bytes());
                    out.extend([&content[..], LINE_END].concat());
                }
                Owned::Nil => out.extend(b"$-1\r\n"),
            }
        }

        fn draw(random: &mut fastrand::Rng) -> Owned {
            let text = |random: &mut fastrand::Rng, length| (0..length).map(|_| random.u8(32..127)).collect::<Vec<u8>>();
            match random.u8(0..5) {
                0 => {
                    let length = random.usize(0..20);
                    Owned::Status(text(random, length))
                }
                1 => {
                    let length = random.usize(0..=LINE_BYTES_MAX);
                    Owned::Error(text(random, length))
                }
                2 => Owned::Integer(random.i64(..) >> random.u32(0..64)),
                // Any bytes, line ends and the signs of other replies among them.
                3 => Owned::Bulk(
                    (0..random.usize(0..=BULK_BYTES_MAX)).map(|_| *random.choice(b"\r\n$+-:*0a\xff").unwrap()).collect(),
                ),
                _ => Owned::Nil,
            }
        }
    }

    /// All replies in `bytes`, as they come when so many bytes arrive at a time.
    fn parse_all(bytes: &[u8], mut step: impl FnMut() -> usize) -> Result<(Vec<Owned>, usize), Malformed> {
        let (mut replies, mut start, mut end) = (Vec::new(), 0, 0);
        while end < bytes.len() {
            end = (end + step()).min(bytes.len());
            while let Some((reply, length)) = parse(&bytes[start..end], BULK_BYTES_MAX)? {
                assert!(length > 0 && start + length <= end, "{length} bytes taken of {}", end - start);
                replies.push(Owned::of(reply));
                start += length;
            }
        }
        Ok((replies, start))
    }

    /// Replies are the same however they are cut into pieces, and take exactly their bytes.
    #[test]
    fn replies_survive_any_cut() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let replies: Vec<Owned> = (0..random.usize(1..30)).map(|_| Owned::draw(&mut random)).collect();
            let mut bytes = Vec::new();
            replies.iter().for_each(|reply| reply.write(&mut bytes));
            let all = bytes.len();
            for step_max in [1, 2, 7, 100, all] {
                let mut cuts = fastrand::Rng::with_seed(seed);
                let parsed = parse_all(&bytes, || cuts.usize(1..=step_max));
                assert_eq!(parsed, Ok((replies.clone(), all)), "seed {seed}, pieces of up to {step_max}");
            }
        }
    }

    /// Each is refused as soon as it can be, and its twin beside it is taken.
    #[test]
    fn malformed_replies_are_refused() {
        let long = |length: usize| [b"+", &vec![b'x'; length][..], LINE_END].concat();
        let largest = format!("${BULK_BYTES_MAX}\r\n");
        let cases: [(&[u8], Malformed, &[u8]); 21] = [
            (b"*1\r\n", Malformed::Kind(b'*'), b"$1\r\n"),
            (b"\r\n", Malformed::Kind(b'\r'), b"+\r\n"),
            (b"\0", Malformed::Kind(0), b"+"),
            (b"+O\nK\r\n", Malformed::Line, b"+OK\r\n"),
            (b"+O\rK\r\n", Malformed::Line, b"+OK\r\n"),
            (&long(LINE_BYTES_MAX + 1), Malformed::Line, &long(LINE_BYTES_MAX)),
            (&long(LINE_BYTES_MAX + 1)[..LINE_BYTES_MAX + 2], Malformed::Line, &long(LINE_BYTES_MAX)[..LINE_BYTES_MAX + 1]),
            (b":\r\n", Malformed::Number, b":0\r\n"),
            (b":-\r\n", Malformed::Number, b":-1\r\n"),
            (b":-0\r\n", Malformed::Number, b":0\r\n"),
            (b":+1\r\n", Malformed::Number, b":1\r\n"),
            (b":01\r\n", Malformed::Number, b":10\r\n"),
            (b":1 \r\n", Malformed::Number, b":1\r\n"),
            (b":9223372036854775808\r\n", Malformed::Number, b":9223372036854775807\r\n"),
            (b":-9223372036854775809\r\n", Malformed::Number, b":-9223372036854775808\r\n"),
            (b"$-2\r\n", Malformed::Number, b"$-1\r\n"),
            (b"$\r\n", Malformed::Number, b"$0\r\n"),
            (b"$301\r\n", Malformed::TooLong(301, BULK_BYTES_MAX), largest.as_bytes()),
            (b"$9223372036854775807\r\n", Malformed::TooLong(i64::MAX as u64, BULK_BYTES_MAX), b"$299\r\n"),
            (b"$1\r\nab", Malformed::BulkEnd, b"$1\r\na\r"),
            (b"$1\r\na\rb", Malformed::BulkEnd, b"$1\r\na\r\n"),
        ];
        for (bytes, error, twin) in cases {
            assert_eq!(parse(bytes, BULK_BYTES_MAX), Err(error), "{:?}", String::from_utf8_lossy(bytes));
            assert!(parse(twin, BULK_BYTES_MAX).is_ok(), "{:?}", String::from_utf8_lossy(twin));
        }
    }

    /// Whatever arrives: no panic, no more bytes taken than there are, and what was malformed stays so when more arrives.
    #[test]
    fn hostile_bytes_are_harmless() {
        let (mut refused, mut parsed) = (0, 0);
        for seed in 0..20_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = Vec::new();
            (0..random.usize(0..4)).for_each(|_| Owned::draw(&mut random).write(&mut bytes));
            for _ in 0..random.usize(0..6) {
                let at = random.usize(0..=bytes.len());
                match random.u8(0..3) {
                    0 => bytes.insert(at, *random.choice(b"\r\n$+-:*0123456789a\xff").unwrap()),
                    1 => bytes.truncate(at),
                    _ if at < bytes.len() => bytes[at] = random.u8(..),
                    _ => {}
                }
            }
            match parse_all(&bytes, || 1) {
                Ok((replies, taken)) => {
                    assert!(taken <= bytes.len(), "seed {seed}");
                    parsed += replies.len();
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(parse_all(&bytes, || usize::MAX / 2), Err(error), "seed {seed}: as a whole");
                }
            }
        }
        assert!(refused > 2000 && parsed > 2000, "{refused} refused, {parsed} replies parsed");
    }

    /// The bytes of the specification, and lengths with several digits.
    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        write_command(&mut out, &[b"GET", b"key\r\n"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$5\r\nkey\r\n\r\n");
        out.clear();
        write_command(&mut out, &[b"SET", b"", &[7; 1024]]);
        assert_eq!(out, [&b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$1024\r\n"[..], &[7; 1024], LINE_END].concat());
    }
}

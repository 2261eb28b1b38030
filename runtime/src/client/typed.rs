//! Messages of a fixed layout, as C lays them out: the typed side of the client library.

/// A value that has the same bytes in a message as in C.
pub trait Field: Sized {
    /// Its size.
    const BYTES: usize;
    /// Its alignment in C.
    const ALIGNMENT: usize;
    /// Writes it to exactly [`Field::BYTES`] bytes.
    fn write(&self, bytes: &mut [u8]);
    /// Reads it from exactly [`Field::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
}

/// A handler's message struct. [`crate::message_struct`] defines one.
pub trait Message: Field {}

macro_rules! number_fields {
    ($($number:ty),*) => {$(
        impl Field for $number {
            const BYTES: usize = size_of::<$number>();
            const ALIGNMENT: usize = size_of::<$number>();
            fn write(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> $number {
                let mut number = [0; size_of::<$number>()];
                number.copy_from_slice(bytes);
                <$number>::from_le_bytes(number)
            }
        }
    )*};
}

number_fields!(u8, u16, u32, u64, i8, i16, i32, i64);

impl<F: Field, const N: usize> Field for [F; N] {
    const BYTES: usize = F::BYTES * N;
    const ALIGNMENT: usize = F::ALIGNMENT;
    fn write(&self, bytes: &mut [u8]) {
        for (field, bytes) in self.iter().zip(bytes.chunks_exact_mut(F::BYTES)) {
            field.write(bytes);
        }
    }
    fn read(bytes: &[u8]) -> [F; N] {
        std::array::from_fn(|index| F::read(&bytes[index * F::BYTES..(index + 1) * F::BYTES]))
    }
}

/// Defines a struct with the layout of the same struct in C (natural alignment, little-endian), and makes it a
/// [`Message`](crate::client::Message).
///
/// ```
/// use runtime::client::Field;
/// runtime::message_struct! {
///     /// A key and how often it was counted.
///     pub struct Count { key: [u8; 3], kind: u8, hash: u32, count: u64 }
/// }
/// let mut bytes = [0; Count::BYTES];
/// Count { key: *b"abc", kind: 1, hash: 2, count: 3 }.write(&mut bytes);
/// assert_eq!(bytes, *b"abc\x01\x02\0\0\0\x03\0\0\0\0\0\0\0");
/// ```
#[macro_export]
macro_rules! message_struct {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        $visibility struct $name { $(pub $field: $type),+ }

        impl $crate::client::Field for $name {
            const ALIGNMENT: usize = {
                let mut alignment = 1;
                $(if <$type as $crate::client::Field>::ALIGNMENT > alignment {
                    alignment = <$type as $crate::client::Field>::ALIGNMENT;
                })+
                alignment
            };
            const BYTES: usize = {
                let mut end = 0usize;
                $(end = end.next_multiple_of(<$type as $crate::client::Field>::ALIGNMENT) + <$type as $crate::client::Field>::BYTES;)+
                end.next_multiple_of(<Self as $crate::client::Field>::ALIGNMENT)
            };
            fn write(&self, bytes: &mut [u8]) {
                let mut at = 0usize;
                $(
                    at = at.next_multiple_of(<$type as $crate::client::Field>::ALIGNMENT);
                    let end = at + <$type as $crate::client::Field>::BYTES;
                    $crate::client::Field::write(&self.$field, &mut bytes[at..end]);
                    at = end;
                )+
                let _ = at;
            }
            fn read(bytes: &[u8]) -> Self {
                let mut at = 0usize;
                $(
                    at = at.next_multiple_of(<$type as $crate::client::Field>::ALIGNMENT);
                    let end = at + <$type as $crate::client::Field>::BYTES;
                    let $field = <$type as $crate::client::Field>::read(&bytes[at..end]);
                    at = end;
                )+
                let _ = at;
                $name { $($field),+ }
            }
        }

        impl $crate::client::Message for $name {}
    };
}

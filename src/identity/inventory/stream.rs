//! JSON values one after the other: lines, concatenated objects, or one.

use std::io::Read;

use serde_json::Deserializer;

use super::lenient::{Field, Lenient};

/// How a stream ended.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Ending {
    /// Whole values read.
    pub(super) values: usize,
    /// The line in which the last value broke off, if it did: the file was still being written.
    pub(super) cut_at_line: Option<usize>,
}

/// Calls `each` with every value.
///
/// # Errors
/// When the input can't be read or isn't JSON. That the last of several values is cut short is no error.
pub(super) fn for_each_value<T>(
    input: impl Read,
    mut each: impl FnMut(T),
) -> Result<Ending, serde_json::Error>
where
    T: for<'de> Lenient<'de>,
{
    let mut ending = Ending::default();
    for value in Deserializer::from_reader(input).into_iter::<Field<T>>() {
        match value {
            Ok(Field(value)) => {
                ending.values += 1;
                each(value);
            }
            Err(error) if error.is_eof() && ending.values > 0 => {
                ending.cut_at_line = Some(error.line());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ending)
}

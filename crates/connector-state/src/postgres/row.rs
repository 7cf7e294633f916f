//! Columns of an answer, with our errors.

use bytes::Bytes;
use connector_core::error::{Error, Result};
use tokio_postgres::{Row, types::FromSql};

use super::{fault::unreadable_row, text::shown, uint};

/// One column as it is.
pub(super) fn cell<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| unreadable_row(&error))
}

/// A text.
pub(super) fn text(row: &Row, column: usize) -> Result<String> {
    cell(row, column).map(shown)
}

/// A text that may be missing.
pub(super) fn text_opt(row: &Row, column: usize) -> Result<Option<String>> {
    Ok(cell::<Option<String>>(row, column)?.map(shown))
}

/// Bytes.
pub(super) fn bytes(row: &Row, column: usize) -> Result<Bytes> {
    cell::<Vec<u8>>(row, column).map(Bytes::from)
}

/// A number that is never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64> {
    cell(row, column).map(uint)
}

/// A small number.
pub(super) fn small(row: &Row, column: usize) -> Result<u32> {
    let number: i64 = cell(row, column)?;
    u32::try_from(number).map_err(|_| Error::internal("the state store holds a number that is out of range"))
}

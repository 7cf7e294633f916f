//! Rows as CSV, the way Bulk API 2.0 reads and writes it: a head line, an empty cell for "nothing said", `#N/A` for null.
//!
//! <https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/datafiles_prepare_csv.htm>

use connector_core::{Error, Result, redact::printable};
use serde_json::{Map, Value};

/// What empties a field.
const NULL: &str = "#N/A";

/// The head line and the rows of a CSV text.
pub(super) fn read(csv: &[u8]) -> Result<(Vec<String>, Vec<csv::StringRecord>)> {
    let unreadable = |error: csv::Error| Error::protocol("the vendor's answer is not the CSV it promises").with_source(error);
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(csv);
    let head = reader.headers().map_err(unreadable)?.iter().map(str::to_owned).collect();
    let rows = reader.records().collect::<Result<_, _>>().map_err(unreadable)?;
    Ok((head, rows))
}

/// A row as an object of texts; an empty cell is null.
pub(super) fn object(head: &[String], row: &csv::StringRecord) -> Map<String, Value> {
    let value = |cell: &str| if cell.is_empty() { Value::Null } else { cell.into() };
    head.iter().zip(row.iter()).map(|(name, cell)| (name.clone(), value(cell))).collect()
}

/// The names of the columns: those of the first row. Another row with another name would be lost, so it is refused.
pub(super) fn columns(rows: &[Value]) -> Result<Vec<String>> {
    let columns: Vec<String> = rows.first().and_then(Value::as_object).map(|row| row.keys().cloned().collect()).unwrap_or_default();
    if columns.is_empty() {
        return Err(Error::invalid("the first row has no fields"));
    }
    for name in &columns {
        // A field of a related record by its external id is `Owner.Hub_Id__c`.
        crate::soql::identifier(name)?;
    }
    for (at, row) in rows.iter().enumerate() {
        let stranger = row.as_object().and_then(|row| row.keys().find(|name| !columns.contains(name)));
        if let Some(name) = stranger {
            return Err(Error::invalid(format!(
                "`rows[{at}]` has `{}`, which the first row has not; all rows have the same fields",
                printable(name, 80)
            )));
        }
    }
    Ok(columns)
}

/// A row as cells. A field that is left out is an empty cell, null is `#N/A`.
pub(super) fn cells(columns: &[String], row: &Value, at: usize) -> Result<Vec<String>> {
    let cell = |name: &String| match row.get(name) {
        None => Ok(String::new()),
        Some(Value::Null) => Ok(NULL.to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(_) => Err(Error::invalid(format!("`rows[{at}].{name}` is a list or an object; a cell of a load holds one value"))),
    };
    columns.iter().map(cell).collect()
}

/// One line, with its end.
pub(super) fn line<S: AsRef<[u8]>>(cells: &[S]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    let unwritable = |error: csv::Error| Error::internal("a row could not be written as CSV").with_source(error);
    writer.write_record(cells).map_err(unwritable)?;
    writer.into_inner().map_err(|error| Error::internal("a row could not be written as CSV").with_source(error.into_error()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_say_nothing_null_and_values() {
        let rows = [json!({ "LastName": "O\"Hara, Jr", "Phone": null, "Age__c": 4 }), json!({ "LastName": "two\nlines" })];
        let columns = columns(&rows).unwrap();
        let text: Vec<u8> = rows.iter().enumerate().flat_map(|(at, row)| line(&cells(&columns, row, at).unwrap()).unwrap()).collect();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "\"O\"\"Hara, Jr\",#N/A,4\n\"two\nlines\",,\n");
        let (head, read) = read(format!("LastName,Phone,Age__c\n{text}").as_bytes()).unwrap();
        assert_eq!(Value::Object(object(&head, &read[1])), json!({ "LastName": "two\nlines", "Phone": null, "Age__c": null }));
    }

    #[test]
    fn rows_that_would_lose_something_are_refused() {
        assert!(columns(&[json!({})]).is_err());
        assert!(columns(&[json!({ "a b": 1 })]).is_err());
        assert!(columns(&[json!({ "A": 1 }), json!({ "B": 1 })]).is_err());
        assert!(cells(&["A".into()], &json!({ "A": [1] }), 0).is_err());
        assert!(read(b"A,B\n1\n").is_err());
    }
}

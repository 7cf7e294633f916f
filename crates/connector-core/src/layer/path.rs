//! Paths such as `.results[0].properties.email` into JSON, as manifests write them: names and positions, nothing else.

use serde_json::{Map, Value};

/// The value at `path`; `.` and the empty path are the whole. `None` if there is none or the path is not one.
pub(super) fn select<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = value;
    for step in steps(path) {
        at = match step? {
            Step::Name(name) => at.as_object()?.get(name)?,
            Step::Position(position) => at.as_array()?.get(position)?,
        };
    }
    Some(at)
}

/// As [`select`], from the arguments of a call.
pub(super) fn select_in<'a>(args: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let rest = path.strip_prefix('.').unwrap_or(path);
    let end = rest.find(['.', '[']).unwrap_or(rest.len());
    select(args.get(&rest[..end])?, &rest[end..])
}

enum Step<'a> {
    Name(&'a str),
    Position(usize),
}

fn steps(path: &str) -> impl Iterator<Item = Option<Step<'_>>> {
    path.split('.').filter(|part| !part.is_empty()).flat_map(|part| {
        let (name, positions) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        let positions = positions.split('[').skip(1).map(|text| Some(Step::Position(text.strip_suffix(']')?.parse().ok()?)));
        (!name.is_empty()).then_some(Some(Step::Name(name))).into_iter().chain(positions)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_positions_are_followed() {
        let value = json!({"results": [{"properties": {"email": "a@b.c"}}, {"ids": [[1, 2]]}]});
        assert_eq!(select(&value, ".results[0].properties.email"), Some(&json!("a@b.c")));
        assert_eq!(select(&value, ".results[1].ids[0][1]"), Some(&json!(2)));
        assert_eq!(select(&value, "."), Some(&value));
        assert_eq!(select(&value, ""), Some(&value));
        assert_eq!(select(&value["results"], ".[0].properties.email"), Some(&json!("a@b.c")));
        for path in [".results[9]", ".results[x]", ".results[0", ".nothing", ".results.name"] {
            assert_eq!(select(&value, path), None, "{path}");
        }
        let Value::Object(args) = value else { panic!("an object") };
        assert_eq!(select_in(&args, ".results[0].properties.email"), Some(&json!("a@b.c")));
        assert_eq!(select_in(&args, ".nothing"), None);
    }
}

//! The manifests as a whole: they parse with the strictness of a built-in connector.
use std::{fs, path::Path};

use connector_manifest::{Strictness, load};

#[test]
fn the_manifests_parse_as_a_built_in_connector() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifest");
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let parsed = load(&files, Strictness::BuiltIn).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert!(parsed.manifest.tools.len() >= 15);
}

//! What people get wrong, and what they are told: one snapshot per file of `bad_manifests/`. Also what nobody may get by with.

use std::{fs, path::PathBuf, time::Instant};

use connector_manifest::{Severity, Strictness, load, parse, parse_set};
use proptest::prelude::*;

/// Generous for a debug build on a busy machine; a release build stays far below 50 ms.
const BUDGET_MS: u128 = if cfg!(debug_assertions) { 1_000 } else { 50 };

fn told(files: &[(&str, &str)]) -> String {
    match load(files, Strictness::Custom) {
        Ok(parsed) => parsed.warnings.to_string(),
        Err(found) => found.to_string(),
    }
}

#[test]
fn every_mistake_is_told_at_its_place() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bad_manifests");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 30);
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let told = told(&[(&name, &text)]);
        // Doc and example hints would drown what each file is about.
        let told: Vec<&str> = told.lines().filter(|line| !line.contains("has no `doc`") && !line.contains("has no `example`")).collect();
        let told = told.join("\n");
        assert!(told.starts_with(&format!("{name}:")), "{name}: {told}");
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{name} steers the terminal");
        insta::with_settings!({ omit_expression => true, description => text.escape_debug().to_string().replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'") }, {
            insta::assert_snapshot!(file.file_stem().unwrap().to_string_lossy().into_owned(), told);
        });
    }
}

#[test]
fn secrets_are_never_repeated() {
    let text = include_str!("bad_manifests/secrets.yaml");
    let told = told(&[("secrets.yaml", text)]);
    assert_eq!(load(&[("secrets.yaml", text)], Strictness::Custom).unwrap_err().errors().count(), 4, "{told}");
    assert!(!told.contains("0123456789"), "{told}");
}

#[test]
fn bombs_fail_at_once() {
    let head = "connector: webhook\nname: ERP\n";
    let many = |piece: &str, times: usize| format!("{head}{}", piece.repeat(times));
    let deep_block: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let bombs = [
        ("300 KiB", many("# a comment that goes on and on\n", 10_000)),
        ("1,000 deep in flow", format!("{head}a: {}{}\n", "[".repeat(1_000), "]".repeat(1_000))),
        ("100,000 deep in flow", format!("{head}a: {}", "[".repeat(100_000))),
        ("100,000 deep mappings", format!("{head}a: {}", "{a: ".repeat(50_000))),
        ("1,000 deep in block", format!("{head}{deep_block}")),
        ("100,000 dashes", format!("{head}a:\n  {}x\n", "- ".repeat(100_000))),
        ("100,000 questions", format!("{head}{}x\n", "? ".repeat(100_000))),
        ("25,000 nodes", format!("{head}tools: [{}]\n", "1,".repeat(25_000))),
        ("25,000 keys", format!("{head}{}", (0..25_000).map(|n| format!("k{n}: 1\n")).collect::<String>())),
        ("deep type", format!("{head}tools: [{{ name: erp_a, returns: \"{}\" }}]\n", "array<".repeat(30_000))),
        ("null type", format!("{head}tools: [{{ name: erp_a, returns: \"any{}\" }}]\n", "?".repeat(200_000))),
        ("6,000 unknown keys", format!("{head}tools: [{}]\n", "{qname: 1},".repeat(6_000))),
        ("900 lost tools", {
            let tool = |n: usize| format!("{{name: t_{n}, method: GET, path: /a, batch: {{tool: tt_{n}, by: x, max: 1, window: 1ms}}}},");
            format!("{head}tools: [{}]\n", (0..900).map(tool).collect::<String>())
        }),
        (
            "20,000 placeholders",
            format!("{head}tools: [{{name: a_b, method: GET, path: \"/{}\"}}]\n", (0..20_000).map(|n| format!("{{p{n}}}")).collect::<String>()),
        ),
        ("alias bomb", include_str!("bad_manifests/alias_bomb.yaml").to_owned()),
        ("unclosed quote", format!("{head}a: \"{}", "x\\n".repeat(60_000))),
        ("anchors", many("a: &a 1\n", 20_000)),
        ("long line", format!("{head}a: {}\n", "x ".repeat(120_000))),
        ("long key", format!("{head}{}: 1\n", "k".repeat(200_000))),
    ];
    for (name, text) in bombs {
        let start = Instant::now();
        let error = load(&[("bomb.yaml", &text)], Strictness::Custom).expect_err(name);
        let took = start.elapsed().as_millis();
        assert!(took <= BUDGET_MS, "{name} took {took} ms");
        let first = error.errors().next().unwrap();
        assert!(first.line >= 1 && first.message.len() < 2_000, "{name}: {error}");
    }
}

#[test]
fn parts_add_and_the_same_thing_twice_names_both_places() {
    let head = "connector: erp\nname: ERP\nversion: 1.0.0\nbase_url: https://erp.example.com\nlimits: { default: { windows: [\"5/1s\"] } }\nerrors: { code: .code, table: [{ status: 429, class: throttled }] }\nmodels: { Order: { fields: { id: string } } }\ntools: [{ name: erp_a, method: GET, path: /a, returns: Order }]\n";
    let part = "models: { Line: { fields: { id: string } } }\nlimits: { search: { windows: [\"1/1s\"] } }\nerrors: { table: [{ status: 409, class: conflict }] }\ntools:\n  - { name: erp_b, method: GET, path: /b, returns: Line, limit_class: search }\n";
    // The head may stand anywhere in the list.
    let parsed = load(&[("lines.yaml", part), ("connector.yaml", head)], Strictness::Custom).unwrap();
    assert_eq!(parsed.manifest.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["erp_a", "erp_b"]);
    assert_eq!(parsed.manifest.errors.table.len(), 2);
    assert_eq!(parsed.sources.locate("tools[1].name"), ("lines.yaml", 5, 13));
    assert!(parsed.warnings.0.iter().all(|found| found.severity == Severity::Hint), "{}", parsed.warnings);

    let twice = "models: { Order: { fields: { id: string } } }\nauth: { type: none }\nerrors: { code: .other }\n";
    insta::assert_snapshot!("two_files", parse_set(&[("connector.yaml", head), ("twice.yaml", twice)]).unwrap_err().to_string());
    let tool = "tools:\n  - { name: erp_a, method: GET, path: /c, returns: Nothing }\n";
    let found = load(&[("connector.yaml", head), ("tool.yaml", tool)], Strictness::Custom).unwrap_err();
    insta::assert_snapshot!("two_tools", found.errors().map(|error| format!("{error}\n")).collect::<String>());
    insta::assert_snapshot!("two_heads", parse_set(&[("a.yaml", head), ("b.yaml", head)]).unwrap_err().to_string());
    insta::assert_snapshot!("no_head", parse_set(&[("a.yaml", part), ("b.yaml", part)]).unwrap_err().to_string());
}

#[test]
fn a_connector_of_this_repository_must_say_more() {
    let text = "connector: erp\nname: ERP\nbase_url: https://erp.example.com\ntools:\n  - { name: crm_a, method: POST, path: /a }\n  - { name: erp_b, method: PUT, path: /b, doc: Sets b., example: { args: {} } }\n";
    let found = load(&[("connector.yaml", text)], Strictness::BuiltIn).unwrap_err();
    insta::assert_snapshot!("built_in", found.errors().map(|error| format!("{error}\n")).collect::<String>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,400}") {
        if let Err(found) = parse("any.yaml", &text) {
            prop_assert!(found.has_errors());
        }
    }

    #[test]
    fn arbitrary_bytes_of_yaml_never_panic(pieces in prop::collection::vec(prop::sample::select(vec![
        "connector: webhook\n", "name: x\n", "tools:\n", "  - name: a_b\n", "    method: GET\n", "    path: /{x}\n", "\t", "- ", "{", "}", "[", "]", ": ", "&a ", "*a ",
        "!!str ", "|\n", ">\n", "\"", "'", "#", "?", ",", "\n", "  ", "---\n", "...\n", "%YAML 1.2\n", "<<: ", "null", "1e999", "é", "\u{0}", "\u{feff}", "auth: ", "errors: ", "repeat: ",
    ]), 0..60)) {
        let text = pieces.concat();
        if let Err(found) = load(&[("any.yaml", &text)], Strictness::BuiltIn) {
            prop_assert!(found.has_errors());
            for error in found {
                prop_assert!(error.line >= 1 || error.key.is_empty());
            }
        }
    }
}

//! Tests of the watcher: what counts as a change, and that a good version is never lost to a bad one.

use std::{fs, path::PathBuf};

use super::*;

fn manifest(name: &str, tool: &str) -> String {
    format!(
        "connector: webhook\nname: {name}\nbase_url: https://erp.example/api\ntools:\n  - name: {tool}\n    doc: Gets it.\n    method: GET\n    path: /x\n"
    )
}

fn names(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| match change {
            Change::Loaded(connector) => format!("loaded {}", connector.id),
            Change::Rejected { kept, .. } => format!("rejected, kept {}", kept.as_deref().unwrap_or("nothing")),
            Change::Removed { id } => format!("removed {id}"),
        })
        .collect()
}

/// A folder, its watcher, and a wall clock far enough ahead that every time stamp has settled.
struct Fixture {
    folder: tempfile::TempDir,
    watcher: Watcher,
    now: SystemTime,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let watcher = Watcher::new([folder.path().to_owned()]);
        fs::write(folder.path().join("probe"), "").unwrap();
        let now = fs::metadata(folder.path().join("probe")).unwrap().modified().unwrap() + Duration::from_secs(3_600);
        Self { folder, watcher, now }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    fn scan(&mut self) -> Vec<String> {
        names(&self.watcher.scan(self.now))
    }
}

#[test]
fn a_bad_version_keeps_the_last_good_one_and_is_reported_once() {
    let mut fixture = Fixture::new();
    fixture.write("erp.yaml", &manifest("ERP", "erp_get"));
    fixture.write("notes.txt", "not a manifest");
    fixture.write(".hidden.yaml", "not: one");
    assert_eq!(fixture.scan(), ["loaded erp"]);
    assert_eq!(fixture.scan(), [""; 0]);
    fixture.write("erp.yaml", &manifest("ERP", "erp_get").replace("method: GET", "methud: GET # now longer"));
    assert_eq!(fixture.scan(), ["rejected, kept erp"]);
    assert_eq!(fixture.scan(), [""; 0]);
    let problems = fixture.watcher.problems();
    assert!(problems[0].diagnostics.to_string().contains(":7:5: unknown key `methud`"), "{problems:?}");
    assert_eq!(fixture.watcher.connectors().map(|good| good.manifest.tools[0].name.as_str()).collect::<Vec<_>>(), ["erp_get"]);
    fixture.write("erp.yaml", &manifest("ERP", "erp_fetch_it_all"));
    assert_eq!(fixture.scan(), ["loaded erp"]);
    assert_eq!(fixture.watcher.problems(), []);
}

#[test]
fn a_change_within_one_time_stamp_is_seen() {
    let mut fixture = Fixture::new();
    fixture.now -= Duration::from_secs(3_599);
    fixture.write("erp.yaml", &manifest("ERP", "erp_get"));
    let stamp = fs::metadata(fixture.path("erp.yaml")).unwrap().modified().unwrap();
    assert_eq!(fixture.scan(), ["loaded erp"]);
    fixture.write("erp.yaml", &manifest("ERP", "erp_set"));
    fs::File::options().write(true).open(fixture.path("erp.yaml")).unwrap().set_modified(stamp).unwrap();
    assert_eq!(fixture.scan(), ["loaded erp"]);
}

#[test]
fn a_file_that_stays_away_takes_its_connector_with_it() {
    let mut fixture = Fixture::new();
    fixture.write("erp.yaml", &manifest("ERP", "erp_get"));
    fixture.scan();
    fs::remove_file(fixture.path("erp.yaml")).unwrap();
    assert_eq!(fixture.scan(), [""; 0]);
    fixture.write("erp.yaml", &manifest("ERP", "erp_get"));
    assert_eq!(fixture.scan(), [""; 0], "an editor replaced it");
    fs::remove_file(fixture.path("erp.yaml")).unwrap();
    fixture.scan();
    assert_eq!(fixture.scan(), ["removed erp"]);
}

#[test]
fn ids_are_unique_and_belong_to_files() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", &manifest("A", "a_get"));
    fixture.write("b.yml", &format!("id: a\n{}", manifest("B", "b_get")));
    assert_eq!(fixture.scan(), ["loaded a", "rejected, kept nothing"]);
    fixture.write("a.yaml", &format!("id: renamed\n{}", manifest("A", "a_get")));
    assert_eq!(fixture.scan(), ["removed a", "loaded renamed"]);
}

#[test]
fn what_is_no_custom_connector_is_said_with_its_place() {
    let wrong = |file: &str, text: &str| custom::from_text(file, text).unwrap_err().to_string();
    let good = manifest("X", "x_get");
    assert!(wrong("x.yaml", &good.replace("webhook", "hubspot")).starts_with("x.yaml:1:12: `connector: hubspot` is not a custom"));
    assert!(wrong("My ERP.yaml", &good).contains("`My ERP` cannot name a connector"));
    assert!(wrong("x.yaml", &format!("{good}webhook:\n  verify: {{ scheme: hubspot_v9 }}\n")).contains("x.yaml:10:"), "the scheme is unknown");
    let mut watcher = Watcher::new([PathBuf::from("no/such/folder")]);
    assert_eq!(names(&watcher.scan(SystemTime::UNIX_EPOCH)), ["rejected, kept nothing"]);
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long.yaml");
    fs::write(&long, " ".repeat(300 * 1024)).unwrap();
    assert!(custom::read(&long).unwrap_err().to_string().contains("longer than 256 KiB"));
}

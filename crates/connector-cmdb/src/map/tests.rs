//! Maps are the same text every time, and no name can leave its label.

use super::*;
use crate::{
    neutral::{Ci, End},
    walk::Node,
};

fn ci(id: &str, name: &str, class: &str) -> Ci {
    Ci {
        id: id.into(),
        system: "netbox".into(),
        native_id: id.into(),
        class: class.into(),
        native_class: class.into(),
        name: name.into(),
        status: None,
        serial: None,
        ips: Vec::new(),
        owner: None,
        updated_at: None,
        url: None,
        attributes: None,
    }
}

fn walk(root: Ci, nodes: &[(&str, &str, &str, usize)], relations: &[(&str, &str, Kind)]) -> Walk {
    let end = |id: &str| End { id: id.into(), ..End::default() };
    Walk {
        roots: vec![root.id.clone()],
        nodes: nodes
            .iter()
            .map(|(id, name, class, distance)| Node {
                id: (*id).into(),
                name: Some((*name).into()),
                class: Some((*class).into()),
                distance: *distance,
                via: None,
            })
            .collect(),
        relations: relations.iter().map(|(from, to, kind)| Relation { from: end(from), to: end(to), kind: *kind, native: None }).collect(),
        depth: 2,
        truncated: false,
        cyclic: true,
        starts: vec![root],
    }
}

fn shop() -> Map {
    let down = walk(
        ci("s:1", "shop", "service"),
        &[("s:2", "billing", "service", 1), ("v:1", "vm1", "virtual_machine", 1), ("d:1", "hv1", "device", 2)],
        &[("s:1", "v:1", Kind::RunsOn), ("s:1", "s:2", Kind::DependsOn), ("s:2", "s:1", Kind::DependsOn), ("v:1", "d:1", Kind::RunsOn)],
    );
    let up = walk(ci("s:1", "shop", "service"), &[("s:9", "cdn", "service", 1)], &[("s:9", "s:1", Kind::DependsOn)]);
    Map::of(Some(&down), Some(&up))
}

#[test]
fn a_map_as_dot() {
    let expected = r#"digraph services {
  rankdir=TB;
  node [shape=box];
  n0 [label="cdn\nservice"];
  n1 [label="shop\nservice", style=bold];
  n2 [label="billing\nservice"];
  n3 [label="vm1\nvirtual_machine"];
  n4 [label="hv1\ndevice"];
  n0 -> n1 [label="depends_on"];
  n1 -> n2 [label="depends_on"];
  n1 -> n3 [label="runs_on"];
  n2 -> n1 [label="depends_on"];
  n3 -> n4 [label="runs_on"];
}
"#;
    assert_eq!(shop().write(Format::Dot), expected);
}

#[test]
fn a_map_as_mermaid() {
    let expected = r#"flowchart TB
  n0["cdn<br/>service"]
  n1(["shop<br/>service"])
  n2["billing<br/>service"]
  n3["vm1<br/>virtual_machine"]
  n4["hv1<br/>device"]
  n0 -->|depends_on| n1
  n1 -->|depends_on| n2
  n1 -->|runs_on| n3
  n2 -->|depends_on| n1
  n3 -->|runs_on| n4
"#;
    assert_eq!(shop().write(Format::Mermaid), expected);
}

#[test]
fn a_map_as_svg_has_a_row_for_each_distance() {
    let svg = shop().write(Format::Svg);
    let tops: Vec<&str> = svg.lines().filter_map(|line| line.split("<rect x=").nth(1)?.split("y=\"").nth(1)?.split('"').next()).collect();
    assert_eq!(tops, ["20", "120", "220", "220", "320"]);
    assert_eq!(svg.matches("marker-end").count(), 5);
    assert_eq!(svg, shop().write(Format::Svg));
}

#[test]
fn a_small_map_as_svg() {
    let expected = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 208 184" width="208" height="184" font-family="sans-serif" font-size="12">
<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>
<path d="M104 64L104 120" fill="none" stroke="#555" marker-end="url(#a)"><title>runs_on</title></path>
<g><title>v:1</title><rect x="20" y="20" width="168" height="44" rx="4" fill="#fff" stroke="#222" stroke-width="2"/><text x="104" y="38" text-anchor="middle">vm1</text><text x="104" y="54" text-anchor="middle" fill="#666" font-size="10">virtual_machine</text></g>
<g><title>d:1</title><rect x="20" y="120" width="168" height="44" rx="4" fill="#fff" stroke="#222" stroke-width="1"/><text x="104" y="138" text-anchor="middle">hv&lt;1&gt;</text><text x="104" y="154" text-anchor="middle" fill="#666" font-size="10">device</text></g>
</svg>
"##;
    let one = walk(ci("v:1", "vm1", "virtual_machine"), &[("d:1", "hv<1>", "device", 1)], &[("v:1", "d:1", Kind::RunsOn)]);
    assert_eq!(Map::of(Some(&one), None).write(Format::Svg), expected);
}

#[test]
fn a_name_cannot_leave_its_label() {
    let nasty = "x\"]; evil [label=\"y\\\n</text><script>alert(1)</script>|a'b&#";
    let map = Map::of(Some(&walk(ci("d:1", nasty, "device"), &[], &[])), None);
    let dot = map.write(Format::Dot);
    assert!(dot.contains(r#"label="x\"]; evil [label=\"y\\ </text>"#), "{dot}");
    assert_eq!(dot.lines().count(), 5);
    let mermaid = map.write(Format::Mermaid);
    assert_eq!(mermaid.matches('"').count(), 2, "{mermaid}");
    assert!(!mermaid.contains("<script"), "{mermaid}");
    let svg = map.write(Format::Svg);
    assert!(!svg.contains("<script") && svg.contains("x&quot;]; evil"), "{svg}");
}

#[test]
fn lines_without_direction_are_drawn_once() {
    let one = walk(ci("d:1", "a", "device"), &[("d:2", "b", "device", 1)], &[("d:1", "d:2", Kind::ConnectedTo), ("d:2", "d:1", Kind::ConnectedTo)]);
    let map = Map::of(Some(&one), None);
    assert_eq!(map.size(), (2, 1));
    assert!(map.write(Format::Dot).contains("dir=none"));
}

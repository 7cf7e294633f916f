//! The view `cmdb`: configuration items and how they hang together.
//!
//! A connector is called `cmdb` as well, and a tool's name belongs to one owner: no operation here may be named like one of its tools.

use super::{
    Gives, LIMIT, View, ViewField,
    ViewKind::{Fields, Integer, Text, Texts, Time, Word},
    ViewModel, ViewOp, may, must,
};
use crate::spec::Effect::{Read, Write};

const WHICH: ViewField = must("id", Text, "The item's id, as other operations give it.");
const CLASS: ViewField = may("class", Text, "Only items of this class.");
const DEPTH: ViewField = may("depth", Integer, "The most relations to follow in a row.");

const ITEM: ViewModel = ViewModel {
    name: "Item",
    doc: "A configuration item.",
    fields: &[
        must("id", Text, "Its id."),
        may("name", Text, "Its name."),
        may("class", Text, "What kind of thing it is."),
        may("status", Text, "Its status."),
        may("serial", Text, "Its serial number."),
        may("addresses", Texts, "Its network addresses."),
        may("owner", Text, "Who is responsible."),
        may("updated_at", Time, "When it was last changed."),
        may("url", Text, "Its page."),
    ],
};

const RELATION: ViewModel = ViewModel {
    name: "Relation",
    doc: "How one item hangs on another.",
    fields: &[
        must("from", Text, "The item that depends."),
        must("to", Text, "The item it depends on."),
        must("kind", Text, "How: depends_on, runs_on, hosted_on, member_of, connected_to, other."),
        may("from_name", Text, "The name of the one."),
        may("to_name", Text, "The name of the other."),
    ],
};

const AFFECTED: ViewModel = ViewModel {
    name: "Affected",
    doc: "An item that a walk came to.",
    fields: &[
        must("id", Text, "Its id."),
        may("name", Text, "Its name."),
        may("class", Text, "What kind of thing it is."),
        may("distance", Integer, "How many relations away."),
        may("via", Text, "The item it was reached from."),
    ],
};

const OWNER: ViewModel = ViewModel {
    name: "Owner",
    doc: "Who is responsible for an item.",
    fields: &[may("id", Text, "The id."), must("name", Text, "The name."), may("role", Text, "As what."), may("email", Text, "E-mail address.")],
};

/// The vocabulary.
pub(super) static CMDB: View = View {
    id: "cmdb",
    doc: "Configuration items and their relations.",
    models: &[ITEM, RELATION, AFFECTED, OWNER],
    operations: &[
        ViewOp {
            name: "find_item",
            doc: "Find the item of exactly this name; null if there is none.",
            effect: Read,
            params: &[must("name", Text, "The whole name."), CLASS],
            gives: Gives::Maybe("Item"),
        },
        ViewOp { name: "get_item", doc: "Get an item by id; null if there is none.", effect: Read, params: &[WHICH], gives: Gives::Maybe("Item") },
        ViewOp {
            name: "search_items",
            doc: "Search items by a piece of text.",
            effect: Read,
            params: &[must("query", Text, "Part of a name."), CLASS, LIMIT],
            gives: Gives::Many("Item"),
        },
        ViewOp {
            name: "item_relations",
            doc: "List the relations of an item.",
            effect: Read,
            params: &[WHICH, may("direction", Word(&["dependencies", "dependents", "both"]), "Which way to look; both if not said.")],
            gives: Gives::Many("Relation"),
        },
        ViewOp {
            name: "item_dependencies",
            doc: "Everything an item depends on, nearest first.",
            effect: Read,
            params: &[WHICH, DEPTH],
            gives: Gives::Many("Affected"),
        },
        ViewOp {
            name: "item_impact",
            doc: "Everything that is affected if these items fail together, nearest first.",
            effect: Read,
            params: &[must("ids", Texts, "The items."), DEPTH],
            gives: Gives::Many("Affected"),
        },
        ViewOp { name: "item_owners", doc: "Who is responsible for an item.", effect: Read, params: &[WHICH], gives: Gives::Many("Owner") },
        ViewOp {
            name: "create_item",
            doc: "Add an item.",
            effect: Write,
            params: &[
                must("class", Text, "What kind of thing it is."),
                must("name", Text, "Its name."),
                may("custom", Fields, "The system's own fields."),
            ],
            gives: Gives::One("Item"),
        },
        ViewOp {
            name: "update_item",
            doc: "Change fields of an item; those not named stay.",
            effect: Write,
            params: &[WHICH, must("custom", Fields, "The system's own fields.")],
            gives: Gives::One("Item"),
        },
    ],
};

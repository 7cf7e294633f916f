//! The view `crm`: people, companies, deals and notes.

use super::{
    FIELDS, Gives, LIMIT, OWN, View, ViewField,
    ViewKind::{Number, Text, Time},
    ViewModel, ViewOp, may, must,
};
use crate::spec::Effect::{Read, Write};

const ID: ViewField = must("id", Text, "Its id at the vendor.");
const WHICH: ViewField = must("id", Text, "The id, as other operations give it.");

const CONTACT: ViewModel = ViewModel {
    name: "Contact",
    doc: "A person.",
    fields: &[
        ID,
        may("email", Text, "E-mail address."),
        may("first_name", Text, "First name."),
        may("last_name", Text, "Last name."),
        may("phone", Text, "Telephone number."),
        may("title", Text, "What the person does at the company."),
        may("company", Text, "The company's name."),
        may("company_id", Text, "The company's id."),
        may("stage", Text, "How far the person is on the way to being a customer, in the vendor's words."),
        may("owner_id", Text, "Who of the own people looks after the record."),
        may("created_at", Time, "When the record was made."),
        may("updated_at", Time, "When it was last changed."),
        may("url", Text, "The record's page."),
    ],
};

const COMPANY: ViewModel = ViewModel {
    name: "Company",
    doc: "A company.",
    fields: &[
        ID,
        may("name", Text, "Its name."),
        may("domain", Text, "Its internet domain."),
        may("phone", Text, "Telephone number."),
        may("industry", Text, "What it does, in the vendor's words."),
        may("owner_id", Text, "Who of the own people looks after the record."),
        may("created_at", Time, "When the record was made."),
        may("updated_at", Time, "When it was last changed."),
        may("url", Text, "The record's page."),
    ],
};

const DEAL: ViewModel = ViewModel {
    name: "Deal",
    doc: "A sale that may come.",
    fields: &[
        ID,
        may("name", Text, "What it is called."),
        may("amount", Number, "What it is worth."),
        may("currency", Text, "The amount's currency, ISO 4217."),
        may("stage", Text, "How far it is, in the vendor's words."),
        may("pipeline", Text, "The pipeline whose stages these are."),
        may("close_date", Text, "When it is expected to be decided, as the vendor writes it."),
        may("company_id", Text, "The company's id."),
        may("owner_id", Text, "Who of the own people looks after it."),
        may("created_at", Time, "When the record was made."),
        may("updated_at", Time, "When it was last changed."),
        may("url", Text, "The record's page."),
    ],
};

const NOTE: ViewModel = ViewModel {
    name: "Note",
    doc: "A note that was put on a record.",
    fields: &[ID, may("text", Text, "What it says."), may("at", Time, "When it happened.")],
};

const EMAIL: ViewField = may("email", Text, "E-mail address.");
const FIRST_NAME: ViewField = may("first_name", Text, "First name.");
const LAST_NAME: ViewField = may("last_name", Text, "Last name.");
const PHONE: ViewField = may("phone", Text, "Telephone number.");
const TITLE: ViewField = may("title", Text, "What the person does at the company.");
const COMPANY_NAME: ViewField = may("company", Text, "The company's name.");
const STAGE: ViewField = may("stage", Text, "The stage, in the vendor's words.");
const OWNER: ViewField = may("owner_id", Text, "Who of the own people looks after it.");
const AMOUNT: ViewField = may("amount", Number, "What it is worth.");
const PIPELINE: ViewField = may("pipeline", Text, "The pipeline whose stages these are.");
const CLOSE_DATE: ViewField = may("close_date", Text, "When it is expected to be decided, YYYY-MM-DD.");
const QUERY: ViewField = must("query", Text, "The text to look for.");

/// The vocabulary.
pub(super) static CRM: View = View {
    id: "crm",
    doc: "People, companies and deals.",
    models: &[CONTACT, COMPANY, DEAL, NOTE],
    operations: &[
        ViewOp {
            name: "find_contact",
            doc: "Find one person by e-mail address; null if there is none.",
            effect: Read,
            params: &[must("email", Text, "E-mail address."), FIELDS],
            gives: Gives::Maybe("Contact"),
        },
        ViewOp { name: "get_contact", doc: "Get one person by id.", effect: Read, params: &[WHICH, FIELDS], gives: Gives::One("Contact") },
        ViewOp {
            name: "search_contacts",
            doc: "Search people by a text: names, addresses and what else the vendor looks through.",
            effect: Read,
            params: &[QUERY, LIMIT, FIELDS],
            gives: Gives::Many("Contact"),
        },
        ViewOp { name: "list_contacts", doc: "List people, page by page.", effect: Read, params: &[LIMIT, FIELDS], gives: Gives::Many("Contact") },
        ViewOp {
            name: "create_contact",
            doc: "Add a person.",
            effect: Write,
            params: &[EMAIL, FIRST_NAME, LAST_NAME, PHONE, TITLE, COMPANY_NAME, STAGE, OWNER, OWN],
            gives: Gives::One("Contact"),
        },
        ViewOp {
            name: "update_contact",
            doc: "Change a person's record; what is not named stays. Some vendors do not give the record back: get it for that.",
            effect: Write,
            params: &[WHICH, EMAIL, FIRST_NAME, LAST_NAME, PHONE, TITLE, COMPANY_NAME, STAGE, OWNER, OWN],
            gives: Gives::One("Contact"),
        },
        ViewOp {
            name: "find_company",
            doc: "Find one company by its internet domain; null if there is none.",
            effect: Read,
            params: &[must("domain", Text, "For example example.com."), FIELDS],
            gives: Gives::Maybe("Company"),
        },
        ViewOp { name: "get_company", doc: "Get one company by id.", effect: Read, params: &[WHICH, FIELDS], gives: Gives::One("Company") },
        ViewOp {
            name: "search_companies",
            doc: "Search companies by a text.",
            effect: Read,
            params: &[QUERY, LIMIT, FIELDS],
            gives: Gives::Many("Company"),
        },
        ViewOp { name: "list_deals", doc: "List deals, page by page.", effect: Read, params: &[LIMIT, FIELDS], gives: Gives::Many("Deal") },
        ViewOp { name: "search_deals", doc: "Search deals by a text.", effect: Read, params: &[QUERY, LIMIT, FIELDS], gives: Gives::Many("Deal") },
        ViewOp { name: "get_deal", doc: "Get one deal by id.", effect: Read, params: &[WHICH, FIELDS], gives: Gives::One("Deal") },
        ViewOp {
            name: "create_deal",
            doc: "Add a deal.",
            effect: Write,
            params: &[
                must("name", Text, "What it is called."),
                must("stage", Text, "How far it is, in the vendor's words."),
                AMOUNT,
                PIPELINE,
                CLOSE_DATE,
                OWNER,
                OWN,
            ],
            gives: Gives::One("Deal"),
        },
        ViewOp {
            name: "update_deal",
            doc: "Change a deal; what is not named stays. Some vendors do not give the record back: get it for that.",
            effect: Write,
            params: &[WHICH, may("name", Text, "What it is called."), STAGE, AMOUNT, PIPELINE, CLOSE_DATE, OWNER, OWN],
            gives: Gives::One("Deal"),
        },
        ViewOp {
            name: "log_note",
            doc: "Put a note on a person's record. The time is not filled in, so that the same call stays the same call when it is approved or repeated.",
            effect: Write,
            params: &[must("contact_id", Text, "The person's id."), must("text", Text, "What it says."), must("at", Time, "When it happened.")],
            gives: Gives::One("Note"),
        },
    ],
};

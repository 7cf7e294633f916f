//! What Salesforce does its own way, a file for each; registered in [`crate::hooks`].

pub(crate) mod bulk_load;
pub(crate) mod bulk_query;
pub(crate) mod composite;
pub(crate) mod org;
pub(crate) mod outbound;
pub(crate) mod outcomes;
pub(crate) mod prepare;
pub(crate) mod replication;
mod rows;

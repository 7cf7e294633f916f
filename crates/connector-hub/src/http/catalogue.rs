//! The catalogue: connectors and connections.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use super::{App, caller::Caller, problem::Problem};
use crate::cli::catalogue::summary;

pub(super) async fn list(State(app): State<App>, _: Caller) -> Json<Vec<Value>> {
    Json(app.runtime().registry().iter().map(|connector| summary(connector.spec())).collect())
}

pub(super) async fn one(State(app): State<App>, _: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let registry = app.runtime().registry();
    let spec = registry.require(&id)?.spec();
    serde_json::to_value(&**spec)
        .map(Json)
        .map_err(|error| connector_core::Error::internal("a connector's description cannot be written").with_source(error).into())
}

pub(super) async fn connections(State(app): State<App>, caller: Caller) -> Json<Vec<Value>> {
    let connections = app.runtime().connections();
    let own = connections.iter().filter(|connection| connection.tenant == *caller.tenant());
    Json(own.map(|connection| json!({ "id": connection.id, "connector": connection.connector, "host": connection.host() })).collect())
}

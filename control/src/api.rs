//! The HTTP API under `/v1`, described by `/v1/openapi.json`, which is made from this very code.
//!
//! ```text
//!   request ─► asker (token → actor) ─► route (document → wish) ─► registrar ─► rule ─► answer, or a problem document
//!                                            └─ reads: the view of now, filtered by what the actor may see
//! ```
//!
//! A route knows its documents and which rule it asks. It decides nothing: who may do what is in [`crate::registry::policy`], what is
//! allowed is in [`crate::rules`].

#![allow(unused_qualifications, reason = "what the macro of a route writes")]

mod apps;
mod asker;
mod audit_log;
mod body;
mod idempotency;
pub mod problem;
mod replicas;
mod requisitions;
mod revisions;
mod shards;
mod store;
mod topology;
mod users;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::{Json, Router, routing};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What goes over the wire, for who asks and who answers.
pub mod documents {
    pub use super::apps::AppDocument;
    pub use super::audit_log::AuditLine;
    pub use super::body::Page;
    pub use super::replicas::ReplicaDocument;
    pub use super::requisitions::{ApprovalDocument, Outcome, ReasonDocument, RequisitionDocument};
    pub use super::revisions::{PublishDocument, RollbackDocument};
    pub use super::shards::{NewcomerDocument, PreferenceDocument, Remarks, ShrinkDocument};
    pub use super::store::{Export, ExportedRecord};
    pub use super::users::{
        LogInDocument, NewTokenDocument, NewUserDocument, SecretDocument, TokenDocument, UserDocument,
        UserPatchDocument,
    };
}

pub use asker::{digest, secret};
pub use users::password_hash;

use crate::dns::zone::Zone;
use crate::registrar::Registrar;
use problem::Problem;

/// Documents are small; a registry that is imported is not.
const BODY_BYTES_MAX: usize = 256 << 10;
const IMPORT_BYTES_MAX: usize = 256 << 20;

/// What every route is given.
#[derive(Clone)]
pub struct Api {
    pub registrar: Registrar,
    pub zone: Arc<Zone>,
    pub metrics: PrometheusHandle,
    /// Who waits for a change is answered when this process ends.
    pub stopping: CancellationToken,
}

impl Api {
    /// Waits for a change. False: there was none before the deadline, or nobody waits any more.
    async fn changes<Value>(&self, changed: &mut watch::Receiver<Value>, deadline: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => false,
            changed = timeout_at(deadline, changed.changed()) => matches!(changed, Ok(Ok(()))),
        }
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "memcloud control", description = "Which endpoints serve an app, and who decides about it."),
    components(schemas(Problem)),
    modifiers(&Everywhere)
)]
struct Described;

/// What is true of every route is said once.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// All routes.
pub fn router(api: Api) -> Router {
    let (routes, mut document) = described().split_for_parts();
    say_problems(&mut document);
    let document = Arc::new(document);
    routes
        .route("/v1/openapi.json", routing::get(move || async move { Json((*document).clone()) }))
        .route("/live", routing::get(|| async { "live\n" }))
        .route("/ready", routing::get(ready))
        .route("/metrics", routing::get(rendered))
        .fallback(|| async { Problem::missing("such route: /v1/openapi.json lists them") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                axum::http::StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this route has other methods: see /v1/openapi.json",
            )
        })
        .with_state(api)
}

/// The description alone, for files and tests.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = described().split_for_parts().1;
    say_problems(&mut document);
    document
}

fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Described::openapi())
        .routes(routes!(topology::look_up))
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::change, apps::delete))
        .routes(routes!(requisitions::list))
        .routes(routes!(requisitions::create))
        .routes(routes!(requisitions::show))
        .routes(routes!(requisitions::approve))
        .routes(routes!(requisitions::reject))
        .routes(routes!(requisitions::withdraw))
        .routes(routes!(revisions::list))
        .routes(routes!(revisions::show))
        .routes(routes!(revisions::publish))
        .routes(routes!(revisions::roll_back))
        .routes(routes!(revisions::difference))
        .routes(routes!(shards::shrink))
        .routes(routes!(shards::add))
        .routes(routes!(shards::change, shards::remove))
        .routes(routes!(replicas::list, replicas::register))
        .routes(routes!(replicas::show, replicas::delete))
        .routes(routes!(replicas::heartbeat))
        .routes(routes!(replicas::assigned))
        .routes(routes!(replicas::retire))
        .routes(routes!(replicas::recycle))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change, users::delete))
        .routes(routes!(users::list_tokens, users::create_token))
        .routes(routes!(users::revoke_token))
        .routes(routes!(users::log_in, users::log_out))
        .routes(routes!(audit_log::list))
        .routes(routes!(store::zone))
        .routes(routes!(store::export))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(store::import))
                .layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)),
        )
}

/// Every route can fail in these ways; said here so that no route forgets one.
fn say_problems(document: &mut OpenApi) {
    let problem = Content::new(Some(RefOr::Ref(utoipa::openapi::Ref::from_schema_name(Problem::name()))));
    let failures = [
        ("400", "the request is none"),
        ("401", "no valid token"),
        ("403", "not for this user"),
        ("404", "there is no such thing, or not for this user"),
        ("409", "what is there contradicts it"),
        ("412", "it was changed since it was read"),
        ("413", "too large"),
        ("415", "no JSON"),
        ("422", "the document contradicts itself, or a limit"),
        ("503", "the store is away, or control is busy"),
    ];
    for item in document.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        for operation in methods.into_iter().flatten() {
            for (status, says) in failures {
                let response = ResponseBuilder::new()
                    .description(says)
                    .content("application/problem+json", problem.clone());
                operation.responses.responses.entry(status.into()).or_insert_with(|| response.build().into());
            }
        }
    }
}

/// Whether this process can answer lookups, and what hinders changes.
async fn ready(axum::extract::State(api): axum::extract::State<Api>) -> impl IntoResponse {
    match &api.registrar.view().trouble {
        // Lookups go on, so it stays in service.
        Some(trouble) => format!("ready for lookups only: {trouble}\n"),
        None => "ready\n".to_owned(),
    }
}

async fn rendered(axum::extract::State(api): axum::extract::State<Api>) -> impl IntoResponse {
    api.metrics.run_upkeep();
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], api.metrics.render())
}

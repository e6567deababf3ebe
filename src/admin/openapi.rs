//! The OpenAPI document: the facts about the whole API; each route describes itself where it is written. Served without
//! a token, because it holds nothing that the source code does not.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, ContactBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};

use super::problem::ProblemJson;

/// The name of the one security scheme.
const TOKEN: &str = "token";

/// The document without its routes.
pub fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("clerk-relay")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "What happened to each webhook, and what an operator can do about it. Times are RFC 3339 in UTC, lists are \
             paged by cursor, unknown parameters and fields are refused. Without `admin.tokens` no token is needed, and \
             only this machine is answered.",
        ))
        .contact(Some(ContactBuilder::new().name(Some("the operator of this relay")).build()))
        .build();
    let mut error = Vec::new();
    ProblemJson::schemas(&mut error);
    let scheme = SecurityScheme::Http(
        Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "A token of `admin.tokens`: one that can `read` for GET, one that can `write` for all.",
            ))
            .build(),
    );
    let components = ComponentsBuilder::new()
        .schemas_from_iter(error)
        .schema(ProblemJson::name(), ProblemJson::schema())
        .security_scheme(TOKEN, scheme)
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(TOKEN, Vec::<String>::new())]))
        .build()
}

/// Serves `document` at `/openapi.json`.
pub fn routes(document: &OpenApi) -> Router {
    let text = Bytes::from(document.to_json().expect("plain data becomes JSON"));
    let answer = move || async move { ([(header::CONTENT_TYPE, "application/json")], text) };
    Router::new().route("/openapi.json", get(answer))
}

//! The answers that are not 2xx, as the OpenAPI document describes them: one set for each kind of route, so that no
//! route forgets one.

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};
use utoipa::{IntoResponses, PartialSchema};

type Responses = BTreeMap<String, RefOr<Response>>;

fn answer(status: &str, description: &str) -> (String, RefOr<Response>) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemJson"))).build();
    let mut response = ResponseBuilder::new().description(description).content("application/json", content);
    let header = match status {
        "401" => Some("WWW-Authenticate"),
        "503" => Some("Retry-After"),
        _ => None,
    };
    if let Some(name) = header {
        response = response.header(name, HeaderBuilder::new().schema(Some(String::schema())).build());
    }
    (status.to_owned(), response.build().into())
}

fn always() -> Responses {
    Responses::from([
        answer("400", "A parameter, a part of the path or the body is not understood"),
        answer("401", "No known token"),
        answer("403", "The token may not do this, or a foreign page or machine asks"),
        answer("503", "The store is away, or too much is under way"),
    ])
}

/// Of every route.
pub struct Always;

impl IntoResponses for Always {
    fn responses() -> Responses {
        always()
    }
}

/// Of routes that name something which may not be there, or not so.
pub struct Named;

impl IntoResponses for Named {
    fn responses() -> Responses {
        let mut responses = always();
        responses.extend([
            answer("404", "There is no such thing"),
            answer("409", "Several things have this name, or it is not in a state for this"),
        ]);
        responses
    }
}

/// Of routes that take a body.
pub struct Bodied;

impl IntoResponses for Bodied {
    fn responses() -> Responses {
        let mut responses = Named::responses();
        responses.extend([
            answer("408", "The body does not come in time"),
            answer("413", "The body is too large"),
            answer("415", "The body is not declared as JSON"),
        ]);
        responses
    }
}

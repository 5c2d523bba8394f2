//! What holds for every route and would be tedious to say at each: how errors look, that a token is needed, the
//! idempotency key, unique names of operations.

use utoipa::{
    ToSchema,
    openapi::{
        Content, OpenApi, Ref, RefOr, Required, Response,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        response::ResponseBuilder,
        schema::{ObjectBuilder, Schema, Type},
    },
};

use crate::{
    error::ErrorEnvelope,
    routes::v1::{AnthropicError, OpenAiError},
};

/// Completes the document that the routes make.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![];
    add::<ErrorEnvelope>(&mut schemas);
    add::<OpenAiError>(&mut schemas);
    add::<AnthropicError>(&mut schemas);
    components.schemas.extend(schemas);
    for (status, meaning) in ERRORS {
        components.responses.insert((*status).to_owned(), RefOr::T(error::<ErrorEnvelope>(meaning)));
    }
    let of_sdks = [error::<OpenAiError>(REFUSED), error::<AnthropicError>(REFUSED)];
    let named = SDKS.iter().map(|(_, name)| (*name).to_owned());
    components.responses.extend(named.zip(of_sdks.map(RefOr::T)));
    // A rest of the path has a name like any other part of it.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for (path, item) in &mut document.paths.paths {
        let takes_id = path.contains('{');
        let is_in_path = |name: &str| path.contains(&format!("{{{name}}}"));
        let operations = [
            (&mut item.get, false),
            (&mut item.put, false),
            (&mut item.post, true),
            (&mut item.delete, false),
            (&mut item.patch, false),
        ];
        for (operation, is_post) in operations {
            if let Some(operation) = operation {
                place_parameters(operation, is_in_path);
                complete_operation(operation, is_post, takes_id);
            }
        }
    }
}

/// The answers that every route may give.
const ERRORS: &[(&str, &str)] = &[
    ("BadRequest", "`VALIDATION_FAILED`: `details.fields` maps each refused field to the reason."),
    ("Unauthorized", "`UNAUTHORIZED`, `TOKEN_EXPIRED`, `INVALID_CREDENTIALS` or `TOKEN_REUSED`."),
    ("NotFound", "`NOT_FOUND`: it doesn't exist, or belongs to somebody else."),
    ("RateLimited", "`RATE_LIMITED`, `QUOTA_EXCEEDED`: wait as long as `Retry-After` says."),
    ("Failure", "Any other refusal or failure: see the codes."),
];

/// Interfaces with errors of their own shape, by tag, and the names of those.
const SDKS: [(&str, &str); 2] = [("openai", "OpenAiFailure"), ("anthropic", "AnthropicFailure")];

/// What the interfaces of the SDKs say of every refusal and failure.
const REFUSED: &str = "A refusal or failure, with a status that the SDK makes an error of its own of.";

/// Adds a schema with those that it is made of.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

fn error<T: ToSchema>(meaning: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name(T::name())));
    ResponseBuilder::new().description(meaning).content("application/json", content).build()
}

/// A struct of parameters doesn't know the path that it is for: what has no place there is in the query, and nothing in
/// a query of ours has to be there.
fn place_parameters(operation: &mut Operation, is_in_path: impl Fn(&str) -> bool) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.parameter_in == ParameterIn::Path
            && !is_in_path(&parameter.name)
        {
            parameter.parameter_in = ParameterIn::Query;
            parameter.required = Required::False;
        }
    }
}

fn complete_operation(operation: &mut Operation, is_post: bool, takes_id: bool) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
    let name = operation.operation_id.take().unwrap_or_default();
    operation.operation_id = Some(format!("{tag}_{name}"));
    // An empty requirement is what a route says that needs no token.
    let is_public = operation.security.is_some();
    let mut answers = vec![("400", "BadRequest"), ("default", "Failure")];
    if !is_public || tag == "auth" {
        answers.push(("401", "Unauthorized"));
    }
    if takes_id {
        answers.push(("404", "NotFound"));
    }
    if is_public {
        answers.push(("429", "RateLimited"));
    }
    let of_sdk = SDKS.iter().find(|(sdk, _)| tag == *sdk).map(|(_, name)| *name);
    for (status, name) in answers {
        let answer = RefOr::Ref(Ref::from_response_name(of_sdk.unwrap_or(name)));
        operation.responses.responses.entry(status.to_owned()).or_insert(answer);
    }
    if is_post && !is_public && operation.request_body.is_some() && tag != "auth" {
        operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
    }
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255));
    let meaning = "The same request under the same key gets the first answer again; another request, 409.";
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .description(Some(meaning))
        .schema(Some(schema))
        .build()
}

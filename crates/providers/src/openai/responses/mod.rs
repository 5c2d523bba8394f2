//! OpenAI's Responses dialect.

mod convert;
mod request;
mod usage;

pub(crate) use self::{convert::Responses, request::render};

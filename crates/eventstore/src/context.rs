//! Who asks for a command, and in which request.

use std::{collections::HashMap, net::IpAddr};

use polyphony_domain::ids::{AccountId, EventId};
use uuid::Uuid;

/// The metadata that every event of a command carries.
#[derive(Clone, Debug)]
pub struct CommandContext {
    /// Account that the events belong to.
    pub owner: AccountId,
    /// `user`, or the name of a role of ours, for example `worker`.
    pub actor: String,
    /// Id of the request or job, the same through the whole chain that it sets off.
    pub correlation_id: Uuid,
    /// Event that this command answers to.
    pub causation_id: Option<EventId>,
    /// The caller's request id.
    pub request_id: Option<String>,
    /// The caller's address. Personal: sealed.
    pub ip: Option<IpAddr>,
    /// The caller's user agent. Personal: sealed.
    pub user_agent: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl CommandContext {
    /// A command of one of our own roles.
    pub fn internal(owner: AccountId, role: &str, correlation_id: Uuid) -> Self {
        Self {
            owner,
            actor: role.to_owned(),
            correlation_id,
            causation_id: None,
            request_id: None,
            ip: None,
            user_agent: None,
            traceparent: None,
        }
    }

    /// The fields as `cqrs-es` carries them; address and agent are still in clear.
    pub(crate) fn metadata(&self) -> HashMap<String, String> {
        let optional = [
            ("causation_id", self.causation_id.map(|id| id.to_string())),
            ("request_id", self.request_id.clone()),
            ("ip", self.ip.map(|ip| ip.to_string())),
            ("user_agent", self.user_agent.clone()),
            ("traceparent", self.traceparent.clone()),
        ];
        let always = [
            ("actor", self.actor.clone()),
            ("owner_id", self.owner.to_string()),
            ("correlation_id", self.correlation_id.to_string()),
        ];
        optional
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .chain(always)
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

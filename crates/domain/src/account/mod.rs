//! The account: a person who signs in. Its password hash isn't here: credentials don't belong in a log.

mod settings;

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::settings::Settings;
use crate::personal::Personal;

/// What an account may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Uses the product.
    #[default]
    User,
    /// Also runs it.
    Admin,
}

impl Role {
    /// The role as the contract spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// State of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Whether it has been registered.
    pub exists: bool,
    /// Whether its data keys have been destroyed.
    pub is_erased: bool,
    /// E-mail address as the person typed it.
    pub email: Personal,
    /// What to call the person.
    pub nickname: Option<Personal>,
    /// What it may do.
    pub role: Role,
    /// Answers that it may have in the making at a time; none for the deployment's default.
    pub allowance: Option<u32>,
    /// What the person prefers.
    pub settings: Settings,
}

/// What can be asked of an account.
#[derive(Clone, Debug)]
pub enum AccountCommand {
    /// Creates the account. That the address is free is the store's matter (a unique blind index).
    Register {
        /// E-mail address.
        email: String,
        /// What to call the person.
        nickname: Option<String>,
        /// What it may do.
        role: Role,
    },
    /// Says how many answers it may have in the making at a time.
    SetAllowance {
        /// How many.
        in_flight: u32,
    },
    /// Destroys everything that is known of the person, for ever.
    Erase,
    /// Replaces the settings.
    ChangeSettings {
        /// The settings, whole.
        settings: Settings,
    },
}

/// What has happened to an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountEvent {
    /// The account was created.
    AccountRegistered {
        /// E-mail address.
        email: Personal,
        /// What to call the person.
        nickname: Option<Personal>,
        /// What it may do.
        role: Role,
    },
    /// It may have this many answers in the making at a time.
    AllowanceSet {
        /// How many.
        in_flight: u32,
    },
    /// All data keys of the person were destroyed, in the same transaction: nobody can read their texts any more.
    AccountErased {},
    /// The person prefers other things now.
    SettingsChanged {
        /// The settings, whole, as JSON text: what clients keep there may be personal.
        settings: Personal,
    },
}

crate::event_catalogue!(AccountEvent {
    AccountRegistered => ("account_registered", "1"),
    AllowanceSet => ("allowance_set", "1"),
    AccountErased => ("account_erased", "1"),
    SettingsChanged => ("settings_changed", "1"),
});

/// Why an account refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AccountError {
    /// The id is taken.
    #[error("the account exists already")]
    AlreadyRegistered,
    /// There is no such account, or not any more.
    #[error("there is no such account")]
    NotFound,
}

impl Aggregate for Account {
    const TYPE: &'static str = "account";
    type Command = AccountCommand;
    type Event = AccountEvent;
    type Error = AccountError;
    type Services = ();

    async fn handle(&mut self, command: AccountCommand, (): &(), sink: &EventSink<Self>) -> Result<(), AccountError> {
        match command {
            AccountCommand::Register { .. } if self.exists => Err(AccountError::AlreadyRegistered),
            AccountCommand::Register { email, nickname, role } => {
                let nickname = nickname.map(Personal::from);
                sink.write(AccountEvent::AccountRegistered { email: email.into(), nickname, role }, self).await;
                Ok(())
            }
            _ if !self.exists || self.is_erased => Err(AccountError::NotFound),
            AccountCommand::SetAllowance { in_flight } => {
                if self.allowance != Some(in_flight) {
                    sink.write(AccountEvent::AllowanceSet { in_flight }, self).await;
                }
                Ok(())
            }
            AccountCommand::Erase => {
                sink.write(AccountEvent::AccountErased {}, self).await;
                Ok(())
            }
            AccountCommand::ChangeSettings { settings } => {
                if self.settings != settings {
                    // Settings are texts, flags and JSON: they can always be written.
                    let text = serde_json::to_string(&settings).unwrap_or_default();
                    sink.write(AccountEvent::SettingsChanged { settings: text.into() }, self).await;
                }
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::AccountRegistered { email, nickname, role } => {
                *self = Self { exists: true, email, nickname, role, ..Self::default() };
            }
            AccountEvent::SettingsChanged { settings } => {
                self.settings = serde_json::from_str(settings.as_str()).unwrap_or_default();
            }
            AccountEvent::AllowanceSet { in_flight } => self.allowance = Some(in_flight),
            AccountEvent::AccountErased {} => self.is_erased = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn register() -> AccountCommand {
        AccountCommand::Register { email: "a@example.org".into(), nickname: None, role: Role::User }
    }

    fn registered() -> AccountEvent {
        AccountEvent::AccountRegistered { email: "a@example.org".into(), nickname: None, role: Role::User }
    }

    #[test]
    fn a_new_account_is_registered() {
        TestFramework::<Account>::with(())
            .given_no_previous_events()
            .when(register())
            .then_expect_events(vec![registered()]);
    }

    #[test]
    fn an_account_is_erased_once() {
        let given = |given| TestFramework::<Account>::with(()).given(given).when(AccountCommand::Erase);
        let erased = AccountEvent::AccountErased {};
        given(vec![registered()]).then_expect_events(vec![erased.clone()]);
        given(vec![registered(), erased]).then_expect_error(AccountError::NotFound);
        given(vec![]).then_expect_error(AccountError::NotFound);
    }

    #[test]
    fn settings_are_kept_and_the_same_ones_leave_no_trace() {
        let settings = Settings { theme: "dark".into(), auto_title: false, ..Settings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        let changed = AccountEvent::SettingsChanged { settings: text.into() };
        let change = AccountCommand::ChangeSettings { settings };
        let test = |given| TestFramework::<Account>::with(()).given(given).when(change.clone());
        test(vec![registered()]).then_expect_events(vec![changed.clone()]);
        test(vec![registered(), changed]).then_expect_events(vec![]);
        test(vec![]).then_expect_error(AccountError::NotFound);
    }

    #[test]
    fn an_account_is_registered_once() {
        TestFramework::<Account>::with(())
            .given(vec![registered()])
            .when(register())
            .then_expect_error(AccountError::AlreadyRegistered);
    }
}

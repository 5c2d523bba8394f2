//! The device session: one sign-in. Its refresh tokens rotate outside the log; a reuse of one is an event.

use cqrs_es::{Aggregate, event_sink::EventSink};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ids::AccountId, personal::Personal};

/// Why a device session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignOutReason {
    /// The person signed this device out.
    Logout,
    /// The person signed all devices out.
    LogoutAll,
    /// A refresh token was presented a second time.
    RefreshTokenReused,
}

/// State of a device session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSession {
    /// Whose device it is; nobody's before the sign-in.
    pub account_id: Option<AccountId>,
    /// Whether it has ended.
    pub ended: bool,
}

/// What can be asked of a device session.
#[derive(Clone, Debug)]
pub enum DeviceSessionCommand {
    /// Begins it.
    SignIn {
        /// Who signs in.
        account_id: AccountId,
        /// What the person calls the device.
        device_name: Option<String>,
    },
    /// Ends it.
    SignOut {
        /// Why.
        reason: SignOutReason,
    },
}

/// What has happened to a device session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceSessionEvent {
    /// A person signed in.
    DeviceSignedIn {
        /// Who.
        account_id: AccountId,
        /// What the person calls the device.
        device_name: Option<Personal>,
    },
    /// The device session ended.
    DeviceSignedOut {
        /// Why.
        reason: SignOutReason,
    },
}

crate::event_catalogue!(DeviceSessionEvent {
    DeviceSignedIn => ("device_signed_in", "1"),
    DeviceSignedOut => ("device_signed_out", "1"),
});

/// Why a device session refuses a command.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DeviceSessionError {
    /// The id is taken.
    #[error("the device session exists already")]
    AlreadySignedIn,
    /// There is no such sign-in.
    #[error("there is no such device session")]
    NotSignedIn,
}

impl Aggregate for DeviceSession {
    const TYPE: &'static str = "device_session";
    type Command = DeviceSessionCommand;
    type Event = DeviceSessionEvent;
    type Error = DeviceSessionError;
    type Services = ();

    async fn handle(
        &mut self,
        command: DeviceSessionCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), DeviceSessionError> {
        match command {
            DeviceSessionCommand::SignIn { .. } if self.account_id.is_some() => {
                Err(DeviceSessionError::AlreadySignedIn)
            }
            DeviceSessionCommand::SignIn { account_id, device_name } => {
                let device_name = device_name.map(Personal::from);
                sink.write(DeviceSessionEvent::DeviceSignedIn { account_id, device_name }, self).await;
                Ok(())
            }
            DeviceSessionCommand::SignOut { .. } if self.account_id.is_none() => Err(DeviceSessionError::NotSignedIn),
            // Signing out twice is what two tabs do: the second changes nothing.
            DeviceSessionCommand::SignOut { .. } if self.ended => Ok(()),
            DeviceSessionCommand::SignOut { reason } => {
                sink.write(DeviceSessionEvent::DeviceSignedOut { reason }, self).await;
                Ok(())
            }
        }
    }

    fn apply(&mut self, event: DeviceSessionEvent) {
        match event {
            DeviceSessionEvent::DeviceSignedIn { account_id, .. } => self.account_id = Some(account_id),
            DeviceSessionEvent::DeviceSignedOut { .. } => self.ended = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    fn signed_in() -> DeviceSessionEvent {
        DeviceSessionEvent::DeviceSignedIn { account_id: AccountId::default(), device_name: Some("laptop".into()) }
    }

    #[test]
    fn signing_out_twice_is_one_event() {
        let out = DeviceSessionCommand::SignOut { reason: SignOutReason::Logout };
        let gone = DeviceSessionEvent::DeviceSignedOut { reason: SignOutReason::Logout };
        TestFramework::<DeviceSession>::with(())
            .given(vec![signed_in()])
            .when(out.clone())
            .then_expect_events(vec![gone.clone()]);
        TestFramework::<DeviceSession>::with(()).given(vec![signed_in(), gone]).when(out).then_expect_events(vec![]);
    }

    #[test]
    fn an_unknown_device_cannot_sign_out() {
        TestFramework::<DeviceSession>::with(())
            .given_no_previous_events()
            .when(DeviceSessionCommand::SignOut { reason: SignOutReason::Logout })
            .then_expect_error(DeviceSessionError::NotSignedIn);
    }
}

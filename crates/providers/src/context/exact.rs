//! Near the end of the window our own count isn't good enough: the provider is asked for its own, where it can be.

use std::time::Duration;

use polyphony_domain::{
    catalog::Model,
    context::{Thread, TooLong},
};
use uuid::Uuid;

use super::{Contexts, Fitted};
use crate::{Adapter, Options, ProviderKey};

/// Tenths of the budget from which on the provider is asked.
const NEAR: u64 = 9;
/// How long its count is waited for: without it the request goes out as it is, and may be refused.
const PATIENCE: Duration = Duration::from_secs(2);

impl Contexts {
    /// The same as [`Contexts::fit`], by the provider's own count where ours says that the window is nearly full.
    ///
    /// # Errors
    /// As there.
    pub async fn fit_exactly(
        &self,
        thread: &Thread,
        model: &Model,
        options: Options,
        whose: Uuid,
        (adapter, key): (&dyn Adapter, Option<&ProviderKey>),
    ) -> Result<Fitted, TooLong> {
        let mut fitted = self.fit(thread, model, options.clone(), whose).await?;
        let is_near = fitted.receipt.used * 10 >= fitted.receipt.budget * NEAR;
        if !is_near || !fitted.receipt.estimated || !adapter.capabilities().count_tokens {
            return Ok(fitted);
        }
        let counting = adapter.count_tokens(&fitted.conversation, &fitted.options, key);
        let counted = match tokio::time::timeout(PATIENCE, counting).await {
            Ok(Ok(Some(counted))) => counted,
            Ok(Ok(None)) | Err(_) => return Ok(fitted),
            Ok(Err(error)) => {
                tracing::debug!(kind = ?error.kind, "a provider didn't count");
                return Ok(fitted);
            }
        };
        self.0.learned.correct(model.id, fitted.receipt.used, counted);
        if counted > fitted.receipt.budget {
            // By what has just been learned, less fits.
            return self.fit(thread, model, options, whose).await;
        }
        fitted.receipt.counted = Some(counted);
        Ok(fitted)
    }
}

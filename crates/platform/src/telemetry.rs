//! Logs, trace context and metrics.

use std::{fmt, str::FromStr};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{LogConfig, LogFormat},
    metrics_names, vault,
};

/// Telemetry could not be set up.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter can't be read.
    #[error("log.filter can't be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// It was set up before.
    #[error("telemetry was set up twice")]
    Twice,
}

/// Sends logs to standard error, and panics to the log: place only, since the message may hold somebody's data.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let done = match config.format {
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().json().with_current_span(true).with_span_list(false);
            registry.with(lines.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Pretty => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init(),
    };
    done.map_err(|_| TelemetryError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a task panicked");
    }));
    Ok(())
}

/// Installs the metrics recorder; render the handle for `/metrics`.
///
/// # Errors
/// [`TelemetryError::Twice`].
pub fn install_prometheus() -> Result<PrometheusHandle, TelemetryError> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), metrics_names::SECONDS)
        .map_err(|_| TelemetryError::Twice)?;
    let handle = builder.install_recorder().map_err(|_| TelemetryError::Twice)?;
    for (name, meaning) in metrics_names::METRICS {
        match name {
            name if name.ends_with("_total") => metrics::describe_counter!(*name, *meaning),
            name if name.ends_with("_in_flight")
                || name.contains("_lag_")
                || name.contains("_age_")
                || name.ends_with("_viewers") =>
            {
                metrics::describe_gauge!(*name, *meaning);
            }
            name => metrics::describe_histogram!(*name, *meaning),
        }
    }
    Ok(handle)
}

/// W3C trace context: what binds the log lines of one request together, across processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

impl TraceContext {
    /// A new trace.
    pub fn random() -> Self {
        let trace_id = u128::from_be_bytes(vault::random_bytes()).max(1);
        Self { trace_id, parent_id: u64::from_be_bytes(vault::random_bytes()).max(1), flags: 1 }
    }

    /// The same trace, one step further.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent_id: u64::from_be_bytes(vault::random_bytes()).max(1), ..*self }
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

impl fmt::Display for TraceContext {
    /// The value of a `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Not a `traceparent`.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a trace context")]
pub struct NotATraceContext;

impl FromStr for TraceContext {
    type Err = NotATraceContext;

    fn from_str(text: &str) -> Result<Self, NotATraceContext> {
        let hex = |part: Option<&str>, length: usize| {
            let part = part.filter(|part| part.len() == length).ok_or(NotATraceContext)?;
            let lower = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if lower { u128::from_str_radix(part, 16).map_err(|_| NotATraceContext) } else { Err(NotATraceContext) }
        };
        let mut parts = text.trim().split('-');
        let version = hex(parts.next(), 2)?;
        let trace_id = hex(parts.next(), 32)?;
        let parent_id = u64::try_from(hex(parts.next(), 16)?).map_err(|_| NotATraceContext)?;
        let flags = u8::try_from(hex(parts.next(), 2)?).map_err(|_| NotATraceContext)?;
        // Version 0 has four parts; later ones may have more.
        if version == 0xff || trace_id == 0 || parent_id == 0 || (version == 0 && parts.next().is_some()) {
            return Err(NotATraceContext);
        }
        Ok(Self { trace_id, parent_id, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_survives_the_wire() {
        let trace = TraceContext::random();
        assert_eq!(trace.to_string().parse(), Ok(trace));
        assert_eq!(trace.child().trace_id(), trace.trace_id());
        assert_ne!(trace.child(), trace);
        for wrong in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert!(wrong.parse::<TraceContext>().is_err(), "{wrong}");
        }
    }
}

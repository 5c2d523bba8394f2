//! Names and meanings of all metrics, in one place.

/// Name, kind-independent description.
pub const METRICS: &[(&str, &str)] = &[
    ("polyphony_http_requests_total", "Requests by route and status class"),
    ("polyphony_http_request_seconds", "Time from request to response head"),
    ("polyphony_queue_wait_seconds", "From an answer's request to the start of its attempt"),
    ("polyphony_first_chunk_seconds", "From the start of an attempt to its first chunk"),
    ("polyphony_projection_lag_events", "Events between a projection and the head of the log"),
    ("polyphony_projection_lag_seconds", "Age of the oldest event that a projection has not seen"),
    ("polyphony_projection_parked_total", "Events that a projection could not apply"),
    ("polyphony_relay_horizon_age_seconds", "Age of the oldest transaction that holds the log's horizon back"),
    ("polyphony_relay_published_total", "Events that the relay has published"),
    ("polyphony_answers_total", "Answers by outcome"),
    ("polyphony_answers_in_flight", "Answers that this worker is at"),
    ("polyphony_provider_calls_total", "Calls of providers by outcome"),
    ("polyphony_provider_retries_refused_total", "Retries that the process could not afford"),
    ("polyphony_breaker_opened_total", "Times that a key's provider was left alone because it kept failing"),
    ("polyphony_attempts_failed_total", "Attempts that failed and were followed by another one, by reason"),
    ("polyphony_event_append_seconds", "Time to execute a command, conflicts included"),
    ("polyphony_append_conflicts_total", "Commands that were decided again"),
    ("polyphony_jobs_reissued_total", "Jobs that the sweeper issued again"),
    ("polyphony_stream_viewers", "Open streams to clients on this node"),
];

/// Buckets of every histogram of seconds: from half a millisecond to a minute.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

//! Configuration, telemetry, lifecycle, outbound HTTP, vault primitives.

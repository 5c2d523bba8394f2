//! NATS JetStream: subjects, streams, publish, consume.

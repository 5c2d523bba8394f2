//! Real stack for tests.

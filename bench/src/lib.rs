//! Load client and mock provider.

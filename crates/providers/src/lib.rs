//! Model adapters behind one trait.

//! Event store on the postgres-es table contract.

//! Schedulers: pure builders of the tables that the data plane indexes.

pub mod maglev;

//! Configuration: YAML → [`model::Config`].

pub mod model;

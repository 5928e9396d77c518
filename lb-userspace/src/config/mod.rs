//! Configuration: YAML → [`model::Config`].
//!
//! ```text
//! file ──load──► text ──yaml──► positioned tree ──parse──► model::Config
//!                      Host, files of keys ───────┘  └───► Mistakes, all at once
//! ```
//!
//! What reads files is in `source` and [`Host::read`]; everything else is a plain function of its arguments.

mod host;
mod mistakes;
pub mod model;
mod parse;
mod source;
mod yaml;

#[cfg(test)]
mod tests;

pub use host::Host;
pub use mistakes::{Mistake, Mistakes};
pub use parse::parse_duration;
pub use source::{load, load_text, parse};

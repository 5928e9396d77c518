//! From what the maps hold to what they should hold.
//!
//! [`plan`] compares and is pure; [`apply`] reads the maps and carries a plan out. Both are run again and again: what
//! somebody else changed in between is put back, and a step that failed is planned anew.

pub mod apply;
pub mod expected;
pub mod plan;

#[cfg(test)]
mod tests;

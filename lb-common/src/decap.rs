//! What `decap` does with packets to the destinations it was given, and why: one per-CPU counter each. Other packets pass and
//! are not counted.

use crate::reason::Verdict;

/// UDP port of GUE (IANA).
pub const GUE_PORT: u16 = 6080;

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $verdict:ident;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Outcome {
            $($(#[doc = $doc])+ $name),+
        }

        impl Outcome {
            pub const ALL: &[Self] = &[$(Self::$name),+];
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// As an operator reads it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// [`Verdict::Forward`] is: to the kernel, without the outer headers.
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict),+ }
            }
        }
    };
}

outcomes! {
    /// IP in IP, of whatever families: the outer header is removed.
    Ip = "ip", Forward;
    /// GUE, or IP in UDP as `fou` sends it: the outer headers are removed.
    Gue = "gue", Forward;
    /// A fragment of a tunnel packet: the kernel puts it together first.
    Fragment = "fragment", Pass;
    /// Outer IPv4 options or IPv6 extension headers, or a GUE header with fields of its own.
    Options = "options", Pass;
    /// Cut short, or a header contradicts itself, another, or the outer checksum.
    Malformed = "malformed", Pass;
    /// What is inside goes to one of the destinations again.
    Nested = "nested", Pass;
    /// Marked as having met congestion, around a packet whose transport does not know such marks (RFC 6040 section 4.2).
    Congestion = "congestion", Drop;
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn every_outcome_is_its_own_index_and_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Outcome::ALL.iter().map(|o| o.as_str()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
    }
}

//! Incremental Internet checksums (RFC 1624, equation 3), in whatever byte order the words are read: the sum of
//! byte-swapped words is the byte-swapped sum (RFC 1071 section 2 (B)).

/// A checksum field being changed, with the words that leave and the words that enter its coverage.
#[derive(Debug, Clone, Copy)]
pub struct Update(u64);

impl Update {
    #[inline(always)]
    #[must_use]
    pub const fn new(checksum: u16) -> Self {
        Self(!checksum as u64 & 0xffff)
    }

    #[inline(always)]
    #[must_use]
    pub const fn u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old as u64 & 0xffff) + new as u64)
    }

    #[inline(always)]
    #[must_use]
    pub const fn u32(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old as u64 & 0xffff_ffff) + new as u64)
    }

    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !fold(self.0)
    }
}

/// Checksum over 32-bit words.
#[inline(always)]
#[must_use]
pub fn checksum<const WORDS: usize>(words: [u32; WORDS]) -> u16 {
    let mut sum = 0_u64;
    for word in words {
        sum += word as u64;
    }
    !fold(sum)
}

/// One's complement sum, folded, of what is the same in every outer IPv4 header of a tunnel (RFC 2003 section 3.1): version and
/// header length, "don't fragment", a time to live of 64, and both addresses, in network order. Type of service, length
/// and protocol are not in it.
#[inline(always)]
#[must_use]
pub fn outer_sum(source: u32, destination: u32) -> u32 {
    let words = [
        u32::from_ne_bytes([0x45, 0, 0, 0]),
        u32::from_ne_bytes([0, 0, 0x40, 0]),
        u32::from_ne_bytes([64, 0, 0, 0]),
        source,
        destination,
    ];
    u32::from(!checksum(words))
}

/// As [`fold`], of a sum of less than 65,537 words of 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold_few(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Folds a sum of words to 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it is written: 16-bit words, end-around carry.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks_exact(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn words(bytes: [u8; 20]) -> [u32; 5] {
        zerocopy::transmute!(bytes)
    }

    proptest! {
        #[test]
        fn whole_checksum_agrees_with_rfc_1071(bytes: [u8; 20]) {
            prop_assert_eq!(u16::from_be(checksum(words(bytes))), plain(&bytes));
        }

        #[test]
        fn incremental_update_leaves_a_header_that_verifies(
            bytes in any::<[u8; 20]>().prop_filter("not all zero", |b| b[..10].iter().any(|x| *x != 0)),
            address: u32,
            port: u16,
        ) {
            let mut header = bytes;
            header[18..].fill(0);
            let sum = plain(&header);
            let (old_address, old_port) = (
                u32::from_ne_bytes(header[12..16].try_into().unwrap()),
                u16::from_ne_bytes(header[16..18].try_into().unwrap()),
            );
            header[12..16].copy_from_slice(&address.to_ne_bytes());
            header[16..18].copy_from_slice(&port.to_ne_bytes());
            let new = Update::new(sum.to_be()).u32(old_address, address).u16(old_port, port).finish();
            header[18..].copy_from_slice(&new.to_ne_bytes());
            prop_assert_eq!(plain(&header), 0);
        }
    }
}

//! Tells files apart by a hash that stays the same: FNV-1a, 64 bits (Fowler, Noll, Vo).

/// A hash over bytes that are added in turn.
///
/// ```
/// let mut hash = elapse_core::base::Fnv::default();
/// hash.add(b"a");
/// assert_eq!(hash.0, 0xaf63_dc4c_8601_ec8c);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

//! Writer: appends octets, and fixes lengths that are known only at the end.

/// Octets of a message that is being written.
///
/// ```
/// use flowd::wire::Writer;
/// let mut writer = Writer::default();
/// let set_start = writer.len();
/// writer.u16(256);
/// let length = writer.length_slot();
/// writer.bytes(b"data");
/// writer.fix(length, set_start);
/// assert_eq!(writer.as_bytes(), b"\x01\x00\x00\x08data");
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

/// Where a length of two octets is to be fixed.
#[derive(Debug)]
#[must_use = "a length that nobody fixes stays 0"]
pub struct LengthSlot {
    at: usize,
}

impl Writer {
    /// An empty writer with memory for `size` octets.
    #[must_use]
    pub fn with_capacity(size: usize) -> Self {
        Self { bytes: Vec::with_capacity(size) }
    }

    /// Octets written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Is nothing written yet?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was written and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends octets.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends an octet.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Appends a number of two octets.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends a number of four octets.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends a number of eight octets.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// Appends `count` octets of zero.
    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len().saturating_add(count), 0);
    }

    /// Writes over what stands from `at` on; what would lie past the end is not written.
    pub fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        let present = self.bytes.iter_mut().skip(at);
        for (octet, &value) in present.zip(bytes) {
            *octet = value;
        }
    }

    /// Leaves room for a length, which [`Writer::fix`] puts in.
    pub fn length_slot(&mut self) -> LengthSlot {
        let at = self.bytes.len();
        self.u16(0);
        LengthSlot { at }
    }

    /// Puts the number of octets from `start` to the end into the slot.
    ///
    /// # Panics
    /// If that is more than 65,535: whoever writes a set bounds it first.
    pub fn fix(&mut self, slot: LengthSlot, start: usize) {
        let LengthSlot { at } = slot;
        let size = self.bytes.len().saturating_sub(start);
        let length = u16::try_from(size).expect("a set is bounded by its message");
        self.overwrite(at, &length.to_be_bytes());
    }
}

//! What messages of a template have in common: NetFlow v9 and IPFIX alike.

/// Octets that fit an Ethernet frame beside IPv4 and IPv6 headers and some encapsulation.
pub(crate) const MESSAGE_SIZE_MAX: usize = 1_432;
/// Octets of a set's id and length.
pub(crate) const SET_HEADER_SIZE: usize = 4;
/// The id of the one template.
pub(crate) const TEMPLATE_ID: u16 = 256;

/// Where a message stands in its exporter's stream.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Seconds since 1970.
    pub unix_seconds: u32,
    /// Milliseconds since the exporter's boot, at that second; IPFIX does not tell it.
    pub uptime_millis: u32,
    /// Messages, in IPFIX Data Records, sent before this one.
    pub sequence: u32,
    /// Source ID or Observation Domain ID.
    pub domain: u32,
}

/// Octets of a record of these elements and lengths.
pub(crate) const fn record_size(fields: &[(u16, u16)]) -> usize {
    let mut size = 0;
    let mut field = 0;
    while field < fields.len() {
        size += fields[field].1 as usize;
        field += 1;
    }
    size
}

/// Octets of the set with the template.
pub(crate) const fn template_set_size(fields: &[(u16, u16)]) -> usize {
    SET_HEADER_SIZE + 4 + 4 * fields.len()
}

/// Records that fit a message beside its header and the template.
pub(crate) const fn records_max(header_size: usize, fields: &[(u16, u16)]) -> usize {
    (MESSAGE_SIZE_MAX - header_size - template_set_size(fields) - SET_HEADER_SIZE)
        / record_size(fields)
}

/// Appends the set with the template.
pub(crate) fn push_template(out: &mut Vec<u8>, set_id: u16, fields: &[(u16, u16)]) {
    let words = [set_id, template_set_size(fields) as u16, TEMPLATE_ID, fields.len() as u16];
    for word in words.into_iter().chain(fields.iter().flat_map(|&(id, size)| [id, size])) {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// Appends the header of the set with the records: `size` octets of them, padding included.
pub(crate) fn push_set_header(out: &mut Vec<u8>, size: usize) {
    for word in [TEMPLATE_ID, (SET_HEADER_SIZE + size) as u16] {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

//! The header of requests and responses.

/// Its length.
pub const HEADER: usize = 24;
/// First byte of a request.
pub const MAGIC_REQUEST: u8 = 0x80;
/// First byte of a response.
pub const MAGIC_RESPONSE: u8 = 0x81;

/// The header of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// [`MAGIC_REQUEST`] or [`MAGIC_RESPONSE`].
    pub magic: u8,
    /// See [`Opcode`](super::Opcode). A response bears the opcode that was sent, quiet ones as well.
    pub opcode: u8,
    /// Bytes of key.
    pub key_len: u16,
    /// Bytes of extras.
    pub extras_len: u8,
    /// Reserved.
    pub data_type: u8,
    /// The virtual bucket of a request, which memcached ignores; the [`status`](super::status) of a response.
    pub status_or_vbucket: u16,
    /// Bytes behind the header: extras, key and value.
    pub body_len: u32,
    /// Reflected untouched.
    pub opaque: u32,
    /// The item's version; in a request, 0 compares nothing.
    pub cas: u64,
}

impl Header {
    /// Reads the header at the beginning of `input`, whatever its magic; nothing before it has all arrived.
    pub fn read(input: &[u8]) -> Option<Self> {
        let bytes = input.first_chunk::<HEADER>()?;
        let [magic, opcode, k0, k1, extras_len, data_type, s0, s1, b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] =
            *bytes;
        Some(Self {
            magic,
            opcode,
            key_len: u16::from_be_bytes([k0, k1]),
            extras_len,
            data_type,
            status_or_vbucket: u16::from_be_bytes([s0, s1]),
            body_len: u32::from_be_bytes([b0, b1, b2, b3]),
            opaque: u32::from_be_bytes([o0, o1, o2, o3]),
            cas: u64::from_be_bytes(cas),
        })
    }

    /// Appends the header.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.magic, self.opcode]);
        out.extend_from_slice(&self.key_len.to_be_bytes());
        out.extend_from_slice(&[self.extras_len, self.data_type]);
        out.extend_from_slice(&self.status_or_vbucket.to_be_bytes());
        out.extend_from_slice(&self.body_len.to_be_bytes());
        out.extend_from_slice(&self.opaque.to_be_bytes());
        out.extend_from_slice(&self.cas.to_be_bytes());
    }

    /// Bytes of value, by this header; 0 when extras and key alone exceed the body.
    pub fn value_len(&self) -> u32 {
        self.body_len.saturating_sub(u32::from(self.extras_len) + u32::from(self.key_len))
    }
}

/// Appends a response that says no: `text` is its value.
pub fn write_error(opcode: u8, status: u16, opaque: u32, text: &[u8], out: &mut Vec<u8>) {
    let header = Header {
        magic: MAGIC_RESPONSE,
        opcode,
        status_or_vbucket: status,
        body_len: u32::try_from(text.len()).unwrap_or(u32::MAX),
        opaque,
        ..Header::default()
    };
    header.write(out);
    out.extend_from_slice(text);
}

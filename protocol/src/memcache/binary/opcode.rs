//! The opcodes that memcached serves, and which is the loud form of a quiet one.

macro_rules! opcodes {
    ($($name:ident = $byte:literal,)*) => {
        /// What a packet asks for. A name that ends in `Q` is the quiet form: it answers failures alone, a quiet
        /// retrieval hits alone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "memcached's own names")]
        pub enum Opcode {
            $($name,)*
            /// Not served.
            Unknown(u8),
        }

        impl Opcode {
            /// Every opcode that is served.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The opcode of a byte.
            pub fn from_byte(byte: u8) -> Self {
                match byte {
                    $($byte => Self::$name,)*
                    byte => Self::Unknown(byte),
                }
            }

            /// Its byte.
            pub fn to_byte(self) -> u8 {
                match self {
                    $(Self::$name => $byte,)*
                    Self::Unknown(byte) => byte,
                }
            }
        }
    };
}

opcodes! {
    Get = 0x00,
    Set = 0x01,
    Add = 0x02,
    Replace = 0x03,
    Delete = 0x04,
    Increment = 0x05,
    Decrement = 0x06,
    Quit = 0x07,
    Flush = 0x08,
    GetQ = 0x09,
    Noop = 0x0a,
    Version = 0x0b,
    GetK = 0x0c,
    GetKQ = 0x0d,
    Append = 0x0e,
    Prepend = 0x0f,
    Stat = 0x10,
    SetQ = 0x11,
    AddQ = 0x12,
    ReplaceQ = 0x13,
    DeleteQ = 0x14,
    IncrementQ = 0x15,
    DecrementQ = 0x16,
    QuitQ = 0x17,
    FlushQ = 0x18,
    AppendQ = 0x19,
    PrependQ = 0x1a,
    Touch = 0x1c,
    Gat = 0x1d,
    GatQ = 0x1e,
    SaslList = 0x20,
    SaslAuth = 0x21,
    SaslStep = 0x22,
    GatK = 0x23,
    GatKQ = 0x24,
}

impl Opcode {
    /// The form that answers every outcome; nothing for an opcode that is loud itself.
    pub fn loud(self) -> Option<Self> {
        Some(match self {
            Self::GetQ => Self::Get,
            Self::GetKQ => Self::GetK,
            Self::SetQ => Self::Set,
            Self::AddQ => Self::Add,
            Self::ReplaceQ => Self::Replace,
            Self::DeleteQ => Self::Delete,
            Self::IncrementQ => Self::Increment,
            Self::DecrementQ => Self::Decrement,
            Self::QuitQ => Self::Quit,
            Self::FlushQ => Self::Flush,
            Self::AppendQ => Self::Append,
            Self::PrependQ => Self::Prepend,
            Self::GatQ => Self::Gat,
            Self::GatKQ => Self::GatK,
            _ => return None,
        })
    }

    /// Whether this form keeps memcached from sending a response of that status.
    pub fn quiet_hides(self, status: u16) -> bool {
        match self {
            Self::GetQ | Self::GetKQ | Self::GatQ | Self::GatKQ => status == super::status::KEY_NOT_FOUND,
            _ => self.loud().is_some() && status == super::status::SUCCESS,
        }
    }
}

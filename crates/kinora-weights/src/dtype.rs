//! Number formats of stored tensors: scalars, and the blocks of GGUF files. How the blocks are read
//! is told in [`crate::decode`].

use std::fmt;

/// Number format of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Dtype {
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    /// Two numbers in a byte, the first in the upper half.
    F4E2M1,
    U16,
    I16,
    F16,
    Bf16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
}

/// Number in a GGUF file, format. Numbers that are not here are named by [`ggml_name`] only.
const GGML: [(u32, Dtype); 22] = [
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (10, Dtype::Q2K),
    (11, Dtype::Q3K),
    (12, Dtype::Q4K),
    (13, Dtype::Q5K),
    (14, Dtype::Q6K),
    (15, Dtype::Q8K),
    (20, Dtype::Iq4Nl),
    (23, Dtype::Iq4Xs),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (30, Dtype::Bf16),
    (39, Dtype::Mxfp4),
];

impl Dtype {
    /// Every format of safetensors files.
    pub const SAFETENSORS: [Dtype; 16] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::F8E4M3,
        Dtype::F8E5M2,
        Dtype::F8E8M0,
        Dtype::U16,
        Dtype::I16,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::U32,
        Dtype::I32,
        Dtype::F32,
        Dtype::U64,
        Dtype::I64,
        Dtype::F64,
    ];

    /// Every format of GGUF files.
    pub fn all_ggml() -> impl Iterator<Item = Dtype> {
        GGML.into_iter().map(|(_, dtype)| dtype)
    }

    /// The name in a safetensors header, or the one that GGUF's makers use.
    pub fn as_str(self) -> &'static str {
        match self {
            Dtype::Bool => "BOOL",
            Dtype::U8 => "U8",
            Dtype::I8 => "I8",
            Dtype::F8E4M3 => "F8_E4M3",
            Dtype::F8E5M2 => "F8_E5M2",
            Dtype::F8E8M0 => "F8_E8M0",
            Dtype::F4E2M1 => "F4_E2M1",
            Dtype::U16 => "U16",
            Dtype::I16 => "I16",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::U32 => "U32",
            Dtype::I32 => "I32",
            Dtype::F32 => "F32",
            Dtype::U64 => "U64",
            Dtype::I64 => "I64",
            Dtype::F64 => "F64",
            Dtype::Q4_0 => "Q4_0",
            Dtype::Q4_1 => "Q4_1",
            Dtype::Q5_0 => "Q5_0",
            Dtype::Q5_1 => "Q5_1",
            Dtype::Q8_0 => "Q8_0",
            Dtype::Q2K => "Q2_K",
            Dtype::Q3K => "Q3_K",
            Dtype::Q4K => "Q4_K",
            Dtype::Q5K => "Q5_K",
            Dtype::Q6K => "Q6_K",
            Dtype::Q8K => "Q8_K",
            Dtype::Iq4Nl => "IQ4_NL",
            Dtype::Iq4Xs => "IQ4_XS",
            Dtype::Mxfp4 => "MXFP4",
        }
    }

    /// From the name in a safetensors header.
    pub fn parse(name: &str) -> Option<Self> {
        Self::SAFETENSORS
            .into_iter()
            .find(|dtype| dtype.as_str() == name)
    }

    /// From the number in a GGUF header.
    pub(crate) fn from_ggml(number: u32) -> Option<Self> {
        GGML.into_iter()
            .find(|(other, _)| *other == number)
            .map(|(_, dtype)| dtype)
    }

    /// Whether several numbers share one scale, so that single ones cannot be addressed.
    pub fn is_block(self) -> bool {
        self.block_len() > 1
    }

    /// Numbers in the smallest piece that can be read alone; 1 for scalars.
    pub fn block_len(self) -> usize {
        match self {
            Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1 | Dtype::Q8_0 => 32,
            Dtype::Iq4Nl | Dtype::Mxfp4 => 32,
            Dtype::Q2K | Dtype::Q3K | Dtype::Q4K | Dtype::Q5K | Dtype::Q6K | Dtype::Q8K => 256,
            Dtype::Iq4Xs => 256,
            Dtype::F4E2M1 => 2,
            _ => 1,
        }
    }

    /// Bytes of the smallest piece that can be read alone.
    pub fn block_bytes(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::F8E4M3 | Dtype::F8E5M2 | Dtype::F8E8M0 | Dtype::F4E2M1 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
            Dtype::Q4_0 | Dtype::Iq4Nl => 2 + 16,
            Dtype::Q4_1 => 4 + 16,
            Dtype::Q5_0 => 2 + 4 + 16,
            Dtype::Q5_1 => 4 + 4 + 16,
            Dtype::Q8_0 => 2 + 32,
            Dtype::Q2K => 16 + 64 + 4,
            Dtype::Q3K => 32 + 64 + 12 + 2,
            Dtype::Q4K => 4 + 12 + 128,
            Dtype::Q5K => 4 + 12 + 32 + 128,
            Dtype::Q6K => 128 + 64 + 16 + 2,
            Dtype::Q8K => 4 + 256 + 32,
            Dtype::Iq4Xs => 2 + 2 + 4 + 128,
            Dtype::Mxfp4 => 1 + 16,
        }
    }

    /// Bytes of so many numbers; None when they are no whole number of blocks, or too many.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let len = self.block_len() as u64;
        if !elements.is_multiple_of(len) {
            return None;
        }
        (elements / len).checked_mul(self.block_bytes() as u64)
    }

    /// Numbers in so many bytes.
    pub fn elements_of(self, bytes: usize) -> usize {
        bytes / self.block_bytes() * self.block_len()
    }
}

/// The name of a format in a GGUF header, known here or not.
pub(crate) fn ggml_name(number: u32) -> String {
    let name = match number {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        40 => "NVFP4",
        _ => return format!("number {number}"),
    };
    name.to_owned()
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

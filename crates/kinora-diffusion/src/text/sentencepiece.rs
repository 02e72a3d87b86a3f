//! A reader for SentencePiece models (`spiece.model`): just the fields that unigram and byte-pair
//! tokenizers need, out of a protocol buffer that nobody vouches for.
//!
//! Field numbers are those of `sentencepiece_model.proto`
//! (<https://github.com/google/sentencepiece>, Apache-2.0); the encoding is described at
//! <https://protobuf.dev/programming-guides/encoding/>.

/// What a tokenizer needs of a model.
#[derive(Debug, Default, PartialEq)]
pub(super) struct SentencePiece {
    /// How text is cut.
    pub algorithm: Algorithm,
    /// Pieces and their log-probabilities, in the order of their ids.
    pub pieces: Vec<(String, f64)>,
    /// What each piece is for.
    pub kinds: Vec<PieceKind>,
    /// Id of the piece for unknown text.
    pub unknown: usize,
    /// Compiled table of the normaliser; empty: text stays as it is.
    pub charsmap: Vec<u8>,
}

/// How text is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Into the likeliest pieces.
    #[default]
    Unigram,
    /// By joining pairs, the earliest learnt first.
    BytePairs,
}

/// What a piece is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// Text.
    Plain,
    /// Stands for unknown text.
    Unknown,
    /// A mark that no text has.
    Control,
    /// Text that is never cut.
    Whole,
    /// One byte of unknown text.
    Byte,
}

impl PieceKind {
    /// By the type's number in the file.
    fn of(number: u64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::Whole,
            6 => Self::Byte,
            _ => Self::Plain,
        }
    }
}

/// Reads a model. The error reads well after the file's name and a colon.
pub(super) fn parse(bytes: &[u8]) -> Result<SentencePiece, &'static str> {
    let mut model = SentencePiece::default();
    let mut unknown = None;
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(piece)) => {
                let (text, score, kind) = parse_piece(piece)?;
                if kind == PieceKind::Unknown {
                    unknown = Some(model.pieces.len());
                }
                model.pieces.push((text, f64::from(score)));
                model.kinds.push(kind);
            }
            (2, Value::Bytes(trainer)) => model.algorithm = parse_trainer(trainer)?,
            (3, Value::Bytes(normalizer)) => model.charsmap = parse_normalizer(normalizer)?,
            _ => {}
        }
    }
    if model.pieces.is_empty() {
        return Err("it has no pieces");
    }
    model.unknown = unknown.ok_or("it has no piece for unknown text")?;
    Ok(model)
}

fn parse_piece(bytes: &[u8]) -> Result<(String, f32, PieceKind), &'static str> {
    let (mut text, mut score, mut kind) = (None, 0.0, PieceKind::Plain);
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => {
                let piece = str::from_utf8(bytes).map_err(|_| "a piece is not UTF-8")?;
                text = Some(piece.to_owned());
            }
            (2, Value::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Value::Number(number)) => kind = PieceKind::of(number),
            _ => {}
        }
    }
    if !score.is_finite() {
        return Err("a piece has a score that is not finite");
    }
    Ok((text.ok_or("a piece has no text")?, score, kind))
}

fn parse_trainer(bytes: &[u8]) -> Result<Algorithm, &'static str> {
    let mut algorithm = Algorithm::default();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        if field == 3 {
            algorithm = match value {
                Value::Number(1) => Algorithm::Unigram,
                Value::Number(2) => Algorithm::BytePairs,
                _ => return Err("its algorithm is neither unigrams nor byte pairs"),
            };
        }
    }
    Ok(algorithm)
}

fn parse_normalizer(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut charsmap = Vec::new();
    let mut fields = Fields(bytes);
    while let Some((field, value)) = fields.next()? {
        if let (2, Value::Bytes(bytes)) = (field, value) {
            charsmap = bytes.to_vec();
        }
    }
    Ok(charsmap)
}

/// The fields of one message, one after another.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Fixed32(u32),
    /// Text, bytes, or a message inside.
    Bytes(&'a [u8]),
    /// A double or a fixed 64-bit number; no field that is read here has one.
    Fixed64,
}

const CUT_OFF: &str = "it is cut off";

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.read_varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.read_varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.read_varint()?;
                Value::Bytes(self.take(usize::try_from(len).map_err(|_| CUT_OFF)?)?)
            }
            5 => {
                let bits = *self.take(4)?.first_chunk().ok_or(CUT_OFF)?;
                Value::Fixed32(u32::from_le_bytes(bits))
            }
            _ => return Err("it is no SentencePiece model"),
        };
        Ok(Some((key >> 3, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number in groups of seven bits, the lowest first.
    fn read_varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("it holds a number of more than 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, bytes.len() as u8];
        out.extend_from_slice(bytes);
        out
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut inner = field(1, text.as_bytes());
        inner.push(2 << 3 | 5);
        inner.extend(score.to_le_bytes());
        inner.extend([3 << 3, kind]);
        field(1, &inner)
    }

    fn model() -> Vec<u8> {
        let mut bytes = piece("<pad>", 0.0, 3);
        bytes.extend(piece("<unk>", 0.0, 2));
        bytes.extend(piece("▁a", -1.5, 1));
        bytes.extend(field(2, &[3 << 3, 1]));
        bytes.extend(field(3, &field(2, b"map")));
        // A field of a later version.
        bytes.extend([9 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_model_is_read() {
        let expected = SentencePiece {
            pieces: vec![
                ("<pad>".into(), 0.0),
                ("<unk>".into(), 0.0),
                ("▁a".into(), -1.5),
            ],
            algorithm: Algorithm::Unigram,
            kinds: vec![PieceKind::Control, PieceKind::Unknown, PieceKind::Plain],
            unknown: 1,
            charsmap: b"map".to_vec(),
        };
        assert_eq!(parse(&model()), Ok(expected));
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(parse(b""), Err("it has no pieces"));
        assert_eq!(
            parse(&piece("a", 0.0, 1)),
            Err("it has no piece for unknown text")
        );
        let nan = parse(&piece("a", f32::NAN, 2));
        assert_eq!(nan, Err("a piece has a score that is not finite"));
        let words = [model(), field(2, &[3 << 3, 3])].concat();
        assert_eq!(
            parse(&words),
            Err("its algorithm is neither unigrams nor byte pairs")
        );
        assert_eq!(
            parse(&[0xff; 20]),
            Err("it holds a number of more than 64 bits")
        );
        assert_eq!(parse(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(CUT_OFF));
        assert_eq!(parse(&[0x0b]), Err("it is no SentencePiece model"));
    }

    /// Every cut and every changed byte is an answer, never a panic.
    #[test]
    fn damaged_models_never_panic() {
        let bytes = model();
        for at in 0..bytes.len() {
            let _ = parse(&bytes[..at]);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let _ = parse(&changed);
            }
        }
        assert!(parse(&bytes[..bytes.len() - 1]).is_err());
    }
}

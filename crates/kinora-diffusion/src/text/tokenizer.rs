//! Prompts to token ids, exactly as the reference library's tokenizers give them.
//!
//! Files are taken as they are published: `tokenizer.json`, or CLIP's `vocab.json` with
//! `merges.txt`, or T5's `spiece.model`. The rules that the latter two do not spell out (how text
//! is normalised and split) are those of `transformers/models/{clip,t5}/tokenization_*.py`.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use flate2::read::GzDecoder;
use kinora_weights::read_file_bounded;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokenizers::{
    AddedToken, NormalizerWrapper, PreTokenizerWrapper, Tokenizer as Inner,
    models::{
        bpe::{BPE, Vocab},
        unigram::Unigram,
    },
    normalizers::{
        Lowercase, NFC, Precompiled, Replace, Sequence as NormalizerSequence,
        replace::ReplacePattern,
    },
    pre_tokenizers::{
        byte_level::ByteLevel,
        metaspace::{Metaspace, PrependScheme},
        sequence::Sequence as SplitSequence,
        split::{Split, SplitPattern},
        whitespace::WhitespaceSplit,
    },
    processors::{roberta::RobertaProcessing, template::TemplateProcessing},
    tokenizer::SplitDelimiterBehavior,
};

use super::sentencepiece::{self, Algorithm, PieceKind, SentencePiece};
use crate::{Error, Result};

/// The largest published tokenizer file has 17 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// How CLIP cuts text into words before it looks for byte pairs.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The byte pairs of OpenAI's CLIP, 48,894 lines: every published CLIP text encoder was trained with
/// them. Files in one piece come without a tokenizer.
const CLIP_MERGES: &[u8] = include_bytes!("clip_merges.txt.gz");

/// The pieces of Google's T5 with their scores and the table of its normaliser, as a `spiece.model`
/// without notes on its training: every published T5 text encoder was trained with them. Files in
/// one piece come without a tokenizer.
const T5_SPIECE: &[u8] = include_bytes!("t5_spiece.model.gz");

/// Tokens that T5 sets aside at the end of its table, when its configuration does not tell.
const T5_EXTRA_IDS: u32 = 100;

/// A tokenizer with its padding.
pub struct Tokenizer {
    inner: Inner,
    path: PathBuf,
    pad: u32,
    end: u32,
    max_length: Option<usize>,
    /// Computed when it is asked for.
    digest: OnceLock<String>,
}

impl Tokenizer {
    /// Opens CLIP's tokenizer in its folder.
    pub fn open_clip(folder: &Path) -> Result<Self> {
        let settings = Settings::read(folder)?;
        let inner = match read_tokenizer_json(folder)? {
            Some(inner) => inner,
            None => build_clip(folder, &settings)?,
        };
        Self::new(inner, folder, &settings, "<|endoftext|>", "<|endoftext|>")
    }

    /// CLIP's own tokenizer, which comes with the program. `padding` is what short prompts are
    /// filled up with: `<|endoftext|>` in OpenAI's models, `!` in OpenCLIP's.
    pub fn clip(padding: &str) -> Result<Self> {
        let path = Path::new("the built-in tokenizer");
        let mut text = String::new();
        GzDecoder::new(CLIP_MERGES)
            .read_to_string(&mut text)
            .map_err(|error| fault(path, error))?;
        let merges = parse_merges(path, &text)?;
        let settings = Settings {
            pad_token: Some(SpecialToken::Text(padding.to_owned())),
            ..Settings::default()
        };
        let inner = assemble_clip(path, clip_vocab(&merges), merges, &settings)?;
        Self::new(inner, path, &settings, "<|endoftext|>", "<|endoftext|>")
    }

    /// Opens T5's tokenizer in its folder.
    pub fn open_t5(folder: &Path) -> Result<Self> {
        let settings = Settings::read(folder)?;
        let inner = match read_tokenizer_json(folder)? {
            Some(inner) => inner,
            None => {
                let path = folder.join("spiece.model");
                build_t5(&path, &read_file_bounded(&path, MAX_FILE_BYTES)?, &settings)?
            }
        };
        Self::new(inner, folder, &settings, "<pad>", "</s>")
    }

    /// T5's own tokenizer, which comes with the program.
    pub fn t5() -> Result<Self> {
        let path = Path::new("the built-in tokenizer");
        let mut bytes = Vec::new();
        GzDecoder::new(T5_SPIECE)
            .read_to_end(&mut bytes)
            .map_err(|error| fault(path, error))?;
        Self::from_spiece(path, &bytes)
    }

    /// Opens T5's tokenizer from the bytes of a `spiece.model` that another file carries.
    pub fn from_spiece(file: &Path, bytes: &[u8]) -> Result<Self> {
        let settings = Settings::default();
        let inner = build_t5(file, bytes, &settings)?;
        Self::new(inner, file, &settings, "<pad>", "</s>")
    }

    /// Opens Gemma's tokenizer from the bytes of a `tokenizer.model` that another file carries.
    pub fn gemma_from_spiece(file: &Path, bytes: &[u8]) -> Result<Self> {
        let model =
            sentencepiece::parse(bytes).map_err(|reason| Error::bad_weights(file, reason))?;
        let inner = build_gemma(file, model)?;
        Self::new(inner, file, &Settings::default(), "<pad>", "<eos>")
    }

    /// Opens Gemma's tokenizer in its folder.
    pub fn open_gemma(folder: &Path) -> Result<Self> {
        let settings = Settings::read(folder)?;
        let inner = read_tokenizer_json(folder)?
            .ok_or_else(|| Error::bad_weights(folder, "it has no tokenizer.json"))?;
        Self::new(inner, folder, &settings, "<pad>", "<eos>")
    }

    fn new(
        mut inner: Inner,
        folder: &Path,
        settings: &Settings,
        pad: &str,
        end: &str,
    ) -> Result<Self> {
        let pad = settings.pad_token.as_ref().map_or(pad, SpecialToken::text);
        let end = settings.eos_token.as_ref().map_or(end, SpecialToken::text);
        let id_of = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| Error::bad_weights(folder, format!("it has no token {token:?}")))
        };
        let (pad, end) = (id_of(pad)?, id_of(end)?);
        // Lengths are given with each prompt; what the file says about them does not count.
        inner
            .with_truncation(None)
            .map_err(|error| fault(folder, error))?;
        inner.with_padding(None);
        Ok(Self {
            inner,
            path: folder.to_owned(),
            pad,
            end,
            max_length: settings.max_length(),
            digest: OnceLock::new(),
        })
    }

    /// What tells it apart from others, for the names of kept texts: the SHA-256 of every file of its
    /// folder, in hex, with its ends. One that comes with the program, or from the file of its text
    /// encoder, has no folder.
    pub fn digest(&self) -> Result<&str> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest);
        }
        let mut hasher = Sha256::new();
        for id in [self.pad, self.end] {
            hasher.update(id.to_le_bytes());
        }
        if self.path.is_dir() {
            let entries = fs::read_dir(&self.path).map_err(Error::io(&self.path))?;
            let mut files = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
                .map_err(Error::io(&self.path))?;
            files.retain(|path| path.is_file());
            files.sort();
            for path in files {
                let name = path.file_name().unwrap_or_default().as_encoded_bytes();
                let bytes = read_file_bounded(&path, MAX_FILE_BYTES)?;
                for part in [name, &bytes] {
                    hasher.update((part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            }
        }
        let digest = format!("{:x}", hasher.finalize());
        Ok(self.digest.get_or_init(|| digest))
    }

    /// The length that the configuration names, if it does.
    pub fn max_length(&self) -> Option<usize> {
        self.max_length
    }

    /// The id that prompts are padded with.
    pub fn padding(&self) -> u32 {
        self.pad
    }

    /// Ids of a prompt, cut or padded to `length`. The last id of a prompt that was cut is the end
    /// token.
    pub fn encode(&self, prompt: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.encode_within(prompt, length)?;
        ids.resize(length, self.pad);
        Ok(ids)
    }

    /// Ids of a prompt, cut to `length` and not padded.
    pub fn encode_within(&self, prompt: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.encode_unpadded(prompt)?;
        if ids.len() > length {
            ids.truncate(length.saturating_sub(1));
            ids.push(self.end);
        }
        Ok(ids)
    }

    /// Ids of a prompt, cut to `length` without an end token, as Gemma's are.
    pub fn encode_cut(&self, prompt: &str, length: usize) -> Result<Vec<u32>> {
        let mut ids = self.encode_unpadded(prompt)?;
        ids.truncate(length);
        Ok(ids)
    }

    /// Ids of a prompt as long as it is, start and end tokens included.
    pub fn encode_unpadded(&self, prompt: &str) -> Result<Vec<u32>> {
        // Tables in the file are indexed by the tokenizers crate without a check: a damaged file
        // must not take the process down.
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode(prompt, true)))
            .map_err(|_| Error::bad_weights(&self.path, "the tokenizer's tables are damaged"))?
            .map_err(|error| fault(&self.path, error))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// `tokenizer_config.json`, as far as it counts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    pad_token: Option<SpecialToken>,
    eos_token: Option<SpecialToken>,
    bos_token: Option<SpecialToken>,
    unk_token: Option<SpecialToken>,
    extra_ids: Option<u32>,
    model_max_length: Option<f64>,
}

/// A token by its text, or by its text and how it is matched.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Described {
        content: String,
        #[serde(default)]
        lstrip: bool,
        #[serde(default)]
        rstrip: bool,
        #[serde(default)]
        single_word: bool,
        #[serde(default)]
        normalized: bool,
    },
}

impl SpecialToken {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Described { content: text, .. } => text,
        }
    }

    fn to_added(&self) -> AddedToken {
        match self {
            Self::Text(text) => AddedToken::from(text.clone(), true),
            Self::Described {
                content,
                lstrip,
                rstrip,
                single_word,
                normalized,
            } => AddedToken::from(content.clone(), true)
                .lstrip(*lstrip)
                .rstrip(*rstrip)
                .single_word(*single_word)
                .normalized(*normalized),
        }
    }
}

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        if !path.is_file() {
            return Ok(Self::default());
        }
        let bytes = read_file_bounded(&path, MAX_FILE_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|error| fault(&path, error))
    }

    /// Files without a limit write a huge number.
    fn max_length(&self) -> Option<usize> {
        let length = self.model_max_length?;
        (1.0..=65536.0).contains(&length).then_some(length as usize)
    }
}

fn read_tokenizer_json(folder: &Path) -> Result<Option<Inner>> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_file_bounded(&path, MAX_FILE_BYTES)?;
    let inner = catch_unwind(|| Inner::from_bytes(bytes))
        .map_err(|_| Error::bad_weights(&path, "the tokenizer's tables are damaged"))?
        .map_err(|error| fault(&path, error))?;
    Ok(Some(inner))
}

fn build_clip(folder: &Path, settings: &Settings) -> Result<Inner> {
    let path = folder.join("vocab.json");
    let bytes = read_file_bounded(&path, MAX_FILE_BYTES)?;
    let vocab: HashMap<String, u32> =
        serde_json::from_slice(&bytes).map_err(|error| fault(&path, error))?;
    let merges = read_merges(&folder.join("merges.txt"))?;
    assemble_clip(folder, vocab, merges, settings)
}

/// CLIP's table, in the order in which OpenAI's program builds it (`clip/simple_tokenizer.py`): the
/// 256 letters that stand for bytes, each again as the end of a word, the joined pairs, and the two
/// marks.
fn clip_vocab(merges: &[(String, String)]) -> HashMap<String, u32> {
    let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let plain = (0..=255u8).filter(is_plain).map(char::from);
    // Bytes that show as nothing get letters from beyond Latin 1, in their order.
    let others = (0..=255u8).filter(|byte| !is_plain(byte)).count() as u32;
    let others = (256..256 + others).filter_map(char::from_u32);
    let letters: Vec<String> = plain.chain(others).map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let pairs = merges
        .iter()
        .map(|(first, second)| format!("{first}{second}"));
    let marks = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    (letters.iter().cloned())
        .chain(ends)
        .chain(pairs)
        .chain(marks)
        .zip(0..)
        .collect()
}

/// `folder` is where it comes from, for messages.
fn assemble_clip(
    folder: &Path,
    vocab: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    settings: &Settings,
) -> Result<Inner> {
    let token = |token: &Option<SpecialToken>, usual: &str| match token {
        Some(token) => token.to_added(),
        None => AddedToken::from(usual, true).normalized(true),
    };
    let start = token(&settings.bos_token, "<|startoftext|>");
    let end = token(&settings.eos_token, "<|endoftext|>");
    let unknown = token(&settings.unk_token, "<|endoftext|>");
    let model = BPE::builder()
        .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
        .unk_token(unknown.content.clone())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| fault(folder, error))?;
    let mut inner = Inner::new(model);
    let fault = |error| fault(folder, error);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(fault)?;
    inner
        .with_normalizer(Some(NormalizerSequence::new(vec![
            NormalizerWrapper::NFC(NFC),
            NormalizerWrapper::Replace(spaces),
            NormalizerWrapper::Lowercase(Lowercase),
        ])))
        .map_err(fault)?;
    let words = SplitPattern::Regex(CLIP_WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(fault)?;
    inner.with_pre_tokenizer(Some(SplitSequence::new(vec![
        PreTokenizerWrapper::Split(words),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
    ])));
    let names = [start.content.clone(), end.content.clone()];
    let mut specials = vec![start, end, unknown];
    // OpenCLIP pads with "!", which is then no letter in a prompt either.
    if let Some(pad) = settings.pad_token.as_ref().map(SpecialToken::to_added)
        && specials.iter().all(|other| other.content != pad.content)
    {
        specials.push(pad);
    }
    inner.add_special_tokens(specials).map_err(fault)?;
    let [start, end] = names.map(|name| {
        let id = inner.token_to_id(&name);
        id.map(|id| (name.clone(), id))
            .ok_or_else(|| Error::bad_weights(folder, format!("it has no token {name:?}")))
    });
    let around = RobertaProcessing::new(end?, start?)
        .trim_offsets(false)
        .add_prefix_space(false);
    inner.with_post_processor(Some(around));
    Ok(inner)
}

fn read_merges(path: &Path) -> Result<Vec<(String, String)>> {
    let bytes = read_file_bounded(path, MAX_FILE_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| fault(path, error))?;
    parse_merges(path, &text)
}

fn parse_merges(path: &Path, text: &str) -> Result<Vec<(String, String)>> {
    text.lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .map(|line| {
            let (first, second) = line
                .split_once(' ')
                .ok_or_else(|| Error::bad_weights(path, format!("{line:?} is not a pair")))?;
            Ok((first.to_owned(), second.to_owned()))
        })
        .collect()
}

/// `path` is where the bytes come from, for messages.
fn build_t5(path: &Path, bytes: &[u8], settings: &Settings) -> Result<Inner> {
    let mut model =
        sentencepiece::parse(bytes).map_err(|reason| Error::bad_weights(path, reason))?;
    if model.algorithm != Algorithm::Unigram {
        let reason = "it is not a tokenizer of T5: its algorithm is not the unigram one";
        return Err(Error::bad_weights(path, reason));
    }
    let extra = settings.extra_ids.unwrap_or(T5_EXTRA_IDS);
    if extra > 10_000 {
        return Err(Error::bad_weights(
            path,
            format!("it has {extra} extra ids"),
        ));
    }
    let extra: Vec<String> = (0..extra)
        .rev()
        .map(|id| format!("<extra_id_{id}>"))
        .collect();
    model
        .pieces
        .extend(extra.iter().map(|name| (name.clone(), 0.0)));
    let fault = |error| fault(path, error);
    let unigram = Unigram::from(model.pieces, Some(model.unknown), false).map_err(fault)?;
    let mut inner = Inner::new(unigram);
    if !model.charsmap.is_empty() {
        let normalizer = catch_unwind(|| Precompiled::from(&model.charsmap))
            .map_err(|_| Error::bad_weights(path, "its normaliser is damaged"))?
            .map_err(|error| fault(Box::new(error)))?;
        inner.with_normalizer(Some(normalizer)).map_err(fault)?;
    }
    inner.with_pre_tokenizer(Some(SplitSequence::new(vec![
        PreTokenizerWrapper::WhitespaceSplit(WhitespaceSplit),
        PreTokenizerWrapper::Metaspace(Metaspace::new('▁', PrependScheme::Always, true)),
    ])));
    let token = |token: &Option<SpecialToken>, usual: &str| match token {
        Some(token) => token.to_added(),
        None => AddedToken::from(usual, true),
    };
    let end = token(&settings.eos_token, "</s>");
    let specials = [
        end.clone(),
        token(&settings.unk_token, "<unk>"),
        token(&settings.pad_token, "<pad>"),
    ];
    let extra = extra.into_iter().map(|name| AddedToken::from(name, true));
    inner
        .add_special_tokens(specials.into_iter().chain(extra))
        .map_err(fault)?;
    let id = inner
        .token_to_id(&end.content)
        .ok_or_else(|| Error::bad_weights(path, format!("it has no token {:?}", end.content)))?;
    let template = TemplateProcessing::builder()
        .try_single(vec!["$A".to_owned(), end.content.clone()])
        .map_err(|error| Error::bad_weights(path, error))?
        .special_tokens(vec![(end.content, id)])
        .build()
        .map_err(|error| fault(Box::new(error)))?;
    inner.with_post_processor(Some(template));
    Ok(inner)
}

/// Gemma's tokenizer: pairs are joined in the order of what they make, spaces are written as `▁`, and
/// letters without a piece become bytes. Built as `SentencePieceExtractor` of the reference library
/// and `transformers/models/gemma/tokenization_gemma.py` do.
fn build_gemma(path: &Path, model: SentencePiece) -> Result<Inner> {
    if model.algorithm != Algorithm::BytePairs {
        let reason = "it is not a tokenizer of Gemma: its algorithm is not that of byte pairs";
        return Err(Error::bad_weights(path, reason));
    }
    let fault = |error| fault(path, error);
    let names: Vec<&str> = model.pieces.iter().map(|(name, _)| name.as_str()).collect();
    let vocab: HashMap<&str, u32> = names.iter().copied().zip(0..).collect();
    let mut merges = Vec::new();
    for (name, kind) in names.iter().zip(&model.kinds) {
        // The longest published piece has a hundred bytes; the work grows with the square.
        if matches!(kind, PieceKind::Control | PieceKind::Unknown) || name.len() > 1024 {
            continue;
        }
        for (at, _) in name.char_indices().skip(1) {
            let (first, second) = name.split_at(at);
            if vocab.contains_key(first) && vocab.contains_key(second) {
                merges.push((first.to_owned(), second.to_owned()));
            }
        }
    }
    let unknown = names[model.unknown].to_owned();
    let owned: Vocab = vocab
        .iter()
        .map(|(name, id)| ((*name).to_owned(), *id))
        .collect();
    let pairs = BPE::builder()
        .vocab_and_merges(owned, merges)
        .unk_token(unknown)
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(fault)?;
    let mut inner = Inner::new(pairs);
    let spaces = Replace::new(" ", "▁").map_err(fault)?;
    inner.with_normalizer(Some(spaces)).map_err(fault)?;
    let (mut marks, mut wholes) = (Vec::new(), Vec::new());
    for (name, kind) in names.iter().zip(&model.kinds) {
        match kind {
            PieceKind::Control | PieceKind::Unknown => {
                marks.push(AddedToken::from((*name).to_owned(), true));
            }
            PieceKind::Whole => {
                wholes.push(AddedToken::from((*name).to_owned(), false).normalized(false));
            }
            PieceKind::Plain | PieceKind::Byte => {}
        }
    }
    inner.add_special_tokens(marks).map_err(fault)?;
    inner.add_tokens(wholes).map_err(fault)?;
    let start = "<bos>";
    let id = vocab
        .get(start)
        .ok_or_else(|| Error::bad_weights(path, format!("it has no token {start:?}")))?;
    let template = TemplateProcessing::builder()
        .try_single(vec![start.to_owned(), "$A".to_owned()])
        .map_err(|error| Error::bad_weights(path, error))?
        .special_tokens(vec![(start.to_owned(), *id)])
        .build()
        .map_err(|error| fault(Box::new(error)))?;
    inner.with_post_processor(Some(template));
    Ok(inner)
}

/// A fault of a tokenizer's file.
fn fault(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::bad_weights(path, format!("the tokenizer is damaged: {}", error.into()))
}

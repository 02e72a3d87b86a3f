//! What encoders said of texts and given pictures, kept on disk: the second run of a prompt reads no
//! text encoder.
//!
//! One file for each text, named by the SHA-256 of everything that decides its content: the encoders'
//! files and configurations, the tokenizers, what adapters change in the encoders, device and number
//! format, revision of the encoders, lengths, and the text itself. Names and contents hold no word of the
//! text. Files are complete or not there, and carry a digest of their content; one that does not fit
//! it is removed. The files that were used longest ago leave when the folder grows too large. Several
//! processes may share a folder.

use std::{
    fs::{self, File, FileTimes},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use candle_core::{DType, Device, Tensor};
use kinora_weights::{Dtype, Header, WeightSet, lora::LoraComponent};

use super::{
    checkpoint::Identity,
    tensor_file::{TensorFile, write_atomically},
};
use crate::{Error, Result, adapters::Adapted};

/// Which revision of tokenizers and text encoders made an entry. A change that alters one bit of what
/// they say gets a new name here.
pub(crate) const TEXT_NUMERICS: &str = "2026.1";

/// Of a file's layout; a file of another version is not used.
const VERSION: &str = "1";
/// No text becomes as much, in bytes.
const MAX_ENTRY: u64 = 256 << 20;
/// What a file is called after its name.
const EXTENSION: &str = "safetensors";
/// Characters of a name: a SHA-256 in hex.
const NAME_LENGTH: usize = 64;
/// A file that nobody has completed for so long was left by a process that ended.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Tells apart the files that this process writes at the same time.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A folder of encoded texts.
pub struct TextCache {
    folder: PathBuf,
    limit: u64,
    sha256_of: HashOf,
}

/// The SHA-256 of a file, where it is known.
type HashOf = Box<dyn Fn(&Path) -> Option<String> + Send + Sync>;

impl std::fmt::Debug for TextCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TextCache({}, {} bytes)",
            self.folder.display(),
            self.limit
        )
    }
}

/// The kept texts of one model in one state.
pub(crate) struct KeptTexts<'a> {
    cache: &'a TextCache,
    /// Everything but the text, by what files hold. None while that is not known of each.
    by_content: Option<Identity>,
    /// The same by which files there are and when they were changed.
    by_state: Identity,
    /// Where tensors come to.
    device: Device,
}

/// The texts of a run, or none where what decides them cannot be told: everything is encoded then, and
/// no job fails for it.
pub(crate) fn or_none<T>(texts: Result<Option<T>>) -> Option<T> {
    texts.unwrap_or_else(|error| {
        tracing::warn!(%error, "encoded texts are neither looked for nor kept");
        None
    })
}

impl TextCache {
    /// A cache in a folder, which is made when it is needed, of at most `limit` bytes. `sha256_of`
    /// tells what a weight file holds, where that is known without reading it.
    pub fn new(
        folder: impl Into<PathBuf>,
        limit: u64,
        sha256_of: impl Fn(&Path) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            folder: folder.into(),
            limit,
            sha256_of: Box::new(sha256_of),
        }
    }

    /// The texts of a model: `purpose` tells what is done with them, `device` and `dtype` what it is
    /// computed in. Encoders and the like are [added](KeptTexts::add).
    pub(crate) fn of(&self, purpose: &str, device: &Device, dtype: DType) -> KeptTexts<'_> {
        let mut identity = Identity::new();
        // The order of additions differs between kinds of devices and of processors.
        let kind = match device.is_cpu() {
            true => std::env::consts::ARCH,
            false => "gpu",
        };
        for part in [TEXT_NUMERICS, purpose, kind, dtype.as_str()] {
            identity.add(part.as_bytes());
        }
        KeptTexts {
            cache: self,
            by_content: Some(identity.clone()),
            by_state: identity,
            device: device.clone(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(EXTENSION)
    }

    /// What was kept under a name. A file that holds something else is removed.
    fn read<const N: usize>(
        &self,
        name: &str,
        parts: [&str; N],
        device: &Device,
    ) -> Option<[Tensor; N]> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "could not look for an encoded text");
                return None;
            }
        }
        match read_entry(&path, name, parts, device) {
            Ok(tensors) => {
                // For the order in which they leave; a folder that may only be read works without.
                let used = FileTimes::new().set_modified(SystemTime::now());
                let _ = File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_times(used));
                Some(tensors)
            }
            Err(error) => {
                tracing::warn!(%error, "an encoded text is of no use; it is computed anew");
                // Who cannot remove it cannot replace it either and goes on without.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    fn write(&self, name: &str, tensors: &[(&str, &Tensor)]) -> Result<()> {
        let bytes = to_bytes(name, tensors)?;
        if bytes.len() as u64 > self.limit.min(MAX_ENTRY) {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder))?;
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}.{number}.part", std::process::id());
        let path = self.path(name);
        write_atomically(&path, &self.folder.join(temporary), &bytes).map_err(Error::io(&path))?;
        self.trim().map_err(Error::io(&self.folder))
    }

    /// Removes the files that were used longest ago until the rest fits, and what others left behind.
    /// Files that are none of ours stay.
    fn trim(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        let mut total = 0_u64;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // Another process may have removed it meanwhile.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            let Some(kind) = name
                .to_str()
                .and_then(kind_of)
                .filter(|_| metadata.is_file())
            else {
                continue;
            };
            let changed = metadata.modified()?;
            match kind {
                Kind::Entry => {
                    total = total.saturating_add(metadata.len());
                    entries.push((changed, metadata.len(), entry.path()));
                }
                Kind::Part if changed.elapsed().is_ok_and(|age| age > ABANDONED) => {
                    remove_if_there(&entry.path())?;
                }
                Kind::Part => {}
            }
        }
        entries.sort();
        for (_, bytes, path) in entries {
            if total <= self.limit {
                break;
            }
            remove_if_there(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

impl KeptTexts<'_> {
    /// Adds something that decides what is said.
    pub fn add(&mut self, part: &[u8]) {
        self.by_state.add(part);
        if let Some(identity) = &mut self.by_content {
            identity.add(part);
        }
    }

    /// Adds a file.
    pub fn add_file(&mut self, path: &Path) -> Result<()> {
        let metadata = fs::metadata(path).map_err(Error::io(path))?;
        let state = [
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime() as u64,
            metadata.mtime_nsec() as u64,
        ];
        self.by_state.add(&state.map(u64::to_le_bytes).concat());
        let content = (self.cache.sha256_of)(path);
        self.by_content = self
            .by_content
            .take()
            .zip(content)
            .map(|(mut own, sha256)| {
                own.add(sha256.as_bytes());
                own
            });
        Ok(())
    }

    /// Adds what adapters change of these components.
    pub fn add_adapters(&mut self, adapted: &Adapted, components: &[LoraComponent]) -> Result<()> {
        for (path, weight) in adapted.changing(components) {
            self.add_file(path)?;
            self.add(&weight.to_bits().to_le_bytes());
        }
        Ok(())
    }

    /// Names of a text's file: by content if that is known, by state.
    fn names(&self, text: &[u8], numbers: &[usize]) -> (Option<String>, String) {
        let numbers: Vec<u8> = numbers
            .iter()
            .flat_map(|number| (*number as u64).to_le_bytes())
            .collect();
        let name = |identity: &Identity| {
            let mut identity = identity.clone();
            identity.add(text);
            identity.add(&numbers);
            identity.finish()
        };
        (self.by_content.as_ref().map(name), name(&self.by_state))
    }

    /// What was said of a text, if it was kept: as many tensors as `parts` names. `numbers` are what
    /// decides how the text is read: lengths and the like.
    pub fn find<const N: usize>(
        &self,
        text: impl AsRef<[u8]>,
        numbers: &[usize],
        parts: [&str; N],
    ) -> Option<[Tensor; N]> {
        let (by_content, by_state) = self.names(text.as_ref(), numbers);
        if let Some(name) = &by_content
            && let Some(tensors) = self.cache.read(name, parts, &self.device)
        {
            return Some(tensors);
        }
        let tensors = self.cache.read(&by_state, parts, &self.device)?;
        if by_content.is_some() {
            // It was kept before anybody had read what the weight files hold.
            let named: Vec<_> = parts.into_iter().zip(&tensors).collect();
            self.keep(text, numbers, &named);
            // It leaves by its age otherwise.
            let _ = fs::remove_file(self.cache.path(&by_state));
        }
        Some(tensors)
    }

    /// Keeps what was said of a text. One that cannot be kept is encoded again the next time.
    pub fn keep(&self, text: impl AsRef<[u8]>, numbers: &[usize], tensors: &[(&str, &Tensor)]) {
        let (by_content, by_state) = self.names(text.as_ref(), numbers);
        let name = by_content.unwrap_or(by_state);
        if let Err(error) = self.cache.write(&name, tensors) {
            tracing::warn!(%error, "could not keep an encoded text");
        }
    }
}

/// Files of the folder that are ours.
enum Kind {
    Entry,
    /// On its way.
    Part,
}

fn kind_of(name: &str) -> Option<Kind> {
    let is_name =
        |name: &str| name.len() == NAME_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(part) = name.strip_prefix('.') {
        let (name, rest) = part.split_once('.')?;
        return (is_name(name) && rest.ends_with(".part")).then_some(Kind::Part);
    }
    let (name, extension) = name.split_once('.')?;
    (is_name(name) && extension == EXTENSION).then_some(Kind::Entry)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Number formats of the tensors that are kept, as files call them.
fn name_of(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("F32"),
        DType::F16 => Some("F16"),
        DType::BF16 => Some("BF16"),
        _ => None,
    }
}

fn dtype_of(stored: Dtype) -> Option<DType> {
    match stored {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::Bf16 => Some(DType::BF16),
        _ => None,
    }
}

/// A tensor's numbers, little-endian and row by row.
fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => join(&flat.to_vec1::<f32>()?, f32::to_le_bytes),
        DType::F16 => join(&flat.to_vec1::<half::f16>()?, half::f16::to_le_bytes),
        _ => join(&flat.to_vec1::<half::bf16>()?, half::bf16::to_le_bytes),
    })
}

fn join<T: Copy, const B: usize>(values: &[T], to_bytes: fn(T) -> [u8; B]) -> Vec<u8> {
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

/// Over the name, and over every tensor with its name, format and shape.
struct EntryDigest(Identity);

impl EntryDigest {
    fn new(name: &str) -> Self {
        let mut identity = Identity::new();
        identity.add(name.as_bytes());
        Self(identity)
    }

    fn add(&mut self, part: &str, dtype: DType, shape: &[usize], bytes: &[u8]) {
        self.0
            .add(format!("{part} {} {shape:?}", dtype.as_str()).as_bytes());
        self.0.add(bytes);
    }
}

fn to_bytes(name: &str, tensors: &[(&str, &Tensor)]) -> Result<Vec<u8>> {
    let mut file = TensorFile::default();
    let mut digest = EntryDigest::new(name);
    for (part, tensor) in tensors {
        let dtype = tensor.dtype();
        let stored = name_of(dtype)
            .ok_or_else(|| Error::Shape(format!("keep a text as {}", dtype.as_str())))?;
        let bytes = bytes_of(tensor)?;
        digest.add(part, dtype, tensor.dims(), &bytes);
        file.add(part, stored, tensor.dims(), &bytes);
    }
    Ok(file.finish(serde_json::json!({
        "kinora_text": VERSION,
        "name": name,
        "digest": digest.0.finish(),
    })))
}

fn read_entry<const N: usize>(
    path: &Path,
    name: &str,
    parts: [&str; N],
    device: &Device,
) -> Result<[Tensor; N]> {
    let damaged = |reason: &str| Error::bad_weights(path, reason);
    let metadata = fs::symlink_metadata(path).map_err(Error::io(path))?;
    if !metadata.is_file() || metadata.len() > MAX_ENTRY {
        return Err(damaged("it is no encoded text"));
    }
    let (_, header) = Header::open(path)?;
    let field = |name: &str| header.metadata.get(name).map(String::as_str);
    if (field("kinora_text"), field("name")) != (Some(VERSION), Some(name)) {
        return Err(damaged("it is no encoded text of that name"));
    }
    let set = WeightSet::open_file(path)?;
    let mut digest = EntryDigest::new(name);
    let mut tensors = Vec::with_capacity(N);
    for part in parts {
        let view = set.get(part)?;
        let dtype =
            dtype_of(view.dtype).ok_or_else(|| damaged("its numbers have an unusual format"))?;
        let bytes = set.read(part)?;
        digest.add(part, dtype, &view.shape, &bytes);
        tensors.push((bytes, dtype, view.shape.clone()));
    }
    if field("digest") != Some(digest.0.finish().as_str()) {
        return Err(damaged("its content is not what was written"));
    }
    let tensors = tensors
        .into_iter()
        .map(|(bytes, dtype, shape)| Tensor::from_raw_buffer(&bytes, dtype, &shape, device))
        .collect::<candle_core::Result<Vec<_>>>()?;
    tensors
        .try_into()
        .map_err(|_| damaged("it holds too few tensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1 << 20;

    fn numbers(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    fn unknown(folder: &Path, limit: u64) -> TextCache {
        TextCache::new(folder, limit, |_| None)
    }

    fn texts(cache: &TextCache) -> KeptTexts<'_> {
        cache.of("test", &Device::Cpu, DType::F32)
    }

    fn find(cache: &TextCache, text: &str) -> Option<Vec<f32>> {
        let [tensor] = texts(cache).find(text, &[8], ["tokens"])?;
        Some(tensor.to_vec1().unwrap())
    }

    fn keep(cache: &TextCache, text: &str, values: &[f32]) {
        texts(cache).keep(text, &[8], &[("tokens", &numbers(values))]);
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_text_comes_back_with_the_same_bits_and_its_words_are_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let cache = unknown(&folder.path().join("texts"), LIMIT);
        assert_eq!(find(&cache, "a secret"), None);
        let values = [0.1, -0.0, f32::MIN_POSITIVE / 2.0, 3e38];
        keep(&cache, "a secret", &values);
        let found = find(&cache, "a secret").unwrap();
        assert_eq!(
            found.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
            values.map(f32::to_bits)
        );
        assert_eq!(find(&cache, "a secret "), None);
        let [file] = &files(&folder.path().join("texts"))[..] else {
            panic!("one file");
        };
        let held = [
            file.file_name().unwrap().as_encoded_bytes(),
            &fs::read(file).unwrap(),
        ]
        .concat();
        assert!(!held.windows(6).any(|part| part == b"secret"));

        let halves = numbers(&values[..2]).to_dtype(DType::BF16).unwrap();
        let parts = [("tokens", &halves), ("pooled", &numbers(&[1.0]))];
        texts(&cache).keep("b", &[], &parts);
        let found = texts(&cache).find("b", &[], ["tokens", "pooled"]);
        let [tokens, pooled] = found.unwrap();
        assert_eq!(
            tokens.to_vec1::<half::bf16>().unwrap(),
            halves.to_vec1::<half::bf16>().unwrap()
        );
        assert_eq!(pooled.to_vec1::<f32>().unwrap(), [1.0]);
    }

    #[test]
    fn whatever_decides_the_content_is_part_of_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        fs::write(&file, "1").unwrap();
        let cache = unknown(folder.path(), LIMIT);
        let sign = |purpose: &str, dtype, part: &[u8]| {
            let mut texts = cache.of(purpose, &Device::Cpu, dtype);
            texts.add_file(&file).unwrap();
            texts.add(part);
            let names = texts.names(b"text", &[8]);
            assert_ne!(names, texts.names(b"text", &[9]));
            names
        };
        let first = sign("a", DType::F32, b"x");
        assert_eq!(first, sign("a", DType::F32, b"x"));
        assert_eq!(first.0, None, "what the file holds is not known");
        assert_ne!(first, sign("b", DType::F32, b"x"));
        assert_ne!(first, sign("a", DType::BF16, b"x"));
        assert_ne!(first, sign("a", DType::F32, b"y"));
        fs::write(&file, "22").unwrap();
        assert_ne!(first, sign("a", DType::F32, b"x"));
    }

    #[test]
    fn files_that_hold_the_same_share_their_texts_once_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let weights = ["a", "b"].map(|name| folder.path().join(name));
        weights
            .iter()
            .for_each(|path| fs::write(path, "1").unwrap());
        let sign = |cache: &TextCache, path: &Path, text: Option<f32>| {
            let mut texts = texts(cache);
            texts.add_file(path).unwrap();
            match text {
                Some(value) => texts.keep("t", &[], &[("tokens", &numbers(&[value]))]),
                None => {
                    let found = texts.find("t", &[], ["tokens"]);
                    return found.map(|[tensor]| tensor.to_vec1::<f32>().unwrap());
                }
            }
            None
        };
        let kept = folder.path().join("kept");
        let unknown = unknown(&kept, LIMIT);
        let known = TextCache::new(&kept, LIMIT, |path| Some(fs::read_to_string(path).unwrap()));
        sign(&unknown, &weights[0], Some(7.0));
        assert_eq!(sign(&known, &weights[1], None), None);
        // The first look tells what the file holds, and from then on the other one has it too.
        assert_eq!(sign(&known, &weights[0], None), Some(vec![7.0]));
        assert_eq!(sign(&known, &weights[1], None), Some(vec![7.0]));
        assert_eq!(files(&kept).len(), 1);
    }

    #[test]
    fn damaged_files_are_removed_and_computed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = unknown(folder.path(), LIMIT);
        keep(&cache, "a", &[1.0, 2.0]);
        let [path] = &files(folder.path())[..] else {
            panic!("one file");
        };
        let whole = fs::read(path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for bytes in [&flipped[..], &whole[..whole.len() - 3], b"no tensors", b""] {
            fs::write(path, bytes).unwrap();
            assert_eq!(find(&cache, "a"), None);
            assert!(!path.exists());
        }
        // One under another one's name.
        keep(&cache, "b", &[3.0]);
        fs::rename(&files(folder.path())[0], path).unwrap();
        assert_eq!(find(&cache, "a"), None);
        keep(&cache, "a", &[1.0, 2.0]);
        assert_eq!(find(&cache, "a"), Some(vec![1.0, 2.0]));
    }

    #[test]
    fn what_was_used_longest_ago_leaves_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let foreign = folder.path().join("notes.txt");
        fs::write(&foreign, [0; 4000]).unwrap();
        let left = format!(".{}.1.0.part", "a".repeat(NAME_LENGTH));
        let left = folder.path().join(left);
        fs::write(&left, "half").unwrap();
        let long_ago = |path: &Path, seconds: u64| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(time).unwrap();
        };
        long_ago(&left, 7200);
        let cache = unknown(folder.path(), 3000);
        let values = [1.0; 256];
        // Nothing but the text decides here, so that the name is a lasting one.
        let name = texts(&cache).names(b"0", &[8]).0.unwrap();
        keep(&cache, "0", &values);
        keep(&cache, "1", &values);
        assert!(!left.exists());
        for (age, path) in (1..).zip(files(folder.path())) {
            if path != foreign {
                long_ago(&path, 100 * age);
            }
        }
        // Of two that are old, the one that was used last stays.
        assert!(find(&cache, "0").is_some());
        keep(&cache, "2", &values);
        assert!(cache.path(&name).exists());
        assert!(find(&cache, "0").is_some() && find(&cache, "2").is_some());
        assert_eq!(find(&cache, "1"), None);
        assert!(foreign.exists());
        // What is larger than everything together is not kept.
        keep(&cache, "3", &[1.0; 1000]);
        assert_eq!(find(&cache, "3"), None);
        assert!(find(&cache, "0").is_some());
    }
}

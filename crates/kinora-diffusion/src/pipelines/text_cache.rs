//! What encoders said of texts and given pictures, kept on disk: the second run of a prompt reads no
//! text encoder.
//!
//! One file for each text, named by the SHA-256 of everything that decides its content: the encoders'
//! files and configurations, the tokenizers, what adapters change in the encoders, device and number
//! format, revision of the encoders, lengths, and the text itself. Names and contents hold no word of the
//! text. Files are complete or not there, and carry a digest of their content; one that does not fit
//! it is removed. The files that were used longest ago leave when the folder grows too large. Several
//! processes may share a folder.

mod entry;
mod run;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, FileTimes},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use candle_core::{DType, Device, Tensor};
use kinora_weights::lora::LoraComponent;

use self::entry::{MAX_ENTRY, read_entry, to_bytes};
pub(crate) use self::run::{EncodedTexts, KeepText, TextEncoding, read_for};
use super::{checkpoint::Identity, tensor_file::write_atomically};
use crate::{Error, Result, adapters::Adapted};

/// Which revision of tokenizers and text encoders made an entry. A change that alters one bit of what
/// they say gets a new name here.
pub(crate) const TEXT_NUMERICS: &str = "2026.1";

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
pub(super) type HashOf = Box<dyn Fn(&Path) -> Option<String> + Send + Sync>;

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

//! The tensors of one component under canonical names, and reading them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Container, Dtype, Error, GgufHeader, Header, Result, TensorView,
    glance::{Stamp, keep_header, known_header},
    scaling::read_scalings,
    shards,
    sniff::sniff_open,
    view::{Part, Source, Turn},
};

/// The tensors of one component, by canonical name. Headers are checked and files open; no tensor
/// has been read. Reading is by position, so that threads may share a set. Clones share the files.
#[derive(Clone, Debug)]
pub struct WeightSet {
    path: PathBuf,
    files: Vec<(PathBuf, Arc<File>)>,
    tensors: BTreeMap<String, TensorView>,
    /// Free texts of the first file's header.
    metadata: BTreeMap<String, String>,
    container: Container,
    /// The state of the file, where the set is all of one file.
    stamp: Option<Stamp>,
}

impl WeightSet {
    /// Opens a component's folder: one safetensors file, or shards with their index.
    pub fn open_folder(folder: &Path) -> Result<Self> {
        let shards = shards::find_shards(folder)?;
        let mut set = Self::new(folder);
        let mut missing: BTreeSet<String> = BTreeSet::new();
        if let Some(index) = &shards.index {
            missing.extend(index.keys().cloned());
        }
        for path in &shards.files {
            // The index decides when shards hold more than it says.
            set.add_file(path, |name| match &shards.index {
                Some(index) => index.get(name) == Some(path),
                None => true,
            })?;
        }
        set.refuse_lost_scales()?;
        // Scales have been joined to their tensors; that the index names them is no fault.
        missing.retain(|name| !set.tensors.contains_key(name) && !set.is_scale(name));
        match missing.pop_first() {
            Some(name) => Err(Error::UnknownTensor {
                path: folder.to_owned(),
                name,
            }),
            None => Ok(set),
        }
    }

    /// Opens one file, safetensors or GGUF by its content. Its header is parsed once for each state
    /// of the file, as long as not too many others are opened meanwhile.
    pub fn open_file(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        if let Some(mut set) = known_header(path, &file) {
            set.files.push((path.to_owned(), Arc::new(file)));
            return Ok(set);
        }
        let mut set = Self::new(path);
        set.add_file(path, |_| true)?;
        let metadata = set.files[0].1.metadata().map_err(Error::io(path))?;
        set.stamp = Some(Stamp::of(&metadata));
        let header = Self {
            files: Vec::new(),
            ..set.clone()
        };
        keep_header(path, &set.files[0].1, header);
        Ok(set)
    }

    /// The state of the file, where the set is all of one file.
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            container: Container::Safetensors,
            stamp: None,
        }
    }

    fn add_file(&mut self, path: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
        let number = self.files.len();
        let file = File::open(path).map_err(Error::io(path))?;
        let (container, file_bytes) = sniff_open(path, &file)?;
        let (file, metadata) = match container {
            Container::Gguf => {
                let (file, header) = GgufHeader::open(path)?;
                for (name, info) in &header.tensors {
                    self.tensors
                        .insert(name.clone(), TensorView::whole(number, info));
                }
                let texts = header.metadata.iter();
                let texts = texts
                    .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
                (file, texts.collect())
            }
            Container::Safetensors => {
                let (file, header) = Header::read(path, file, file_bytes)?;
                let scalings = read_scalings(&file, &header)?;
                for (name, info) in &header.tensors {
                    if !is_wanted(name) || scalings.own.contains(name) {
                        continue;
                    }
                    let view = match scalings.by_tensor.get(name) {
                        Some(scaling) => TensorView::scaled(number, info, scaling),
                        None => TensorView::whole(number, info),
                    };
                    self.tensors.insert(name.clone(), view);
                }
                (file, header.metadata)
            }
        };
        if number == 0 {
            self.metadata = metadata;
            self.container = container;
        }
        self.files.push((path.to_owned(), Arc::new(file)));
        Ok(())
    }

    /// A scale in another shard than its weight would be lost, and the weight read wrongly.
    fn refuse_lost_scales(&self) -> Result<()> {
        let lost = self.tensors.keys().find(|name| {
            [".scale_weight", ".weight_scale"].iter().any(|ending| {
                name.strip_suffix(ending)
                    .is_some_and(|layer| self.tensors.contains_key(&format!("{layer}.weight")))
            })
        });
        match lost {
            Some(name) => Err(Error::unsupported(
                &self.path,
                format!(
                    "the scale {name:?} lies in another shard than its weight; get the model as one file"
                ),
            )),
            None => Ok(()),
        }
    }

    /// Whether a name that is no tensor of the set is the scale of one.
    fn is_scale(&self, name: &str) -> bool {
        name.rsplit_once('.').is_some_and(|(layer, _)| {
            self.tensors
                .get(&format!("{layer}.weight"))
                .is_some_and(|view| view.scaling.is_some())
        })
    }

    /// The folder or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of its first file.
    pub fn container(&self) -> Container {
        self.container
    }

    /// Free texts of the first file's header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Every tensor by name, in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorView)> {
        self.tensors
            .iter()
            .map(|(name, view)| (name.as_str(), view))
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Format, shape and size of a tensor.
    pub fn get(&self, name: &str) -> Result<&TensorView> {
        self.tensors.get(name).ok_or_else(|| Error::UnknownTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }

    /// The shape of a tensor; None when there is none of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    /// Sum of all tensors as they are kept, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(TensorView::kept_bytes).sum()
    }

    /// Sum of the elements of all tensors.
    pub fn total_elements(&self) -> u64 {
        self.tensors
            .values()
            .map(|view| view.elements() as u64)
            .sum()
    }

    /// Reads a tensor's bytes, little-endian and row by row, into a buffer of exactly its size.
    pub fn read_into(&self, name: &str, buffer: &mut [u8]) -> Result<()> {
        self.fill(name, self.get(name)?, buffer)
    }

    /// Reads a tensor's bytes.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.collect(name, self.get(name)?)
    }

    /// Reads the bytes of a view of this set: of a tensor, or of one of its scales.
    pub fn read_view(&self, view: &TensorView) -> Result<Vec<u8>> {
        self.collect("a view", view)
    }

    fn collect(&self, name: &str, view: &TensorView) -> Result<Vec<u8>> {
        // The size was checked against the size of the file.
        let mut buffer = vec![0; view.bytes];
        self.fill(name, view, &mut buffer)?;
        Ok(buffer)
    }

    fn fill(&self, name: &str, view: &TensorView, buffer: &mut [u8]) -> Result<()> {
        if buffer.len() != view.bytes {
            return Err(Error::WrongBuffer {
                name: name.to_owned(),
                bytes: view.bytes,
                buffer: buffer.len(),
            });
        }
        let (path, file) = &self.files[view.file];
        let mut rest = &mut *buffer;
        for (offset, bytes) in &view.ranges {
            let (part, after) = rest.split_at_mut(*bytes);
            file.read_exact_at(part, *offset).map_err(Error::io(path))?;
            rest = after;
        }
        match (view.turn, view.shape.as_slice()) {
            (Turn::Transposed, [rows, columns]) => {
                transpose(buffer, *columns, *rows, view.dtype.block_bytes());
            }
            (Turn::MinusOne, _) => {
                for number in buffer.as_chunks_mut::<4>().0 {
                    *number = (f32::from_le_bytes(*number) - 1.0).to_le_bytes();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The same bytes under other names: `map` tells canonical names and where they come from.
    /// Tensors that it does not mention are left out.
    pub(crate) fn renamed(&self, map: impl IntoIterator<Item = (String, Source)>) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, source) in map {
            let view = self
                .get(&source.name)?
                .select(source.part)
                .ok_or_else(|| self.refuse_part(&source))?;
            tensors.insert(name, view);
        }
        Ok(Self {
            path: self.path.clone(),
            files: self.files.clone(),
            metadata: self.metadata.clone(),
            container: self.container,
            stamp: None,
            tensors,
        })
    }

    fn refuse_part(&self, source: &Source) -> Error {
        let Source { name, part } = source;
        let shape = self.shape(name).unwrap_or_default();
        let reason = match part {
            Part::Rows { of, .. } => format!(
                "tensor {name:?} of the shape {shape:?} cannot be divided into {of} equal parts"
            ),
            _ => format!("tensor {name:?} has the unusual shape {shape:?}"),
        };
        Error::damaged(&self.path, reason)
    }

    /// Canonical names by a function from stored names; None leaves a tensor out.
    pub(crate) fn renamed_by(mut self, rename: impl Fn(&str) -> Option<String>) -> Self {
        self.stamp = None;
        self.tensors = std::mem::take(&mut self.tensors)
            .into_iter()
            .filter_map(|(name, view)| Some((rename(&name)?, view)))
            .collect();
        self
    }

    /// The quantised format that most of the numbers are stored in, for a word to the user: `nvfp4`,
    /// `fp8`, `Q4_K`. None where plain numbers are more.
    pub fn quantised_as(&self) -> Option<String> {
        let mut numbers: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        for view in self.tensors.values() {
            let format = match (&view.scaling, view.dtype) {
                (Some(scaling), _) => Some(scaling.format.as_str()),
                (None, Dtype::F8E4M3 | Dtype::F8E5M2) => Some("fp8"),
                (None, Dtype::I8) => Some("int8"),
                (None, dtype) => dtype.is_block().then(|| dtype.as_str()),
            };
            *numbers.entry(format).or_default() += view.elements() as u64;
        }
        let (format, _) = numbers.into_iter().max_by_key(|(_, numbers)| *numbers)?;
        format.map(str::to_owned)
    }
}

/// Turns a matrix of elements of `size` bytes round, in place by way of a copy.
fn transpose(bytes: &mut [u8], rows: usize, columns: usize, size: usize) {
    let stored = bytes.to_vec();
    for row in 0..rows {
        for column in 0..columns {
            let from = (row * columns + column) * size;
            let to = (column * rows + row) * size;
            bytes[to..to + size].copy_from_slice(&stored[from..from + size]);
        }
    }
}

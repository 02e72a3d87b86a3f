//! Decoded pictures kept on disk until their clip is written, so that a killed job need not decode
//! them again. A clip's bytes are a function of its pictures: replaying a spool gives the same file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::check_size;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"KNRAspl1";
/// The magic, width, height.
const HEADER: u64 = 16;
/// A frame's checksum follows its pixels.
const TRAILER: u64 = 4;
/// Frames between two syncs: what a power cut can cost.
const SYNC_EVERY: u64 = 8;

/// A file of raw RGB frames (height, width, 3) of one size, appended one by one.
///
/// After a kill, [`FrameSpool::open`] tells how many whole frames are there, and drops a half one.
/// Frames older than the last sync survive a power cut; those since then are checked when the file
/// is opened again.
pub struct FrameSpool {
    file: File,
    path: PathBuf,
    width: u32,
    height: u32,
    frames: u64,
    is_at_end: bool,
    /// Why the file is not usable any more: a frame was written in part.
    is_torn: bool,
}

impl FrameSpool {
    /// Begins an empty spool, over whatever lay there.
    ///
    /// # Errors
    /// `Encode…` for a size that no clip may have, and what the disk says.
    pub fn create(path: &Path, width: u32, height: u32) -> Result<Self> {
        check_size(width, height)?;
        let write = || {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?;
            file.write_all(&header(width, height))?;
            file.sync_all()?;
            Ok(file)
        };
        Ok(Self {
            file: write().map_err(|source| write_error(path, source))?,
            path: path.to_owned(),
            width,
            height,
            frames: 0,
            is_at_end: true,
            is_torn: false,
        })
    }

    /// Goes on with a spool, or begins one where there is none of this size.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(path: &Path, width: u32, height: u32) -> Result<Self> {
        check_size(width, height)?;
        let found = OpenOptions::new().read(true).write(true).open(path);
        let file = match found {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::create(path, width, height);
            }
            Err(error) => return Err(write_error(path, error)),
        };
        let mut spool = Self {
            file,
            path: path.to_owned(),
            width,
            height,
            frames: 0,
            is_at_end: false,
            is_torn: false,
        };
        let mut start = [0; HEADER as usize];
        let has_header = spool.file.read_exact(&mut start).is_ok();
        if !has_header || start != header(width, height) {
            drop(spool);
            return Self::create(path, width, height);
        }
        spool
            .recover()
            .map_err(|source| write_error(path, source))?;
        Ok(spool)
    }

    /// Counts the whole frames, and cuts off what follows them.
    fn recover(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let whole = length.saturating_sub(HEADER) / self.record();
        // Everything up to the last sync is on the disk as it was written.
        let synced = whole.saturating_sub(2 * SYNC_EVERY);
        let mut rgb = vec![0; self.frame_bytes()];
        self.frames = whole;
        for index in synced..whole {
            if !self.read_record(index, &mut rgb)? {
                self.frames = index;
                break;
            }
        }
        let end = HEADER + self.frames * self.record();
        if end != length {
            self.file.set_len(end)?;
        }
        Ok(())
    }

    /// Whole frames in the file.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Appends a frame of width × height × 3 bytes.
    ///
    /// # Errors
    /// `Encode…` for another length, and what the disk says; the spool is then to be opened anew.
    pub fn append(&mut self, rgb: &[u8]) -> Result<()> {
        if rgb.len() != self.frame_bytes() {
            return Err(Error::FrameLength {
                found: rgb.len(),
                expected: self.frame_bytes(),
            });
        }
        let outcome = self.write_record(rgb);
        outcome.map_err(|source| {
            self.is_torn = true;
            write_error(&self.path, source)
        })
    }

    fn write_record(&mut self, rgb: &[u8]) -> io::Result<()> {
        if self.is_torn {
            return Err(io::Error::other("an earlier frame was not written whole"));
        }
        if !self.is_at_end {
            let end = HEADER + self.frames * self.record();
            self.file.seek(SeekFrom::Start(end))?;
            self.is_at_end = true;
        }
        self.file.write_all(rgb)?;
        self.file.write_all(&checksum(rgb).to_le_bytes())?;
        self.frames += 1;
        if self.frames.is_multiple_of(SYNC_EVERY) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Makes everything appended so far outlast a power cut.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|source| write_error(&self.path, source))
    }

    /// Reads a frame into `rgb`, whose length becomes width × height × 3.
    ///
    /// # Errors
    /// `Damaged` when there is no such frame or its checksum does not fit; and what the disk says.
    pub fn read(&mut self, index: u64, rgb: &mut Vec<u8>) -> Result<()> {
        if index >= self.frames {
            return Err(Error::damaged(format!(
                "frame {index} of a spool of {} was asked for",
                self.frames
            )));
        }
        rgb.resize(self.frame_bytes(), 0);
        match self.read_record(index, rgb) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::damaged(format!(
                "frame {index} of the spool is not as it was written"
            ))),
            Err(source) => Err(Error::Read {
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// Whether the frame is as it was written.
    fn read_record(&mut self, index: u64, rgb: &mut [u8]) -> io::Result<bool> {
        self.is_at_end = false;
        let start = HEADER + index * self.record();
        self.file.seek(SeekFrom::Start(start))?;
        let mut sum = [0; TRAILER as usize];
        self.file.read_exact(rgb)?;
        self.file.read_exact(&mut sum)?;
        Ok(u32::from_le_bytes(sum) == checksum(rgb))
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(|source| write_error(&self.path, source))
    }

    fn frame_bytes(&self) -> usize {
        // Sizes were checked: this fits.
        self.width as usize * self.height as usize * 3
    }

    fn record(&self) -> u64 {
        self.frame_bytes() as u64 + TRAILER
    }
}

fn header(width: u32, height: u32) -> [u8; HEADER as usize] {
    let mut bytes = [0; HEADER as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&width.to_le_bytes());
    bytes[12..].copy_from_slice(&height.to_le_bytes());
    bytes
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn write_error(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seed: u8) -> Vec<u8> {
        (0..5 * 3 * 3).map(|i| i as u8 ^ seed).collect()
    }

    #[test]
    fn a_spool_goes_on_after_its_last_whole_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = FrameSpool::open(&path, 5, 3).unwrap();
        for seed in 0..20 {
            spool.append(&frame(seed)).unwrap();
        }
        drop(spool);
        // A kill in the middle of frame 20.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&frame(20)[..17]).unwrap();

        let mut spool = FrameSpool::open(&path, 5, 3).unwrap();
        assert_eq!(spool.frames(), 20);
        let mut rgb = Vec::new();
        spool.read(7, &mut rgb).unwrap();
        assert_eq!(rgb, frame(7));
        spool.append(&frame(20)).unwrap();
        spool.read(20, &mut rgb).unwrap();
        assert_eq!(rgb, frame(20));
        assert!(spool.read(21, &mut rgb).is_err());
        assert!(spool.append(&rgb[1..]).is_err());
        spool.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_a_power_cut_left_as_zeros_is_not_a_frame() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let mut spool = FrameSpool::create(&path, 5, 3).unwrap();
        for seed in 0..10 {
            spool.append(&frame(seed)).unwrap();
        }
        drop(spool);
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(HEADER + 8 * (45 + 4))).unwrap();
        file.write_all(&[0; 45]).unwrap();
        let spool = FrameSpool::open(&path, 5, 3).unwrap();
        assert_eq!(spool.frames(), 8);
    }

    #[test]
    fn a_spool_of_another_size_or_kind_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        for junk in [&b""[..], b"KNRAspl1", &[7; 400]] {
            fs::write(&path, junk).unwrap();
            assert_eq!(FrameSpool::open(&path, 5, 3).unwrap().frames(), 0);
        }
        let mut spool = FrameSpool::open(&path, 5, 3).unwrap();
        spool.append(&frame(0)).unwrap();
        assert_eq!(FrameSpool::open(&path, 3, 5).unwrap().frames(), 0);
        assert!(FrameSpool::open(&path, 0, 5).is_err());
        assert!(FrameSpool::open(&path, u32::MAX, u32::MAX).is_err());
    }
}

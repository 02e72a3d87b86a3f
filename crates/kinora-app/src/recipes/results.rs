//! Two results, compared by what they show: the pixels of pictures, the frames of clips.

use std::{
    fs::{self, File},
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use kinora_core::{Code, Problem};
use kinora_media::Picture;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::PartComparison;
use crate::{
    bytes::read_bounded,
    error::{Error, Result},
};

/// Bytes that tell what a file is.
const START: usize = 64;

/// Frames that one of two clips may be ahead of the other.
const AHEAD: usize = 2;

/// What two results show.
///
/// # Errors
/// A file cannot be read, or one is a clip and the other is not.
pub(super) fn compare(expected: &Path, actual: &Path) -> Result<PartComparison> {
    match (is_clip(expected)?, is_clip(actual)?) {
        (true, true) => compare_clips(expected, actual),
        (false, false) => {
            let read = |path: &Path| {
                let bytes = read_bounded(path).map_err(|e| Error::io("read", path, &e))?;
                Ok::<_, Error>(kinora_media::decode(&bytes)?)
            };
            Ok(compare_pictures(&read(expected)?, &read(actual)?))
        }
        _ => Err(Problem::new(
            Code::InvalidInput,
            "a picture and a clip cannot be compared",
            "Name two results of one kind.",
        )
        .into()),
    }
}

/// The same of two files in memory.
///
/// # Errors
/// As [`compare`].
pub(super) fn compare_bytes(expected: &[u8], actual: &[u8]) -> Result<PartComparison> {
    if let [false, false] = [expected, actual].map(is_start_of_clip) {
        let (expected, actual) = (
            kinora_media::decode(expected)?,
            kinora_media::decode(actual)?,
        );
        return Ok(compare_pictures(&expected, &actual));
    }
    let (expected, actual) = (Spilled::new(expected)?, Spilled::new(actual)?);
    compare(&expected.0, &actual.0)
}

/// A file in the system's folder for such things; it goes when it is dropped.
struct Spilled(PathBuf);

impl Spilled {
    fn new(bytes: &[u8]) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kinora-{}", Uuid::now_v7()));
        let written = File::create_new(&path).and_then(|mut file| file.write_all(bytes));
        let spilled = Self(path);
        match written {
            Ok(()) => Ok(spilled),
            Err(error) => Err(Error::io("write", &spilled.0, &error)),
        }
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        // Best effort: the system clears the folder.
        let _ = fs::remove_file(&self.0);
    }
}

fn is_start_of_clip(bytes: &[u8]) -> bool {
    kinora_media::detect_clip(&bytes[..bytes.len().min(START)]).is_some()
}

fn is_clip(path: &Path) -> Result<bool> {
    use std::io::Read;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START as u64).read_to_end(&mut start));
    read.map_err(|e| Error::io("read", path, &e))?;
    Ok(is_start_of_clip(&start))
}

/// What two rows of pixels have different.
#[derive(Default)]
struct Difference {
    values: u64,
    largest: u8,
    all: u64,
}

impl Difference {
    fn add(&mut self, expected: &[u8], actual: &[u8]) {
        self.all += expected.len() as u64;
        for (a, b) in expected.iter().zip(actual) {
            let by = a.abs_diff(*b);
            self.values += u64::from(by > 0);
            self.largest = self.largest.max(by);
        }
    }

    fn describe(&self) -> String {
        let Self {
            values,
            largest,
            all,
        } = self;
        format!("{values} of {all} values differ, by at most {largest} of 255")
    }
}

/// By the hash of their pixels, and where that differs by how much. Pictures that went through the
/// network in groups of other sizes may differ in the last digit of some values.
fn compare_pictures(expected: &Picture, actual: &Picture) -> PartComparison {
    let describe = |picture: &Picture| {
        let hash = super::hex_digest(&picture.rgb);
        format!("{}×{} {hash}", picture.width, picture.height)
    };
    let is_same = expected == actual;
    let mut found = describe(actual);
    if !is_same && (expected.width, expected.height) == (actual.width, actual.height) {
        let mut difference = Difference::default();
        difference.add(&expected.rgb, &actual.rgb);
        found += &format!(" ({})", difference.describe());
    }
    PartComparison {
        part: "pixels".to_owned(),
        is_same,
        expected: describe(expected),
        actual: found,
    }
}

/// A clip while its frames go by.
struct Frames {
    count: u64,
    size: (u32, u32),
    hash: Sha256,
}

impl Frames {
    fn new() -> Self {
        Self {
            count: 0,
            size: (0, 0),
            hash: Sha256::new(),
        }
    }

    fn add(&mut self, picture: &Picture) {
        self.count += 1;
        self.size = (picture.width, picture.height);
        self.hash.update(&picture.rgb);
    }

    fn describe(self) -> String {
        let hash: String = (self.hash.finalize().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (width, height) = self.size;
        format!("{} frames of {width}×{height} {hash}", self.count)
    }
}

/// Frame by frame, both decoded at a time; their sound counts among the bytes alone.
fn compare_clips(expected: &Path, actual: &Path) -> Result<PartComparison> {
    thread::scope(|scope| {
        let (sender, others) = mpsc::sync_channel::<Picture>(AHEAD);
        let reader = scope.spawn(move || {
            kinora_media::visit_frames(actual, 0, &mut |picture| match sender.send(picture) {
                Ok(()) => ControlFlow::Continue(()),
                // The other one could not be read.
                Err(_) => ControlFlow::Break(()),
            })
        });
        let (mut before, mut now) = (Frames::new(), Frames::new());
        let mut difference = Difference::default();
        let mut first = None;
        let read = kinora_media::visit_frames(expected, 0, &mut |picture| {
            if let Ok(other) = others.recv() {
                if picture != other {
                    first = first.or(Some(before.count + 1));
                }
                if (picture.width, picture.height) == (other.width, other.height) {
                    difference.add(&picture.rgb, &other.rgb);
                }
                now.add(&other);
            }
            before.add(&picture);
            ControlFlow::Continue(())
        });
        if read.is_ok() {
            others.iter().for_each(|other| now.add(&other));
        }
        drop(others);
        read?;
        reader
            .join()
            .map_err(|_| Error::internal("a clip could not be read"))??;
        let (expected, mut actual) = (before.describe(), now.describe());
        let is_same = expected == actual;
        if let Some(first) = first {
            actual += &format!(" (from frame {first}: {})", difference.describe());
        }
        Ok(PartComparison {
            part: "frames".to_owned(),
            is_same,
            expected,
            actual,
        })
    })
}

#[cfg(test)]
mod tests {
    use kinora_core::FrameRate;

    use super::*;

    fn clip(values: &[u8]) -> Vec<u8> {
        let pictures: Vec<Vec<u8>> = values.iter().map(|value| vec![*value; 8 * 8 * 3]).collect();
        let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        kinora_media::encode_animation(&pictures, (8, 8), FrameRate::whole(4), 100).unwrap()
    }

    #[test]
    fn clips_are_compared_frame_by_frame() {
        let one = clip(&[10, 60, 110]);
        let same = compare_bytes(&one, &one).unwrap();
        assert!(same.is_same && same.part == "frames", "{same:?}");
        assert!(same.expected.starts_with("3 frames of 8×8 "), "{same:?}");
        let other = compare_bytes(&one, &clip(&[10, 90, 110])).unwrap();
        assert!(!other.is_same);
        assert!(
            other.actual.contains("from frame 2: 192 of 576"),
            "{other:?}"
        );
        for (a, b) in [(&one, clip(&[10, 60])), (&clip(&[10, 60]), one.clone())] {
            assert!(!compare_bytes(a, &b).unwrap().is_same);
        }
    }

    #[test]
    fn a_picture_is_no_clip() {
        let picture = kinora_media::encode_jpeg(&[9; 8 * 8 * 3], 8, 8, 90).unwrap();
        assert!(compare_bytes(&picture, &clip(&[1, 2])).is_err());
        let same = compare_bytes(&picture, &picture).unwrap();
        assert!(same.is_same && same.part == "pixels");
        assert!(compare_bytes(b"nothing", &picture).is_err());
    }
}

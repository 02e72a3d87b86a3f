//! Comments of GIF files (GIF89a specification, section 24).

use std::io::{self, Read};

/// The longest comment that is taken, in bytes.
const MAX_COMMENT: usize = 64 << 20;
/// The most comments.
const MAX_COMMENTS: usize = 64;

/// Whether the first bytes are a GIF's.
pub(crate) fn is_gif(start: &[u8]) -> bool {
    start.starts_with(b"GIF87a") || start.starts_with(b"GIF89a")
}

/// The comments in file order. A file that is cut off ends there.
pub(crate) fn comments<R: Read>(file: &mut R) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    match read_blocks(file, &mut found) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(found),
    }
}

fn read_blocks<R: Read>(file: &mut R, found: &mut Vec<String>) -> io::Result<()> {
    let mut header = [0; 13];
    file.read_exact(&mut header)?;
    skip_table(file, header[10])?;
    let mut room = MAX_COMMENT;
    while found.len() < MAX_COMMENTS {
        match read_byte(file)? {
            0x21 if read_byte(file)? == 0xFE => {
                let mut comment = Vec::new();
                read_sub_blocks(file, Some(&mut comment))?;
                if comment.len() <= room {
                    room -= comment.len();
                    found.push(String::from_utf8_lossy(&comment).into_owned());
                }
            }
            0x21 => read_sub_blocks(file, None)?,
            0x2C => {
                let mut picture = [0; 9];
                file.read_exact(&mut picture)?;
                skip_table(file, picture[8])?;
                let _code_size = read_byte(file)?;
                read_sub_blocks(file, None)?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// A colour table, where the flags announce one.
fn skip_table<R: Read>(file: &mut R, flags: u8) -> io::Result<()> {
    if flags & 0x80 != 0 {
        let mut table = [0; 256 * 3];
        file.read_exact(&mut table[..3 << ((flags & 7) + 1)])?;
    }
    Ok(())
}

fn read_sub_blocks<R: Read>(file: &mut R, mut into: Option<&mut Vec<u8>>) -> io::Result<()> {
    let mut block = [0; 255];
    loop {
        let length = usize::from(read_byte(file)?);
        if length == 0 {
            return Ok(());
        }
        let block = &mut block[..length];
        file.read_exact(block)?;
        if let Some(into) = &mut into
            && into.len() <= MAX_COMMENT
        {
            into.extend_from_slice(block);
        }
    }
}

fn read_byte<R: Read>(file: &mut R) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

//! Contact sheets: many pictures in one, each with a line of text below. Pictures come one at a time,
//! so a sheet of a thousand takes no more memory than the sheet itself.

use crate::{
    decode::Picture,
    error::{Error, Result},
    font::{self, GLYPH_HEIGHT, GLYPH_WIDTH},
    thumbnail::shrink,
};

const GAP: u32 = 10;
/// The most pixels a sheet has; with more pictures, each becomes smaller.
const MAX_SHEET_PIXELS: u64 = 40_000_000;
/// Sides of a picture's place, the largest first.
const CELLS: [u32; 5] = [320, 256, 192, 128, 96];

/// The colours of a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetStyle {
    /// Behind everything.
    pub background: [u8; 3],
    /// In the place of a picture that is missing.
    pub empty: [u8; 3],
    /// Captions.
    pub text: [u8; 3],
}

impl Default for SheetStyle {
    fn default() -> Self {
        Self {
            background: [24, 25, 29],
            empty: [44, 46, 53],
            text: [214, 216, 222],
        }
    }
}

/// A sheet that is being filled, from left to right and from top to bottom.
pub struct ContactSheet {
    canvas: Picture,
    style: SheetStyle,
    columns: u32,
    /// Side of a picture's place.
    cell: u32,
    top: u32,
    count: u32,
    next: u32,
}

impl ContactSheet {
    /// An empty sheet for `count` pictures, with a title above them unless it is empty.
    ///
    /// # Errors
    /// `TooLarge` when so many pictures would fit no sheet at any size.
    pub fn new(title: &str, count: u32, style: SheetStyle) -> Result<Self> {
        let top = if title.is_empty() {
            GAP
        } else {
            GAP * 2 + GLYPH_HEIGHT
        };
        let layout = |cell: u32| {
            // As wide as high or a little wider, as screens are.
            let columns = (f64::from(count.max(1)) * 1.4).sqrt().ceil() as u32;
            let columns = columns.min(count.max(1));
            let rows = count.max(1).div_ceil(columns);
            let width = u64::from(columns) * u64::from(cell + GAP) + u64::from(GAP);
            let height =
                u64::from(rows) * u64::from(cell + GLYPH_HEIGHT + GAP * 2) + u64::from(top);
            (cell, columns, width, height)
        };
        let fits =
            |(_, _, width, height): &(u32, u32, u64, u64)| width * height <= MAX_SHEET_PIXELS;
        let Some((cell, columns, width, height)) = CELLS.into_iter().map(layout).find(fits) else {
            let (_, _, width, height) = layout(CELLS[CELLS.len() - 1]);
            let side = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
            return Err(Error::TooLarge {
                width: side(width),
                height: side(height),
                limit: MAX_SHEET_PIXELS / 1_000_000,
            });
        };
        // The title needs no more room than a few pictures do.
        let width = width.max(u64::from(GAP * 2 + GLYPH_WIDTH * 24)) as u32;
        let mut sheet = Self {
            canvas: Picture::filled(width, height as u32, style.background),
            style,
            columns,
            cell,
            top,
            count,
            next: 0,
        };
        sheet.draw_text(title, GAP, GAP, width - 2 * GAP);
        Ok(sheet)
    }

    /// Puts the next picture into its place, with a caption that is cut to the place's width. None
    /// leaves an empty place. Pictures beyond the announced number are left out.
    pub fn add(&mut self, picture: Option<Picture>, caption: &str) -> Result<()> {
        if self.next >= self.count {
            return Ok(());
        }
        let (column, row) = (self.next % self.columns, self.next / self.columns);
        self.next += 1;
        let x = GAP + column * (self.cell + GAP);
        let y = self.top + row * (self.cell + GLYPH_HEIGHT + GAP * 2);
        match picture {
            Some(picture) => {
                let picture = shrink(picture, self.cell)?;
                let left = x + (self.cell - picture.width) / 2;
                let top = y + (self.cell - picture.height) / 2;
                self.paste(&picture, left, top);
            }
            None => {
                let empty = Picture::filled(self.cell, self.cell, self.style.empty);
                self.paste(&empty, x, y);
            }
        }
        self.draw_text(caption, x, y + self.cell + GAP / 2, self.cell);
        Ok(())
    }

    /// The sheet. Places that were not filled show the background.
    pub fn finish(self) -> Picture {
        self.canvas
    }

    fn paste(&mut self, picture: &Picture, x: u32, y: u32) {
        let row_bytes = picture.width as usize * 3;
        for (row, pixels) in picture.rgb.chunks_exact(row_bytes).enumerate() {
            let start = ((y as usize + row) * self.canvas.width as usize + x as usize) * 3;
            self.canvas.rgb[start..start + row_bytes].copy_from_slice(pixels);
        }
    }

    /// Draws one line, cut to a width in pixels.
    fn draw_text(&mut self, text: &str, x: u32, y: u32, width: u32) {
        let room = (width / GLYPH_WIDTH) as usize;
        let line: Vec<char> = text
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        let is_cut = line.len() > room;
        let shown = line
            .iter()
            .take(if is_cut { room.saturating_sub(1) } else { room });
        for (index, c) in shown.copied().chain(is_cut.then_some('…')).enumerate() {
            let left = x as usize + index * GLYPH_WIDTH as usize;
            for (row, bits) in font::glyph(c).iter().enumerate() {
                for column in (0..8).filter(|column| bits & (0x80 >> column) != 0) {
                    self.set(left + column, y as usize + row);
                }
            }
        }
    }

    fn set(&mut self, x: usize, y: usize) {
        let start = (y * self.canvas.width as usize + x) * 3;
        if x < self.canvas.width as usize
            && let Some(pixel) = self.canvas.rgb.get_mut(start..start + 3)
        {
            pixel.copy_from_slice(&self.style.text);
        }
    }
}

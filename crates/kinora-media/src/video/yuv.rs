//! RGB into the form that codecs take: YUV 4:2:0, BT.709, limited range, chroma sited left (as
//! H.264 assumes where nothing else is told). Done here and not by libswscale, whose results change
//! between versions and processors.
//!
//! Formulas: ITU-R BT.709-6, items 3.2 to 3.5.

/// Writes the three planes of an RGB picture (height, width, 3). The planes' sizes are the
/// picture's, rounded up to even; the last column and row are repeated into what is added.
pub(super) fn from_rgb(rgb: &[u8], width: usize, height: usize, planes: [(&mut [u8], usize); 3]) {
    let [(luma, luma_stride), (blue, blue_stride), (red, red_stride)] = planes;
    let (even_width, even_height) = (width.next_multiple_of(2), height.next_multiple_of(2));
    let row = |y: usize| &rgb[y.min(height - 1) * width * 3..][..width * 3];
    for y in 0..even_height {
        let line = row(y);
        let out = &mut luma[y * luma_stride..][..even_width];
        for (pixel, out) in line.chunks_exact(3).zip(out.iter_mut()) {
            *out = luma_of(pixel);
        }
        if even_width > width {
            out[width] = out[width - 1];
        }
    }
    let mut sums = vec![[0_i32; 3]; width];
    for y in 0..even_height / 2 {
        let (upper, lower) = (row(2 * y), row(2 * y + 1));
        let pairs = upper.chunks_exact(3).zip(lower.chunks_exact(3));
        for (sum, (a, b)) in sums.iter_mut().zip(pairs) {
            *sum = [0, 1, 2].map(|c| i32::from(a[c]) + i32::from(b[c]));
        }
        for x in 0..even_width / 2 {
            let column = |x: usize| sums[x.min(width - 1)];
            let (left, middle, right) = (
                column((2 * x).saturating_sub(1)),
                column(2 * x),
                column(2 * x + 1),
            );
            // Eight times the colour of where the chroma sample lies.
            let [r, g, b] = [0, 1, 2].map(|c| left[c] + 2 * middle[c] + right[c]);
            blue[y * blue_stride + x] = chroma(-6_596 * r - 22_188 * g + 28_784 * b);
            red[y * red_stride + x] = chroma(28_784 * r - 26_145 * g - 2_639 * b);
        }
    }
}

/// 16 + 219 × (0.2126 R + 0.7152 G + 0.0722 B), in 1/65536.
fn luma_of(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(i32::from);
    // 65536 × 219 / 255 × the weights.
    let y = 11_966 * r + 40_254 * g + 4_064 * b;
    (((y + (1 << 15)) >> 16) + 16) as u8
}

/// 128 + 224 × (B − Y) / 1.8556 (and R with 1.5748), of eightfold sums in 1/65536.
fn chroma(sum: i32) -> u8 {
    ((sum + (1 << 18) + (128 << 19)) >> 19).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(rgb: [u8; 3]) -> [u8; 3] {
        let (mut y, mut u, mut v) = ([0; 4], [0; 1], [0; 1]);
        let picture = rgb.repeat(4);
        from_rgb(&picture, 2, 2, [(&mut y, 2), (&mut u, 1), (&mut v, 1)]);
        [y[0], u[0], v[0]]
    }

    #[test]
    fn the_corners_of_the_colour_cube_are_those_of_bt_709() {
        let known = [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
            ([255, 255, 0], [219, 16, 138]),
        ];
        for (rgb, yuv) in known {
            assert_eq!(convert(rgb), yuv, "{rgb:?}");
        }
        for grey in 0..=255 {
            assert_eq!(convert([grey; 3])[1..], [128, 128]);
        }
    }

    #[test]
    fn an_odd_picture_repeats_its_last_column_and_row() {
        let rgb: Vec<u8> = (0..27).map(|i| i * 9).collect();
        let (mut y, mut u, mut v) = ([0; 16], [0; 4], [0; 4]);
        from_rgb(&rgb, 3, 3, [(&mut y, 4), (&mut u, 2), (&mut v, 2)]);
        assert_eq!(y[3], y[2]);
        assert_eq!(y[12..16], y[8..12]);
        assert!(u.iter().chain(&v).all(|value| *value != 0));
    }
}

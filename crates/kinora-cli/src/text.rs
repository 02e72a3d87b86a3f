//! Numbers and tables as people read them on a terminal.

/// A text cut to a number of characters, on one line.
pub fn shorten(text: &str, characters: usize) -> String {
    let line: String = text
        .chars()
        .map(|c| if is_printable(c) { c } else { ' ' })
        .collect();
    if line.chars().count() <= characters {
        return line;
    }
    let kept: String = line.chars().take(characters.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Whether a terminal shows a character as itself: control characters steer it, and the marks of
/// writing direction let what follows look like something else.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes with a unit of 1024.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A duration in the unit that fits.
pub fn seconds(seconds: f64) -> String {
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else if seconds < 3600.0 {
        format!(
            "{:.0} min {:02.0} s",
            (seconds / 60.0).floor(),
            (seconds % 60.0).floor()
        )
    } else {
        format!(
            "{:.0} h {:02.0} min",
            (seconds / 3600.0).floor(),
            (seconds % 3600.0 / 60.0).floor()
        )
    }
}

/// Prints rows in columns that line up; the last column is as long as it likes.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let last = cells.len().saturating_sub(1);
        let padded = cells.iter().enumerate().map(|(index, cell)| {
            let padding = if index == last {
                0
            } else {
                widths[index].saturating_sub(cell.chars().count())
            };
            format!("{cell}{}", " ".repeat(padding))
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    let mut lines = vec![line(heading.to_vec())];
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_not_shown() {
        assert_eq!(
            shorten("a\u{1b}[31m b\u{7}\u{202e}c\nd", 40),
            "a [31m b  c d"
        );
        assert_eq!(shorten("日本語 é 🎨", 40), "日本語 é 🎨");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(bytes(12), "12 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(24 << 30), "24.0 GiB");
        assert_eq!(seconds(4.25), "4.2 s");
        assert_eq!(seconds(125.0), "2 min 05 s");
        assert_eq!(seconds(7320.0), "2 h 02 min");
    }

    #[test]
    fn text_is_cut_at_characters_and_kept_on_one_line() {
        assert_eq!(shorten("a\nb", 10), "a b");
        assert_eq!(shorten("äöüäöü", 4), "äöü…");
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["starter".into(), "x".into()],
            vec!["a".into(), "long name".into()],
        ];
        assert_eq!(
            table(&["id", "name"], &rows),
            "id       name\nstarter  x\na        long name"
        );
    }
}

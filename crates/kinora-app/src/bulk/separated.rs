//! Text tables with a separator: CSV with commas or semicolons, TSV, and what spreadsheets copy.
//! RFC 4180 with comment lines, any line ending, and line numbers. What the cells mean is not here.

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Line that it begins on, from 1.
    pub line: u32,
    /// Its cells, without the quotes.
    pub cells: Vec<String>,
}

/// A place where the quotes are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    /// A quote is opened and the text ends.
    #[error("a double quote is opened on this line and never closed")]
    Unclosed {
        /// Line of the opening quote.
        line: u32,
    },
    /// Text follows a closing quote.
    #[error("text follows a closing double quote")]
    TextAfterQuote {
        /// Line of the closing quote.
        line: u32,
    },
}

impl QuoteError {
    /// Where it is.
    pub fn line(self) -> u32 {
        match self {
            QuoteError::Unclosed { line } | QuoteError::TextAfterQuote { line } => line,
        }
    }
}

/// The records of a text and what is wrong with its quotes. Lines that begin with `#` and lines
/// without anything are left out.
pub fn read(text: &str, separator: char) -> (Vec<Record>, Vec<QuoteError>) {
    let mut reader = Reader {
        rest: text.chars().peekable(),
        line: 1,
        errors: Vec::new(),
    };
    let mut records = Vec::new();
    while reader.rest.peek().is_some() {
        if reader.rest.peek() == Some(&'#') {
            reader.skip_line();
            continue;
        }
        let line = reader.line;
        let cells = reader.record(separator);
        if cells.iter().any(|cell| !cell.trim().is_empty()) {
            records.push(Record { line, cells });
        }
    }
    (records, reader.errors)
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
    errors: Vec<QuoteError>,
}

impl Reader<'_> {
    /// Takes a line ending if there is one.
    fn line_end(&mut self) -> bool {
        match self.rest.peek() {
            Some('\r') => {
                self.rest.next();
                self.rest.next_if_eq(&'\n');
            }
            Some('\n') => {
                self.rest.next();
            }
            _ => return false,
        }
        self.line = self.line.saturating_add(1);
        true
    }

    fn skip_line(&mut self) {
        while self.rest.peek().is_some() && !self.line_end() {
            self.rest.next();
        }
    }

    fn record(&mut self, separator: char) -> Vec<String> {
        let mut cells = Vec::new();
        loop {
            while self
                .rest
                .next_if(|next| *next == ' ' && separator != ' ')
                .is_some()
            {}
            let cell = if self.rest.next_if_eq(&'"').is_some() {
                self.quoted(separator)
            } else {
                self.bare(separator)
            };
            cells.push(cell);
            if self.rest.next_if_eq(&separator).is_none() {
                self.line_end();
                return cells;
            }
        }
    }

    fn bare(&mut self, separator: char) -> String {
        let mut cell = String::new();
        while let Some(next) = self
            .rest
            .next_if(|next| *next != separator && !matches!(next, '\r' | '\n'))
        {
            cell.push(next);
        }
        cell.truncate(cell.trim_end().len());
        cell
    }

    fn quoted(&mut self, separator: char) -> String {
        let opened = self.line;
        let mut cell = String::new();
        loop {
            if matches!(self.rest.peek(), Some('\r' | '\n')) {
                self.line_end();
                cell.push('\n');
                continue;
            }
            match self.rest.next() {
                None => {
                    self.errors.push(QuoteError::Unclosed { line: opened });
                    return cell;
                }
                Some('"') if self.rest.next_if_eq(&'"').is_some() => cell.push('"'),
                Some('"') => break,
                Some(other) => cell.push(other),
            }
        }
        let after = self.bare(separator);
        if !after.trim().is_empty() {
            self.errors
                .push(QuoteError::TextAfterQuote { line: self.line });
            cell.push_str(&after);
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str, separator: char) -> Vec<(u32, Vec<String>)> {
        let (records, errors) = read(text, separator);
        assert_eq!(errors, []);
        records.into_iter().map(|r| (r.line, r.cells)).collect()
    }

    #[test]
    fn quotes_comments_blank_lines_and_line_endings() {
        let text = "a,b\r\n# no, not this\r\"x, \"\"y\"\"\nz\", 2 \n\n,\n  3 ,\"\"\n";
        assert_eq!(
            cells(text, ','),
            [
                (1, vec!["a".into(), "b".into()]),
                (3, vec!["x, \"y\"\nz".into(), "2".into()]),
                (7, vec!["3".into(), String::new()]),
            ]
        );
        assert_eq!(
            cells("a\tb c\t\"d\"", '\t'),
            [(1, vec!["a".into(), "b c".into(), "d".into()])]
        );
        assert_eq!(cells("", ','), []);
    }

    #[test]
    fn wrong_quotes_are_named_by_line() {
        let (records, errors) = read("a\n\"b\nc\n", ',');
        assert_eq!(errors, [QuoteError::Unclosed { line: 2 }]);
        assert_eq!(records.len(), 2);
        let (records, errors) = read("\"a\" b,c\nd", ',');
        assert_eq!(errors, [QuoteError::TextAfterQuote { line: 1 }]);
        assert_eq!(records[1].cells, ["d"]);
    }
}

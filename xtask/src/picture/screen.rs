//! What is on the screen after a program wrote to a terminal: as much of a terminal as Pannier's output needs.

/// How a cell looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The number of the colour, 0 to 7.
    pub color: Option<u8>,
    /// Bold.
    pub bold: bool,
    /// Dim.
    pub dim: bool,
}

/// One character with its look.
pub type Cell = (char, Look);

/// Rows of cells and a cursor. Never scrolls: it is as high as it has to be.
#[derive(Debug, Default)]
pub struct Screen {
    rows: Vec<Vec<Cell>>,
    row: usize,
    column: usize,
    look: Look,
}

impl Screen {
    /// The screen after `text`.
    pub fn of(text: &str) -> Self {
        let mut screen = Self::default();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\r' => screen.column = 0,
                '\n' => {
                    screen.row += 1;
                    screen.column = 0;
                }
                '\x1b' if chars.peek() == Some(&'[') => {
                    chars.next();
                    let mut parameters = String::new();
                    for char in chars.by_ref() {
                        if char.is_ascii_alphabetic() {
                            screen.control(char, &parameters);
                            break;
                        }
                        parameters.push(char);
                    }
                }
                char if char.is_control() => {}
                char => screen.put(char),
            }
        }
        screen
    }

    /// The rows, without the empty ones at the end.
    pub fn into_lines(mut self) -> Vec<Vec<Cell>> {
        for row in &mut self.rows {
            let end = row.iter().rposition(|(char, _)| *char != ' ').map_or(0, |last| last + 1);
            row.truncate(end);
        }
        let end = self.rows.iter().rposition(|row| !row.is_empty()).map_or(0, |last| last + 1);
        self.rows.truncate(end);
        self.rows
    }

    fn put(&mut self, char: char) {
        let (column, look) = (self.column, self.look);
        let row = self.row();
        if row.len() <= column {
            row.resize(column + 1, (' ', Look::default()));
        }
        row[column] = (char, look);
        self.column += 1;
    }

    fn row(&mut self) -> &mut Vec<Cell> {
        if self.rows.len() <= self.row {
            self.rows.resize(self.row + 1, Vec::new());
        }
        &mut self.rows[self.row]
    }

    fn control(&mut self, which: char, parameters: &str) {
        let number = parameters.parse::<usize>();
        match which {
            'A' => self.row = self.row.saturating_sub(number.unwrap_or(1)),
            'B' => self.row += number.unwrap_or(1),
            'C' => self.column += number.unwrap_or(1),
            'D' => self.column = self.column.saturating_sub(number.unwrap_or(1)),
            'J' => {
                let (row, column) = (self.row, self.column);
                self.row().truncate(column);
                self.rows.truncate(row + 1);
            }
            'K' if number == Ok(2) => self.row().clear(),
            'K' => {
                let column = self.column;
                self.row().truncate(column);
            }
            'm' => parameters.split(';').for_each(|code| self.graphics(code)),
            _ => {}
        }
    }

    fn graphics(&mut self, code: &str) {
        match code.parse().unwrap_or(0) {
            0 => self.look = Look::default(),
            1 => self.look.bold = true,
            2 => self.look.dim = true,
            22 => (self.look.bold, self.look.dim) = (false, false),
            color @ 30..=37 => self.look.color = Some(color - 30),
            39 => self.look.color = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(output: &str) -> Vec<String> {
        let lines = Screen::of(output).into_lines();
        lines.iter().map(|line| line.iter().map(|(char, _)| char).collect()).collect()
    }

    #[test]
    fn what_was_taken_back_is_not_there() {
        assert_eq!(text("a\nspinner 1\x1b[1A\r\x1b[2Kb\n\x1b[2Kc  \n\n"), ["b", "c"]);
        assert_eq!(text("long line\rshort\x1b[K\n"), ["short"]);
    }

    #[test]
    fn looks() {
        let line = Screen::of("\x1b[1;32mok\x1b[0m.").into_lines().remove(0);
        assert_eq!(line[1], ('k', Look { color: Some(2), bold: true, dim: false }));
        assert_eq!(line[2], ('.', Look::default()));
    }
}

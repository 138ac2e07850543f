//! Columns as Go's tabwriter sets them, with Docker's numbers.

/// Narrowest column.
const MIN_WIDTH: usize = 10;
/// Spaces after the longest cell.
const PADDING: usize = 3;

/// Aligns lines whose cells are separated by tabs. A cell is part of a column only when a tab follows it;
/// a column ends where a line has no such cell.
pub fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH, PADDING)
}

/// [`align`] with other numbers.
pub fn align_with(text: &str, min_width: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let end = (start..lines.len()).find(|row| widths[*row].len() <= column).unwrap_or(lines.len());
            let longest = (start..end).map(|row| lines[row][column].chars().count()).max().unwrap_or(0);
            for row in &mut widths[start..end] {
                row[column] = (longest + padding).max(min_width);
            }
            start = end + 1;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            match widths.get(index) {
                Some(width) => {
                    out.push_str(cell);
                    out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
                }
                None => out.push_str(cell),
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::align;

    #[test]
    fn columns() {
        assert_eq!(
            align("CONTAINER ID\tIMAGE\tNAMES\n9c3786ba438c\tweb_app\tcelery01\n"),
            "CONTAINER ID   IMAGE     NAMES\n9c3786ba438c   web_app   celery01\n"
        );
        assert_eq!(align("a\tb\nplain\nlonglonglong\tb\n"), "a         b\nplain\nlonglonglong   b\n");
        assert_eq!(align("ä\tb\n"), "ä         b\n");
    }
}

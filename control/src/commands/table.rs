//! Tables and lists for people (pure): columns as wide as their widest cell, two spaces between, none at the end of a line.

/// Lines under their titles. Nothing is "none", so that people see that there was an answer.
pub(super) fn table(titles: &[&str], lines: &[Vec<String>]) -> String {
    if lines.is_empty() {
        return "none\n".to_owned();
    }
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_uppercase()).collect();
    let width = |column: usize| {
        let all = std::iter::once(&titles).chain(lines);
        all.map(|cells| cells.get(column).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut text = String::new();
    for cells in std::iter::once(&titles).chain(lines) {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One thing, a line for each of its sides; what is empty is left out.
pub(super) fn sides(sides: &[(&str, String)]) -> String {
    let width = sides.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let filled = sides.iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [vec!["1".to_owned(), "a long one".to_owned()], vec!["10001".to_owned(), String::new()]];
        assert_eq!(table(&["appid", "name"], &lines), "APPID  NAME\n1      a long one\n10001\n");
        assert_eq!(table(&["appid"], &[]), "none\n");
    }

    #[test]
    fn sides_that_are_empty_are_left_out() {
        let given =
            [("name", "shop".to_owned()), ("description", String::new()), ("owner", "ann".to_owned())];
        assert_eq!(sides(&given), "name         shop\nowner        ann\n");
    }
}

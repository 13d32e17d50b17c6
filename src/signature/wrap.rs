//! Breaking text into lines of a width, counted in characters.

/// The words of `text` in lines of at most `width` characters; a longer word is cut. Never returns an empty list.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let mut rest = word;
        loop {
            let length = rest.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + length <= width {
                if let Some(line) = lines.last_mut() {
                    line.push_str(if gap == 1 { " " } else { "" });
                    line.push_str(rest);
                }
                used += gap + length;
                break;
            }
            if used > 0 {
                lines.push(String::new());
                used = 0;
                continue;
            }
            let cut = rest
                .char_indices()
                .nth(width)
                .map_or(rest.len(), |(at, _)| at);
            let (head, tail) = rest.split_at(cut);
            if let Some(line) = lines.last_mut() {
                line.push_str(head);
            }
            lines.push(String::new());
            rest = tail;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn breaks_between_words_and_inside_overlong_ones() {
        assert_eq!(wrap("a bc  def", 4), ["a bc", "def"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("≤≤≤ ≤", 3), ["≤≤≤", "≤"]);
        assert_eq!(wrap("", 10), [""]);
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let text = "one tremendously-overlong-word-that-never-ends and a few short ones";
        for width in 0..30 {
            for line in wrap(text, width) {
                assert!(line.chars().count() <= width.max(1), "{width}: {line}");
            }
        }
    }
}

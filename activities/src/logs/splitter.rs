//! Bytes to lines, in bounded memory.

/// Makes lines of a stream that comes in pieces. A line ends with LF, CR LF, or CR alone, as progress bars have it.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The line that has not ended.
    begun: Vec<u8>,
    /// Bytes of it that are not kept.
    cut: u64,
    /// Bytes kept of a line.
    keep: usize,
    /// The last line ended with CR: an LF that comes next belongs to it.
    after_cr: bool,
}

impl Splitter {
    /// Keeps so many bytes of each line, at least one.
    pub(super) fn new(keep: usize) -> Self {
        Self { begun: Vec::new(), cut: 0, keep: keep.max(1), after_cr: false }
    }

    /// The next line that ends in `rest`: its bytes, and how many were cut off its end. What was read of `rest` is gone from it, and
    /// all of it when there is no further line.
    pub(super) fn next(&mut self, rest: &mut &[u8]) -> Option<(Vec<u8>, u64)> {
        if rest.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.after_cr)
            && let Some((b'\n', after)) = rest.split_first()
        {
            *rest = after;
        }
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
            self.keep(rest);
            *rest = &[];
            return None;
        };
        self.keep(&rest[..end]);
        self.after_cr = rest[end] == b'\r';
        *rest = &rest[end + 1..];
        Some(self.give())
    }

    /// The stream has ended: what it wrote last is a line too.
    pub(super) fn finish(&mut self) -> Option<(Vec<u8>, u64)> {
        self.after_cr = false;
        (!self.begun.is_empty()).then(|| self.give())
    }

    /// Forgets the line that has not ended.
    pub(super) fn forget(&mut self) {
        self.begun.clear();
        self.cut = 0;
        self.after_cr = false;
    }

    fn give(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.begun), std::mem::take(&mut self.cut))
    }

    fn keep(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.keep - self.begun.len());
        self.begun.extend_from_slice(&bytes[..kept]);
        self.cut += (bytes.len() - kept) as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(keep: usize, pieces: &[&[u8]]) -> Vec<(Vec<u8>, u64)> {
        let (mut splitter, mut lines) = (Splitter::new(keep), Vec::new());
        for mut piece in pieces.iter().copied() {
            lines.extend(std::iter::from_fn(|| splitter.next(&mut piece)));
            assert!(piece.is_empty(), "all of it is read");
        }
        lines.extend(splitter.finish());
        lines
    }

    #[test]
    fn every_kind_of_line_end_ends_one_line() {
        let texts = |pieces: &[&[u8]]| -> Vec<String> {
            split(100, pieces).into_iter().map(|(bytes, _)| String::from_utf8(bytes).expect("text")).collect()
        };
        assert_eq!(texts(&[b"a\nb\r\nc\rd"]), ["a", "b", "c", "d"]);
        assert_eq!(texts(&[b"a\r", b"\nb\r", b"c"]), ["a", "b", "c"], "a CR LF that two pieces share is one end");
        assert_eq!(texts(&[b"a\r", b"", b"\nb"]), ["a", "b"], "an empty piece is nothing");
        assert_eq!(texts(&[b"\n\n", b"a", b"b\n"]), ["", "", "ab"]);
        assert_eq!(texts(&[b""]), [""; 0]);
    }

    #[test]
    fn a_long_line_keeps_its_beginning_and_says_what_is_cut() {
        assert_eq!(split(3, &[b"abcdef\ngh"]), [(b"abc".to_vec(), 3), (b"gh".to_vec(), 0)]);
        assert_eq!(split(3, &[b"ab", b"cd", b"ef\n"]), [(b"abc".to_vec(), 3)]);
    }

    #[test]
    fn a_line_of_a_hundred_megabytes_takes_no_more_memory_than_is_kept_of_it() {
        let mut splitter = Splitter::new(1000);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            assert_eq!(splitter.next(&mut piece.as_slice()), None);
            assert!(splitter.begun.capacity() <= 2000, "{}", splitter.begun.capacity());
        }
        let mut rest = &b"\nnext\n"[..];
        let (bytes, cut) = splitter.next(&mut rest).expect("a line");
        assert_eq!((bytes.len(), cut), (1000, (100 << 20) - 1000));
        assert_eq!(splitter.next(&mut rest), Some((b"next".to_vec(), 0)));
    }

    proptest! {
        /// However the bytes come: the same lines, and no byte is lost but line ends.
        #[test]
        fn the_lines_do_not_depend_on_the_pieces(
            pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\r\n\xff".to_vec()), 0..8), 0..12),
            keep in 1usize..6,
        ) {
            let whole = pieces.concat();
            let parts: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let lines = split(keep, &parts);
            prop_assert_eq!(&lines, &split(keep, &[&whole]));
            prop_assert!(lines.iter().all(|(bytes, _)| bytes.len() <= keep && !bytes.contains(&b'\n') && !bytes.contains(&b'\r')));
            let told: u64 = lines.iter().map(|(bytes, cut)| bytes.len() as u64 + cut).sum();
            let text = whole.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')).count() as u64;
            prop_assert_eq!(told, text);
        }
    }
}

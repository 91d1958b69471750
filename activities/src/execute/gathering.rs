//! Pieces of output that come together are taken together.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout_at};

/// How long pieces are gathered. Engines and nodes send a log line by line, and whoever follows takes about a millisecond for what they
/// are given, however much it is.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// Bytes after which nothing more is gathered.
const GATHERED: usize = 64 * 1024;

/// Gathers the pieces of a stream until it ends or breaks.
pub(crate) struct Gathering<S, E> {
    pieces: S,
    /// How they have ended, until that is told: after what came before.
    end: Option<Result<(), E>>,
}

impl<S, P, E> Gathering<S, E>
where
    S: Stream<Item = Result<P, E>> + Unpin,
    P: AsRef<[u8]>,
{
    pub(crate) fn of(pieces: S) -> Self {
        Self { pieces, end: None }
    }

    /// The next pieces, in their order; `None` at the end.
    ///
    /// # Errors
    /// The error that they have ended with.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<P>>, E> {
        let (mut gathered, mut size, mut until) = (Vec::new(), 0, None);
        while self.end.is_none() && size < GATHERED {
            let next = self.pieces.next();
            let next = match until {
                None => next.await,
                Some(until) => match timeout_at(until, next).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Some(Ok(piece)) => {
                    size += piece.as_ref().len();
                    gathered.push(piece);
                    until.get_or_insert_with(|| Instant::now() + GATHERED_FOR);
                }
                Some(Err(error)) => self.end = Some(Err(error)),
                None => self.end = Some(Ok(())),
            }
        }
        if !gathered.is_empty() {
            return Ok(Some(gathered));
        }
        // Asked again, it has ended.
        self.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    type Piece = Result<&'static [u8], String>;

    async fn next(gathering: &mut Gathering<impl Stream<Item = Piece> + Unpin, String>) -> Option<String> {
        let pieces = gathering.next().await.expect("no error")?;
        Some(String::from_utf8(pieces.concat()).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_one_by_one_are_handed_on_together() {
        let slowly = stream::unfold(0, |sent| async move {
            let pause = Duration::from_millis(if sent == 3 { 1000 } else { 1 });
            tokio::time::sleep(pause).await;
            let piece = &b"line\n"[..];
            (sent < 5).then_some((Ok(piece), sent + 1))
        });
        let mut gathering = Gathering::of(Box::pin(slowly));
        assert_eq!(next(&mut gathering).await.as_deref(), Some("line\nline\nline\n"), "and none waits for the fourth");
        assert_eq!(next(&mut gathering).await.as_deref(), Some("line\nline\n"));
        assert_eq!(next(&mut gathering).await, None);
    }

    #[tokio::test]
    async fn no_more_is_gathered_than_there_is_room_for_and_nothing_is_lost() {
        const LINES: usize = 100_000;
        let mut gathering = Gathering::of(stream::repeat_with(|| Ok(&b"a line of the log\n"[..])).take(LINES));
        let (mut read, mut times) = (0, 0);
        while let Some(lines) = next(&mut gathering).await {
            assert!(lines.len() < GATHERED + 100, "{}", lines.len());
            (read, times) = (read + lines.lines().count(), times + 1);
        }
        assert_eq!(read, LINES);
        assert!(times < 100, "each handing on is waited for: {times}");
    }

    #[tokio::test]
    async fn what_came_before_a_connection_broke_is_handed_on_first() {
        let broken = Err("reset".to_owned());
        let mut gathering = Gathering::of(stream::iter([Ok(&b"a\n"[..]), Ok(b"b"), broken]));
        assert_eq!(next(&mut gathering).await.as_deref(), Some("a\nb"));
        assert_eq!(gathering.next().await, Err("reset".to_owned()));
        assert_eq!(next(&mut gathering).await, None);
    }
}

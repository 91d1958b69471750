//! Reads the streams of a local command.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use crate::border::border;
pub(super) use crate::execute::output::{Capture, Captured};
use crate::logs::{Log, Stream};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// Bytes that a pipe holds at most (`/proc/sys/fs/pipe-max-size`): so much may be left in it when the command has ended.
const MOST_LEFT: usize = 1024 * 1024;

/// What a reader is told and tells. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// Cancelled when the command has ended: from then on nobody is slowed down, and the result waits for what is left.
    pub(super) ended: CancellationToken,
    /// Cancelled when the stream was read to its end.
    pub(super) read: CancellationToken,
}

/// Reads `stream` to its end into `capture` and `log`; a read error ends it like its end. While the command runs, it reads no faster
/// than lines are kept; when it has ended, what is left is captured before the log has it.
pub(super) async fn drain(
    mut stream: impl AsyncRead + Unpin,
    name: Stream,
    capture: &Mutex<Capture>,
    log: &Log,
    reading: &Reading,
) {
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = next(&mut stream, &mut buffer, capture).await;
        if piece.is_empty() {
            reading.read.cancel();
            return;
        }
        let mut writing = pin!(log.write(name, piece));
        if reading.ended.run_until_cancelled(writing.as_mut()).await.is_some() {
            continue;
        }
        let (mut left, mut beyond) = (Vec::new(), 0);
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = next(&mut stream, &mut buffer, capture).await;
            if piece.is_empty() {
                break;
            }
            let (kept, cut) = piece.split_at(piece.len().min(MOST_LEFT - left.len()));
            left.extend_from_slice(kept);
            beyond += cut.len();
        }
        reading.read.cancel();
        writing.await;
        log.write(name, &left).await;
        if beyond > 0 {
            log.lacks(format!("{beyond} bytes that were read after the command's end"));
        }
        return;
    }
}

/// What comes next; nothing at the stream's end.
async fn next<'a>(stream: &mut (impl AsyncRead + Unpin), buffer: &'a mut [u8], capture: &Mutex<Capture>) -> &'a [u8] {
    let read = border("command.output", stream.read(buffer)).await.unwrap_or(0);
    let piece = &buffer[..read];
    capture.lock().unwrap_or_else(PoisonError::into_inner).push(piece);
    piece
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;
    use crate::logs::tests::{MemorySink, Then};
    use crate::logs::{Logs, Redactor};
    use crate::ports::LogName;

    #[tokio::test(start_paused = true)]
    async fn what_a_command_left_is_captured_at_once_however_slow_its_log_is() {
        for (then, kept) in [(Then::Hangs, 0), (Then::IsSlow, 1000)] {
            let sink = Arc::new(MemorySink { answers: Some(0), then, ..MemorySink::default() });
            let log = Logs { sink: Some(Arc::clone(&sink) as _), secrets: None }.begin(LogName::default(), None);
            let (mut command, stream) = tokio::io::duplex(MOST_LEFT);
            let line = format!("{}\n", "0123456789 ".repeat(10).trim_end());
            command.write_all(line.repeat(1000).as_bytes()).await.expect("it is read");
            drop(command);
            let (capture, reading) = (Mutex::new(Capture::new(200_000, Redactor::default())), Reading::default());
            let began = Instant::now();
            let end = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                reading.ended.cancel();
                reading.read.cancelled().await;
                let captured = capture.lock().expect("no test panics with it").total();
                assert_eq!(captured, 110_000, "{then:?}");
                assert!(began.elapsed() < Duration::from_secs(1), "{then:?}: {:?}", began.elapsed());
            };
            tokio::join!(drain(stream, Stream::Stdout, &capture, &log, &reading), end);
            assert_eq!(sink.lines().len(), kept, "{then:?}: the log has it afterwards");
        }
    }
}

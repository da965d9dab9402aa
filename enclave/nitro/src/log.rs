//! Log lines on their way out: to the console, and by vsock to whoever listens at the parent.
//!
//! What waits is bounded; the oldest lines go first, and how many went is said. Lines never hold secrets: the core has
//! none of them in a form that can be printed.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::level_filters::LevelFilter;

/// Longest line, in bytes; the rest is cut off.
pub const MAX_LINE: usize = 1024;
/// Most bytes that wait.
pub const MAX_WAITING: usize = 64 << 10;
/// Longest a connection may take to stand, or to take a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses between attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Lines that wait to be sent.
#[derive(Default)]
pub struct Log {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

impl Log {
    /// Takes a line in, cut to [`MAX_LINE`] and to one line.
    pub fn push(&self, text: &str) {
        let mut line: String = text
            .trim_end()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        line.truncate(line.floor_char_boundary(MAX_LINE - 1));
        line.push('\n');
        let mut waiting = self.waiting();
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        while waiting.bytes > MAX_WAITING {
            waiting.bytes -= waiting.lines.pop_front().map_or(0, |line| line.len());
            waiting.dropped += 1;
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// The next line, or how many there would have been.
    fn pop(&self) -> Option<String> {
        let mut waiting = self.waiting();
        if waiting.dropped > 0 {
            let dropped = std::mem::take(&mut waiting.dropped);
            return Some(format!("({dropped} earlier lines were dropped)\n"));
        }
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= line.len();
        Some(line)
    }

    async fn next(&self) -> String {
        loop {
            if let Some(line) = self.pop() {
                return line;
            }
            self.more.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No method leaves it half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends lines over streams that `connect` makes, one after the other, for ever.
    pub async fn forward<S, F>(&self, connect: impl Fn() -> F)
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: Future<Output = io::Result<S>>,
    {
        let (first, longest) = PAUSES;
        let mut pause = first;
        loop {
            if let Ok(Ok(mut stream)) = timeout(PATIENCE, connect()).await {
                pause = first;
                self.send(&mut stream).await;
            }
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    /// Sends lines until the other side is gone or takes none.
    async fn send<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) {
        loop {
            let line = tokio::select! {
                // The other side has nothing to say; that it ends is seen this way.
                _ = stream.read_u8() => return,
                line = self.next() => line,
            };
            let sent = timeout(PATIENCE, stream.write_all(line.as_bytes())).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.waiting().dropped += 1;
                return;
            }
        }
    }
}

/// Makes `log` and the console the place for everything of `level` and above.
pub fn install(log: &Arc<Log>, level: LevelFilter) {
    let log = Arc::clone(log);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .with_writer(move || Writer(Arc::clone(&log)))
        .init();
}

/// Takes one event: the formatter writes each whole.
struct Writer(Arc<Log>);

impl Write for Writer {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.push(&String::from_utf8_lossy(event));
        // A console that takes nothing is no reason to stop.
        let _ = io::stderr().write_all(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncBufReadExt, BufReader, duplex};

    fn drain(log: &Log) -> Vec<String> {
        std::iter::from_fn(|| log.pop()).collect()
    }

    #[test]
    fn a_line_is_one_line_and_not_longer_than_the_longest() {
        let log = Log::default();
        log.push("one\ntwo\x1b[1m three\n");
        log.push(&"é".repeat(MAX_LINE));
        let lines = drain(&log);
        assert_eq!(lines[0], "one two [1m three\n");
        assert_eq!(
            lines[1].len(),
            MAX_LINE - 1,
            "a letter of two bytes is not cut"
        );
    }

    #[test]
    fn the_oldest_lines_are_dropped_and_counted_when_nobody_listens() {
        let log = Log::default();
        let (lines, each) = (1000, 100);
        for number in 0..lines {
            log.push(&format!("{number:0width$}", width = each - 1));
        }
        let kept = MAX_WAITING / each;
        let found = drain(&log);
        assert_eq!(found.len(), 1 + kept);
        assert_eq!(
            found[0],
            format!("({} earlier lines were dropped)\n", lines - kept)
        );
        assert!(found[kept].trim_end().ends_with("999"));
        assert!(drain(&log).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_sent_in_order_also_after_the_listener_came_late_and_went_once() {
        let log = Arc::new(Log::default());
        log.push("first");
        let (sender, mut streams) = tokio::sync::mpsc::channel(1);
        let forwarding = log.clone();
        tokio::spawn(async move {
            let sender = &sender;
            let connect = || async {
                let (here, there) = duplex(64);
                sender
                    .try_send(there)
                    .map_err(|_| io::ErrorKind::ConnectionRefused)?;
                Ok(here)
            };
            forwarding.forward(connect).await;
        });
        let mut listener = BufReader::new(streams.recv().await.unwrap()).lines();
        assert_eq!(listener.next_line().await.unwrap().unwrap(), "first");
        drop(listener);
        log.push("second");
        let mut listener = BufReader::new(streams.recv().await.unwrap()).lines();
        let heard = listener.next_line().await.unwrap().unwrap();
        // The line that was on its way when the listener went may be lost, but not in silence.
        assert!(
            ["second", "(1 earlier lines were dropped)"].contains(&heard.as_str()),
            "{heard}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_takes_nothing_holds_up_nobody() {
        let log = Arc::new(Log::default());
        let forwarding = log.clone();
        tokio::spawn(async move {
            let stuck = std::sync::Mutex::new(Vec::new());
            let connect = || async {
                let (here, there) = duplex(1);
                stuck.lock().unwrap().push(there);
                Ok(here)
            };
            forwarding.forward(connect).await;
        });
        for number in 0..10_000 {
            log.push(&format!("{number}"));
        }
        sleep(Duration::from_secs(60)).await;
        assert!(log.waiting().bytes <= MAX_WAITING);
    }
}

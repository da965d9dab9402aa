//! The TPM's one thread: commands one at a time, retried where that helps, never waited for without end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::TpmError;
use crate::tcti::Tcti;
use crate::tpm::Tpm;

/// Makes the TPM, on the thread that will own it.
pub type OpenTpm = Arc<dyn Fn() -> Box<dyn Tpm> + Send + Sync>;
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// Threads that may be stuck in a TPM that does not answer, before the process gives up on it.
const MAX_STUCK: u32 = 4;
/// A request waits for those before it for this many times the limit of one.
const QUEUE_FACTOR: u32 = 4;
/// Enough many times over: answers lie in the heap, and 64 KiB of this are overwritten after each use.
const STACK: usize = 512 * 1024;

/// A TPM that async code can use.
#[derive(Clone)]
pub struct TpmOwner {
    shared: Arc<Shared>,
}

struct Shared {
    tcti: Tcti,
    open: OpenTpm,
    /// Longest wait for one operation of the TPM, retries included.
    limit: Duration,
    jobs: Sender<Job>,
    queue: Arc<Mutex<Receiver<Job>>>,
    /// Counts threads started; only the newest takes further jobs.
    generation: Arc<AtomicU64>,
    stuck: Arc<AtomicU32>,
}

impl TpmOwner {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(tcti: Tcti, open: OpenTpm, limit: Duration) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let owner = Self {
            shared: Arc::new(Shared {
                tcti,
                open,
                limit,
                jobs,
                queue: Arc::new(Mutex::new(queue)),
                generation: Arc::default(),
                stuck: Arc::default(),
            }),
        };
        owner.spawn(0)?;
        Ok(owner)
    }

    /// Runs `job` on the TPM's thread and gives back what it gave, after retries.
    ///
    /// The connection is dropped before the next job, whoever that is for.
    ///
    /// # Errors
    /// As the job; [`TpmError::Silent`] when the TPM does not answer within the limit.
    pub async fn run<T: Send + 'static>(
        &self,
        mut job: impl FnMut(&mut dyn Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        const GONE: TpmError = TpmError::Stopped("its thread ended");
        let (begin, begun) = oneshot::channel();
        let (reply, answer) = oneshot::channel();
        let generation = self.shared.generation.clone();
        let job: Job = Box::new(move |worker| {
            // A client that went away in the meantime costs the TPM nothing.
            if begin.send(generation.load(SeqCst)).is_err() {
                return;
            }
            let result = worker.retrying(&mut job);
            let _ = reply.send(result);
            worker.tpm.refresh();
        });
        self.shared.jobs.send(job).map_err(|_| GONE)?;
        let limit = self.shared.limit;
        let generation = timeout(limit.saturating_mul(QUEUE_FACTOR), begun)
            .await
            .map_err(|_| self.silent())?
            .map_err(|_| GONE)?;
        match timeout(limit, answer).await {
            Ok(result) => result.map_err(|_| GONE)?,
            Err(_) => {
                self.replace(generation)?;
                Err(self.silent())
            }
        }
    }

    fn silent(&self) -> TpmError {
        TpmError::Silent {
            tcti: self.shared.tcti.clone(),
            seconds: self.shared.limit.as_secs(),
        }
    }

    /// Leaves the thread of `generation` to its silent TPM and starts another, which connects anew.
    fn replace(&self, generation: u64) -> Result<(), TpmError> {
        let shared = &self.shared;
        let next = generation.saturating_add(1);
        if shared.stuck.load(SeqCst) >= MAX_STUCK {
            return Err(TpmError::Stopped(
                "it did not answer to several commands; restart the process once it does",
            ));
        }
        if shared
            .generation
            .compare_exchange(generation, next, SeqCst, SeqCst)
            .is_ok()
        {
            shared.stuck.fetch_add(1, SeqCst);
            self.spawn(next)
                .map_err(|_| TpmError::Stopped("no thread can be started for it"))?;
        }
        Ok(())
    }

    fn spawn(&self, generation: u64) -> std::io::Result<()> {
        let (open, queue) = (self.shared.open.clone(), self.shared.queue.clone());
        let (newest, stuck) = (self.shared.generation.clone(), self.shared.stuck.clone());
        let work = move || {
            let mut worker = Worker {
                tpm: open(),
                unsure: false,
            };
            loop {
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = job else { return };
                job(&mut worker);
                if newest.load(SeqCst) != generation {
                    stuck.fetch_sub(1, SeqCst);
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("tpm-{generation}"))
            .stack_size(STACK)
            .spawn(work)
            .map(drop)
    }
}

/// What the TPM's thread has.
struct Worker {
    tpm: Box<dyn Tpm>,
    /// Whether an answer went missing, so that the TPM may hold an object or session nobody has the handle of.
    unsure: bool,
}

impl Worker {
    /// Tries again where trying again helps: a busy TPM with growing random pauses, one that was reset or is being
    /// restarted on a new connection, changed PCRs and exhausted slots (after flushing our own) once.
    fn retrying<T>(
        &mut self,
        job: &mut dyn FnMut(&mut dyn Tpm) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        const PAUSES_MS: [u64; 5] = [20, 50, 100, 200, 400];
        let mut pauses = PAUSES_MS.iter();
        let (mut flushed, mut raced) = (false, false);
        loop {
            if self.unsure {
                // If it cannot be reached, the job will say so.
                self.unsure = self.tpm.flush_all().is_err();
                self.tpm.refresh();
            }
            let error = match job(self.tpm.as_mut()) {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            self.unsure |= matches!(
                error,
                TpmError::Unreachable { .. }
                    | TpmError::Reset { .. }
                    | TpmError::NoSlot { .. }
                    | TpmError::BadAnswer { .. }
                    | TpmError::ForgedAnswer { .. }
            );
            match error {
                TpmError::Busy { .. } | TpmError::Unreachable { .. } => match pauses.next() {
                    Some(pause) => std::thread::sleep(jittered(*pause)),
                    None => return Err(error),
                },
                TpmError::PcrChanged | TpmError::Reset { .. } if !raced => raced = true,
                TpmError::NoSlot { .. } if !flushed => flushed = true,
                _ => return Err(error),
            }
            tracing::debug!(%error, "trying again");
            // Flushes what the failed attempt left behind.
            self.tpm.refresh();
        }
    }
}

/// Half of the pause, and a random part of the other half.
fn jittered(pause_ms: u64) -> Duration {
    let mut random = [0; 1];
    // Without randomness the pause is merely the same each time.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let [random] = random;
    let half = pause_ms / 2;
    Duration::from_millis(half.saturating_add(half.saturating_mul(u64::from(random)) / 255))
}

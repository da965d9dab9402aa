//! Clients accepted, a bounded number at once.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Pause after a client could not be accepted: out of file descriptors, most likely, and clients that end free some.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts clients for ever and serves `places` of them at once; further ones wait in the socket's queue.
pub async fn accept_clients<C, S>(
    places: usize,
    accept: impl AsyncFn() -> io::Result<C>,
    serve: impl Fn(C) -> S,
) -> !
where
    S: Future<Output = ()> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(places));
    loop {
        // Nobody closes the semaphore, so there is always a place to wait for.
        let place = Arc::clone(&free).acquire_owned().await;
        match accept().await {
            Ok(client) => {
                let served = serve(client);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::sync::{Mutex, mpsc};

    #[tokio::test(start_paused = true)]
    async fn no_more_clients_are_served_at_once_than_there_are_places_and_a_failure_passes() {
        let (sender, clients) = mpsc::unbounded_channel();
        for client in 0..10 {
            let failed = || io::Error::from(io::ErrorKind::Other);
            sender
                .send(if client == 3 { Err(failed()) } else { Ok(()) })
                .unwrap();
        }
        let clients = Mutex::new(clients);
        let (now, most, served) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let serving = accept_clients(
            2,
            async || match clients.lock().await.recv().await {
                Some(client) => client,
                None => std::future::pending().await,
            },
            |()| {
                let (now, most, served) = (now.clone(), most.clone(), served.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    sleep(Duration::from_secs(1)).await;
                    now.fetch_sub(1, SeqCst);
                    served.fetch_add(1, SeqCst);
                }
            },
        );
        let _ = tokio::time::timeout(Duration::from_secs(60), serving).await;
        assert_eq!((most.load(SeqCst), served.load(SeqCst)), (2, 9));
    }
}

//! Recipient keys: RSA-2048, made ahead, used for one request or for those on their way at the same time, wiped.

use std::ops::Deref;
use std::sync::{Arc, Condvar, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey,
};
use nodeseal_memory::Secret;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::cms::{CmsError, ENCRYPTED_KEY_LENGTH, RECIPIENT_ID_LENGTH};

/// An RSA-2048 key pair to which KMS encrypts its answers.
///
/// KMS documents no other size for certain. The private half lives in memory of AWS-LC, which overwrites whatever it
/// frees.
pub struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    public: Vec<u8>,
    id: [u8; RECIPIENT_ID_LENGTH],
}

/// No recipient key could be made.
#[derive(Debug, thiserror::Error)]
pub enum RecipientError {
    /// The cryptographic library failed, or had no randomness.
    #[error("no RSA recipient key could be made")]
    Library,
    /// A thread that makes keys could not be started.
    #[error("no thread to make recipient keys: {0}")]
    Thread(#[from] std::io::Error),
    /// The threads that make keys are gone.
    #[error("no thread is left to make recipient keys")]
    Stopped,
}

impl RecipientKey {
    /// Makes one and tries it (SP 800-56B revision 2, section 6.4.1.1: pair-wise consistency): 47 ms at the median,
    /// 223 ms at worst seen. What the library computes at a key's first use is then done.
    ///
    /// # Errors
    /// When the library fails, or the halves do not belong together.
    pub fn generate() -> Result<Self, RecipientError> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048)
            .map_err(|_| RecipientError::Library)?;
        let public = private
            .public_key()
            .as_der()
            .map_err(|_| RecipientError::Library)?
            .as_ref()
            .to_vec();
        let mut id = [0; RECIPIENT_ID_LENGTH];
        id.copy_from_slice(digest(&SHA256, &public).as_ref());
        let sealer = OaepPublicEncryptingKey::new(private.public_key())
            .map_err(|_| RecipientError::Library)?;
        let key = Self {
            private: OaepPrivateDecryptingKey::new(private).map_err(|_| RecipientError::Library)?,
            public,
            id,
        };
        let mut encrypted = [0; ENCRYPTED_KEY_LENGTH];
        sealer
            .encrypt(&OAEP_SHA256_MGF1SHA256, &key.id, &mut encrypted, None)
            .map_err(|_| RecipientError::Library)?;
        match key.unwrap(&encrypted) {
            Ok(plain) if plain.expose() == key.id => Ok(key),
            _ => Err(RecipientError::Library),
        }
    }

    /// DER SubjectPublicKeyInfo, 294 bytes: what goes into the attestation document.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public
    }

    /// SHA-256 of [`RecipientKey::public_key`]: what KMS names the recipient by.
    #[must_use]
    pub fn id(&self) -> &[u8; RECIPIENT_ID_LENGTH] {
        &self.id
    }

    /// RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label (RFC 8017 §7.1.2).
    pub(super) fn unwrap(
        &self,
        encrypted: &[u8; ENCRYPTED_KEY_LENGTH],
    ) -> Result<Secret, CmsError> {
        let mut plain = Secret::zeroed(self.private.min_output_size())?;
        let length = self
            .private
            .decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, plain.expose_mut(), None)
            .map_err(|_| CmsError::ContentKey)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// Keys ahead for which one thread suffices.
const AHEAD_PER_THREAD: usize = 8;

/// Recipient keys made ahead by threads of their own, so that no open waits for one.
///
/// Each request has a key of its own while keys lie ready. More requests at once than that share the key that was taken
/// last, if a request with it is still on its way and it was taken a short while ago: whoever could use one of their
/// answers for another would have had to break TLS to KMS, and would gain a secret that opens nothing else. A key is
/// wiped with the last request that has it.
pub struct RecipientKeys {
    pool: Mutex<Pool>,
    orders: Arc<Orders>,
    shared: Duration,
}

/// What comes of making a key.
type Made = Result<RecipientKey, RecipientError>;

struct Pool {
    ready: mpsc::Receiver<Made>,
    /// Taken last, and when.
    last: Option<(Weak<TakenKey>, Instant)>,
}

/// Keys that are to be made.
///
/// Making one takes a processor longer than all else in an open, so the one that takes the place of a taken key is
/// ordered when the open is done with that, or when another open would wait for it.
struct Orders {
    book: std::sync::Mutex<Book>,
    changed: Condvar,
}

struct Book {
    /// Keys ordered and not begun.
    open: usize,
    /// Keys taken in whose place none was ordered yet.
    owed: usize,
    /// Whether nobody can take keys any more.
    closed: bool,
}

/// A key that was taken; with it ends what it is used for.
pub struct TakenKey {
    key: RecipientKey,
    orders: Arc<Orders>,
}

impl RecipientKeys {
    /// Starts to make keys, until `ahead` (at least one) lie ready; in the place of one that was taken, another is made.
    /// A key is given to requests for at most `shared`; with zero it is given once.
    ///
    /// One thread makes up to eight ahead, so that opens have the other processors; more share the work.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(ahead: usize, shared: Duration) -> Result<Self, RecipientError> {
        let ahead = ahead.max(1);
        let (sender, ready) = mpsc::channel(ahead);
        let keys = Self::of(ready, ahead, shared);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..ahead.div_ceil(AHEAD_PER_THREAD).min(processors) {
            let (sender, orders) = (sender.clone(), Arc::clone(&keys.orders));
            std::thread::Builder::new()
                .name("recipient-keys".to_owned())
                .spawn(move || make(&orders, &sender))?;
        }
        Ok(keys)
    }

    fn of(ready: mpsc::Receiver<Made>, ordered: usize, shared: Duration) -> Self {
        let book = Book {
            open: ordered,
            owed: 0,
            closed: false,
        };
        let orders = Orders {
            book: std::sync::Mutex::new(book),
            changed: Condvar::new(),
        };
        Self {
            pool: Mutex::new(Pool { ready, last: None }),
            orders: Arc::new(orders),
            shared,
        }
    }

    /// A key; whoever comes first is served first when none is ready.
    ///
    /// # Errors
    /// When the library fails to make one.
    pub async fn take(&self) -> Result<Arc<TakenKey>, RecipientError> {
        let mut pool = self.pool.lock().await;
        let made = match pool.ready.try_recv() {
            Ok(made) => made,
            Err(_) => match pool.on_its_way(self.shared) {
                Some(key) => return Ok(key),
                None => {
                    self.orders.place_owed();
                    pool.ready.recv().await.ok_or(RecipientError::Stopped)?
                }
            },
        };
        self.orders.book().owed += 1;
        let key = made.inspect_err(|_| self.orders.place_owed())?;
        let orders = Arc::clone(&self.orders);
        let key = Arc::new(TakenKey { key, orders });
        pool.last = Some((Arc::downgrade(&key), Instant::now()));
        Ok(key)
    }
}

impl Drop for RecipientKeys {
    /// Ends the threads.
    fn drop(&mut self) {
        self.orders.book().closed = true;
        self.orders.changed.notify_all();
    }
}

impl Orders {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a key in the place of one that was taken, unless all were.
    fn place_owed(&self) {
        let mut book = self.book();
        if let Some(owed) = book.owed.checked_sub(1) {
            book.owed = owed;
            book.open += 1;
            self.changed.notify_one();
        }
    }

    /// Waits for an order; false once nobody can take keys any more.
    fn next(&self) -> bool {
        let idle = |book: &mut Book| book.open == 0 && !book.closed;
        let book = self.changed.wait_while(self.book(), idle);
        let mut book = book.unwrap_or_else(PoisonError::into_inner);
        book.open = book.open.saturating_sub(1);
        !book.closed
    }
}

impl Drop for TakenKey {
    fn drop(&mut self) {
        self.orders.place_owed();
    }
}

impl Deref for TakenKey {
    type Target = RecipientKey;

    fn deref(&self) -> &RecipientKey {
        &self.key
    }
}

/// Makes what is ordered, until nobody can take keys any more.
fn make(orders: &Orders, ready: &mpsc::Sender<Made>) {
    while orders.next() && ready.blocking_send(RecipientKey::generate()).is_ok() {}
}

impl Pool {
    /// The key taken last, less than `shared` ago, if a request still has it.
    fn on_its_way(&self, shared: Duration) -> Option<Arc<TakenKey>> {
        let (key, since) = self.last.as_ref()?;
        (since.elapsed() < shared).then(|| key.upgrade())?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_public_half_is_an_rsa_2048_spki_and_its_digest_names_the_recipient() {
        let key = RecipientKey::generate().unwrap();
        assert_eq!(key.public_key().len(), 294);
        assert_eq!(
            key.id().as_slice(),
            digest(&SHA256, key.public_key()).as_ref()
        );
    }

    #[tokio::test]
    async fn one_taker_after_the_other_gets_a_key_of_its_own_also_when_none_is_ready() {
        let keys = RecipientKeys::start(1, Duration::from_secs(3600)).unwrap();
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(*keys.take().await.unwrap().id());
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }

    /// Keys of which two are ready and no more come.
    fn two_ready(shared: Duration) -> (RecipientKeys, mpsc::Sender<Made>) {
        let (sender, ready) = mpsc::channel(2);
        for _ in 0..2 {
            sender.try_send(RecipientKey::generate()).unwrap();
        }
        (RecipientKeys::of(ready, 0, shared), sender)
    }

    #[tokio::test(start_paused = true)]
    async fn takers_at_the_same_time_share_the_last_key_for_a_while_and_no_longer() {
        let (keys, _more) = two_ready(Duration::from_secs(5));
        let first = keys.take().await.unwrap();
        let second = keys.take().await.unwrap();
        assert_ne!(first.id(), second.id());
        let third = keys.take().await.unwrap();
        assert!(Arc::ptr_eq(&second, &third));
        // Nobody waits for ever in this test: the clock moves on when nothing else does.
        let wait = |keys| tokio::time::timeout(Duration::from_secs(1), RecipientKeys::take(keys));
        tokio::time::advance(Duration::from_secs(4)).await;
        let fourth = wait(&keys).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&second, &fourth));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(wait(&keys).await.is_err(), "shared for too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_gone_with_the_last_request_that_has_it() {
        let (keys, _more) = two_ready(Duration::from_secs(5));
        drop(keys.take().await.unwrap());
        drop(keys.take().await.unwrap());
        let again = tokio::time::timeout(Duration::from_secs(1), keys.take()).await;
        assert!(again.is_err(), "a key was kept");
    }

    /// How many keys are ordered, and in how many keys' places none is yet.
    fn book(keys: &RecipientKeys) -> (usize, usize) {
        let book = keys.orders.book();
        (book.open, book.owed)
    }

    #[tokio::test]
    async fn the_next_key_is_ordered_when_a_request_is_done_with_its_own() {
        let (keys, _more) = two_ready(Duration::from_secs(5));
        let first = keys.take().await.unwrap();
        let second = keys.take().await.unwrap();
        let shared = keys.take().await.unwrap();
        assert_eq!(book(&keys), (0, 2));
        drop(first);
        assert_eq!(book(&keys), (1, 1));
        drop(second);
        assert_eq!(book(&keys), (1, 1), "a request still has it");
        drop(shared);
        assert_eq!(book(&keys), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_that_must_wait_orders_a_key_at_once() {
        let (keys, more) = two_ready(Duration::ZERO);
        let _first = keys.take().await.unwrap();
        let _second = keys.take().await.unwrap();
        let waits = tokio::time::timeout(Duration::from_secs(1), keys.take()).await;
        assert!(waits.is_err(), "nobody makes keys here");
        assert_eq!(book(&keys), (1, 1));
        more.try_send(RecipientKey::generate()).unwrap();
        let third = keys.take().await.unwrap();
        assert_eq!(book(&keys), (1, 2));
        drop(third);
        assert_eq!(book(&keys), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_not_shared_where_that_is_not_wanted() {
        let (keys, _more) = two_ready(Duration::ZERO);
        let _first = keys.take().await.unwrap();
        let _second = keys.take().await.unwrap();
        let third = tokio::time::timeout(Duration::from_secs(1), keys.take()).await;
        assert!(third.is_err(), "a key was shared");
    }

    #[test]
    fn another_keys_ciphertext_is_refused() {
        let key = RecipientKey::generate().unwrap();
        let error = key.unwrap(&[7; ENCRYPTED_KEY_LENGTH]).err().unwrap();
        assert_eq!(error, CmsError::ContentKey);
    }
}

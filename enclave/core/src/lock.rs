//! The seam to whatever keeps a lock shut: a TPM, a key management service.

use std::future::Future;
use std::pin::Pin;

use nodeseal_memory::Secret;
use nodeseal_wire::lock::{Lock, LockSpec};
use nodeseal_wire::message::{Context, Fact, Refusal};

/// Length of the secret a lock yields, in bytes.
pub const LOCK_SECRET_LENGTH: usize = 32;

/// A future that can be held by a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What every lock of one data key is bound to, and what the agent passed along.
#[derive(Clone, Copy)]
pub struct LockContext<'a> {
    /// Node the data key belongs to.
    pub node: &'a str,
    /// Id of the data key, in the header of each blob sealed under it.
    pub data_key_id: &'a [u8; 16],
    /// Credentials, way out, signed policies: nothing the agent says is trusted, only used.
    pub request: &'a Context,
}

/// A lock that was just made, with the secret it will yield.
pub struct NewLock {
    /// What goes into the blob.
    pub lock: Lock,
    /// 32 fresh random bytes only this lock yields.
    pub secret: Secret,
    /// For the audit log.
    pub facts: Vec<Fact>,
}

/// A lock that opened.
pub struct OpenedLock {
    /// The 32 bytes.
    pub secret: Secret,
    /// For the audit log.
    pub facts: Vec<Fact>,
}

/// Makes and opens locks of one kind. Each implementation is one folder or crate; [`crate::keyring`] asks each lock
/// once per data key.
pub trait KeyService: Send + Sync {
    /// Whether locks made by this specification are this service's.
    fn makes(&self, spec: &LockSpec) -> bool;

    /// Whether this lock is this service's.
    fn opens(&self, lock: &Lock) -> bool;

    /// Makes a lock with a new secret.
    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>>;

    /// Opens a lock.
    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>>;
}

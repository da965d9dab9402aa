//! A byte string on locked pages of its own.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;

use rustix::mm::{
    Advice, MapFlags, MlockFlags, ProtFlags, madvise, mlock_with, mmap_anonymous, munmap,
};
use zeroize::Zeroize;

/// The kernel would not give or lock the pages of a secret.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {bytes} bytes for a secret (RLIMIT_MEMLOCK is {limit}): {source}")]
pub struct LockMemoryError {
    operation: &'static str,
    bytes: usize,
    limit: MemoryLimit,
    source: rustix::io::Errno,
}

/// `RLIMIT_MEMLOCK` as a person reads it.
#[derive(Debug)]
struct MemoryLimit(Option<u64>);

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} bytes"),
            None => f.write_str("unlimited"),
        }
    }
}

/// Secret bytes: on pages of their own that are locked in RAM, left out of core dumps, absent in forked children,
/// and overwritten with zeros before they are given back.
///
/// There is no `Clone`, `Debug`, `Serialize` or comparison; [`Secret::expose`] is the one door.
/// Moving a `Secret` moves a pointer, so no copy of the bytes stays behind on the stack.
pub struct Secret {
    start: NonNull<u8>,
    mapped: usize,
    length: usize,
}

// SAFETY: the pages belong to this value alone and are reached only through `&self` / `&mut self`.
unsafe impl Send for Secret {}
// SAFETY: a shared reference gives out only shared slices.
unsafe impl Sync for Secret {}

impl Secret {
    /// `length` zero bytes on fresh locked pages.
    ///
    /// # Errors
    /// When the kernel has no pages or `RLIMIT_MEMLOCK` (setrlimit(2)) does not allow to lock them.
    pub fn zeroed(length: usize) -> Result<Self, LockMemoryError> {
        let page = rustix::param::page_size();
        let mapped = length.max(1).div_ceil(page).saturating_mul(page);
        let fail = |operation| {
            move |source| LockMemoryError {
                operation,
                bytes: mapped,
                limit: MemoryLimit(
                    rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
                ),
                source,
            }
        };
        // SAFETY: a fresh private anonymous mapping at an address the kernel chooses touches no existing memory.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }
        .map_err(fail("map"))?;
        let secret = Self {
            start: NonNull::new(start.cast())
                .ok_or_else(|| fail("map")(rustix::io::Errno::NOMEM))?,
            mapped,
            length,
        };
        // SAFETY: the range is exactly the mapping made above, owned by `secret` and still all zeros.
        unsafe {
            // Locked as they are touched: a length somebody merely claims costs no memory.
            mlock_with(start, mapped, MlockFlags::ONFAULT).map_err(fail("lock"))?;
            madvise(start, mapped, Advice::LinuxDontDump).map_err(fail("keep out of dumps"))?;
            madvise(start, mapped, Advice::LinuxWipeOnFork).map_err(fail("keep from children"))?;
        }
        Ok(secret)
    }

    /// Moves bytes out of ordinary memory: copies them to locked pages and wipes the source.
    ///
    /// # Errors
    /// As [`Secret::zeroed`]; the source is wiped in that case too.
    pub fn take_from(source: &mut [u8]) -> Result<Self, LockMemoryError> {
        let made = Self::copy_of(source);
        source.zeroize();
        made
    }

    /// A copy of bytes that are no secret yet (a ciphertext to be opened in place) or lie in another [`Secret`].
    ///
    /// # Errors
    /// As [`Secret::zeroed`].
    pub fn copy_of(source: &[u8]) -> Result<Self, LockMemoryError> {
        let mut secret = Self::zeroed(source.len())?;
        secret.expose_mut().copy_from_slice(source);
        Ok(secret)
    }

    /// The bytes. Every caller is listed in `tests/architecture.rs`.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        // SAFETY: `length <= mapped`, the pages are initialised (zeros at least) and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// The bytes, to fill them in place.
    pub fn expose_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `expose`, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The same pages with no bytes in them, wiped now: to be filled again with [`Secret::reused`].
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.truncate(0);
        self
    }

    /// `length` zero bytes: in the pages of these, which are wiped, or on fresh ones where those do not suffice. Locking
    /// pages and having them from the kernel costs more than most of what is done with them.
    ///
    /// # Errors
    /// As [`Secret::zeroed`].
    pub fn reused(self, length: usize) -> Result<Self, LockMemoryError> {
        let mut empty = self.emptied();
        if length > empty.mapped {
            return Self::zeroed(length);
        }
        // Zeros all through: fresh pages are, and what is cut off is wiped.
        empty.length = length;
        Ok(empty)
    }

    /// Shortens to `length` bytes and wipes what is cut off; longer than it is changes nothing.
    pub fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.expose_mut().get_mut(length..) {
            rest.zeroize();
            self.length = length;
        }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        // SAFETY: the mapping was made in `zeroed` with this length, and nothing can refer to it any more.
        // A failure here would only leave zeroed pages mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast::<c_void>(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_secret_leaves_only_zeros_at_its_source() {
        let mut source = *b"the private key";
        let secret = Secret::take_from(&mut source).unwrap();
        assert_eq!(secret.expose(), b"the private key");
        assert_eq!(source, [0; 15]);
    }

    #[test]
    fn the_pages_of_a_secret_are_locked_and_kept_from_dumps_and_children() {
        let secret = Secret::take_from(&mut [7; 100]).unwrap();
        let start = format!("{:x}-", secret.start.as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let entry = smaps.split_once(&start).unwrap().1;
        let flags = entry
            .split_once("VmFlags:")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap();
        for (flag, meaning) in [
            ("lo", "locked"),
            ("dd", "not dumped"),
            ("wf", "wiped on fork"),
        ] {
            assert!(
                flags.split_whitespace().any(|f| f == flag),
                "{meaning}: {flags}"
            );
        }
    }

    #[test]
    fn truncating_wipes_what_is_cut_off() {
        let mut secret = Secret::take_from(&mut [7; 10]).unwrap();
        secret.truncate(4);
        assert_eq!(secret.expose(), [7; 4]);
        secret.length = 10;
        assert_eq!(secret.expose()[4..], [0; 6]);
        secret.truncate(11);
        assert_eq!(secret.len(), 10);
    }

    #[test]
    fn reused_pages_hold_nothing_of_what_was_in_them() {
        let secret = Secret::take_from(&mut [7; 100]).unwrap();
        let start = secret.start;
        let again = secret.emptied().reused(4096).unwrap();
        assert_eq!((again.start, again.expose()), (start, &[0; 4096][..]));
        let larger = again.reused(1 << 20).unwrap();
        assert_eq!(larger.expose(), vec![0; 1 << 20]);
    }

    #[test]
    fn a_secret_beyond_the_lock_limit_is_refused_with_the_limit_named() {
        let impossible = usize::MAX / 2;
        let error = Secret::zeroed(impossible).err().unwrap().to_string();
        assert!(error.starts_with("cannot map "), "{error}");
        assert!(error.contains("RLIMIT_MEMLOCK is"), "{error}");
    }
}

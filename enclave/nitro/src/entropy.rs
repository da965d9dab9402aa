//! The kernel's random pool, fed by the security module before any key is made.
//!
//! The kernel's own driver offers the module as a hardware generator too, but nothing says when the pool has got of it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use rustix::ioctl::{NoArg, Opcode, Setter, ioctl, opcode};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most bytes fed at once: what the module gives in one answer.
const MOST: usize = 256;

/// `struct rand_pool_info` of linux/random.h, with room for [`MOST`] bytes.
#[repr(C)]
#[derive(Zeroize, ZeroizeOnDrop)]
struct PoolInfo {
    /// Bits of entropy to credit.
    entropy_count: i32,
    /// Bytes in `buffer`.
    size: i32,
    buffer: [u8; MOST],
}

/// `RNDADDENTROPY`, which linux/random.h defines over an array of two ints.
const ADD_ENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 3);
/// `RNDRESEEDCRNG`.
const RESEED: Opcode = opcode::none(b'R', 7);

/// Mixes up to 256 `bytes` into the pool, credits them in full, and makes the generator take them up at once
/// (random(4)).
///
/// # Errors
/// When the kernel refuses; no key may be made then.
pub fn feed(bytes: &[u8]) -> io::Result<()> {
    let bytes = bytes.get(..MOST).unwrap_or(bytes);
    let size = i32::try_from(bytes.len()).unwrap_or_default();
    let mut info = PoolInfo {
        entropy_count: size.saturating_mul(8),
        size,
        buffer: [0; MOST],
    };
    for (place, byte) in info.buffer.iter_mut().zip(bytes) {
        *place = *byte;
    }
    let pool = File::options().write(true).open("/dev/random")?;
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` whose `size` bytes of buffer lie within the structure.
    unsafe { ioctl(&pool, Setter::<ADD_ENTROPY, PoolInfo>::new(info)) }?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { ioctl(&pool, NoArg::<RESEED>::new()) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_have_the_numbers_of_linux_random_h() {
        assert_eq!(ADD_ENTROPY, 0x4008_5203);
        assert_eq!(RESEED, 0x5207);
    }

    #[test]
    fn the_pool_takes_bytes_from_root_and_from_nobody_else() {
        let fed = feed(&[7; 300]);
        if rustix::process::geteuid().is_root() {
            // A container may lack CAP_SYS_ADMIN; what it must not do is break anything.
            assert!(fed.is_ok() || fed.is_err_and(|e| e.raw_os_error() == Some(1)));
        } else {
            assert!(fed.is_err());
        }
    }
}

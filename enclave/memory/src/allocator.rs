//! A heap that forgets: every block is overwritten before it is given back.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};

use zeroize::Zeroize;

/// The system's allocator, with every freed block overwritten by zeros first.
///
/// Secrets belong in [`crate::Secret`]; this is for what passes through buffers of libraries on the way (frames, TLS
/// records, base64 text). A binary that may see plaintext keys installs it:
/// `#[global_allocator] static HEAP: WipingAllocator = WipingAllocator;`
pub struct WipingAllocator;

// SAFETY: every call is passed to `System` with the same layout; `realloc` is the provided one, which allocates,
// copies and calls `dealloc`, so that a moved block is overwritten too.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are those of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is `layout.size()` bytes long, owned by the caller and about to be freed, so nobody else
        // refers to it. Uninitialised bytes in it are only written, through a slice of `MaybeUninit`.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(
                block.cast::<std::mem::MaybeUninit<u8>>(),
                layout.size(),
            );
            bytes.zeroize();
            System.dealloc(block, layout);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_freed_block_holds_nothing_of_what_was_in_it() {
        let layout = Layout::from_size_align(1000, 1).unwrap();
        // SAFETY: the block is written within its size, freed once, and read afterwards only by the kernel.
        let block = unsafe {
            let block = WipingAllocator.alloc(layout);
            block.write_bytes(7, 1000);
            WipingAllocator.dealloc(block, layout);
            block
        };
        let mut seen = [7u8; 1000];
        std::fs::File::open("/proc/self/mem")
            .unwrap()
            .read_exact_at(&mut seen, block as u64)
            .unwrap();
        assert!(!seen.windows(4).any(|w| w == [7; 4]));
    }
}

//! Looking for bytes in the memory of another process.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::{Context, Error, Result};

/// Read at a time; large enough to be quick, small enough to be kept beside the overlap.
const CHUNK: usize = 1 << 20;

/// How often `needle` occurs in the readable memory of process `pid` (/proc/PID/maps and /proc/PID/mem, proc(5)).
///
/// Reading a non-dumpable process needs root.
///
/// # Errors
/// When the process is gone or may not be read, or `needle` is too short to mean anything (under 8 bytes).
pub fn memory_scan(pid: u32, needle: &[u8]) -> Result<usize> {
    if needle.len() < 8 || needle.len() > CHUNK / 2 {
        return Err(Error::new("a needle has 8 bytes at least"));
    }
    let maps = format!("/proc/{pid}/maps");
    let maps = std::fs::read_to_string(&maps).context(maps)?;
    let name = format!("/proc/{pid}/mem");
    let memory = File::open(&name).context(&name)?;
    let mut buffer = vec![0; CHUNK];
    let mut count = 0;
    let mut regions = 0_usize;
    for (start, end) in maps.lines().filter_map(readable) {
        regions += usize::from(scan(&memory, start, end, needle, &mut buffer, &mut count));
    }
    // Everything of a live process unreadable means "not allowed", never "not found".
    if regions == 0 {
        return Err(Error::new(format!(
            "{name}: nothing readable (run as root)"
        )));
    }
    Ok(count)
}

/// Counts in one region; false if not even its start can be read (the kernel's own pages).
fn scan(
    memory: &File,
    start: u64,
    end: u64,
    needle: &[u8],
    buffer: &mut [u8],
    count: &mut usize,
) -> bool {
    let mut at = start;
    let mut kept = 0;
    while at < end {
        let space = buffer.len() - kept;
        let wanted = usize::try_from(end - at).map_or(space, |left| left.min(space));
        let Ok(got) = memory.read_at(&mut buffer[kept..kept + wanted], at) else {
            return at > start;
        };
        if got == 0 {
            break;
        }
        let filled = kept + got;
        *count += memchr::memmem::find_iter(&buffer[..filled], needle).count();
        // A match may straddle two reads, so the tail is looked at again, too short to be counted twice.
        let tail = filled.min(needle.len() - 1);
        buffer.copy_within(filled - tail..filled, 0);
        kept = tail;
        at += got as u64;
    }
    true
}

/// Bounds of a readable mapping from its line in /proc/PID/maps.
fn readable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    if !rest.starts_with('r') || rest.ends_with("[vvar]") || rest.ends_with("[vsyscall]") {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_needle_in_another_process_is_found_and_one_not_there_is_not() {
        let needle = b"9f2c1a77-needle-of-this-test";
        let mut child = Command::new("sh")
            .args(["-c", "read x; echo got; read y; echo $x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(needle).unwrap();
        input.write_all(b"\n").unwrap();
        let mut word = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        let found = memory_scan(child.id(), needle).unwrap();
        let absent = memory_scan(child.id(), b"another needle altogether").unwrap();
        drop(input);
        child.wait().unwrap();
        assert!(found > 0);
        assert_eq!(absent, 0);
    }
}

//! Files made, replaced, removed and found.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::*;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn create(path: &Path, content: &[u8]) -> Result<(), FileError> {
    create_all([(path.to_owned(), content.to_vec())], SECRET_MODE).remove(0)
}

#[test]
fn a_new_file_has_its_mode_and_makes_its_directories_private() {
    let directory = directory();
    let path = directory.path().join("a/b/key");
    create(&path, b"content").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let parent = path.parent().unwrap().metadata().unwrap();
    assert_eq!(parent.permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_new_file_never_replaces_anything_not_even_a_dangling_link() {
    let directory = directory();
    let path = directory.path().join("key");
    std::fs::write(&path, "old").unwrap();
    let error = create(&path, b"new").unwrap_err();
    assert!(matches!(error, FileError::Exists { path: found } if found == path));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    let link = directory.path().join("link");
    symlink("/nowhere", &link).unwrap();
    assert!(matches!(
        create(&link, b"new"),
        Err(FileError::Exists { .. })
    ));
    assert_eq!(names(directory.path()), ["key", "link"]);
}

#[test]
fn until_it_is_published_a_new_file_cannot_be_seen() {
    let directory = directory();
    let path = directory.path().join("key");
    let new = NewFile::write(&path, b"content", SECRET_MODE).unwrap();
    new.sync().unwrap();
    assert_eq!(names(directory.path()), [""; 0]);
    new.publish().unwrap();
    assert_eq!(names(directory.path()), ["key"]);
    drop(NewFile::write(&directory.path().join("other"), b"", SECRET_MODE).unwrap());
    assert_eq!(names(directory.path()), ["key"]);
}

#[test]
fn many_files_each_succeed_or_fail_for_themselves() {
    let directory = directory();
    std::fs::write(directory.path().join("17"), "old").unwrap();
    let file = |number| {
        (
            directory.path().join(format!("{number}")),
            vec![b'x'; number],
        )
    };
    let results = create_all((0..300).map(file), BLOB_MODE);
    assert_eq!(results.len(), 300);
    for (number, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), number == 17, "{number}");
    }
    assert_eq!(
        std::fs::read(directory.path().join("299")).unwrap().len(),
        299
    );
    assert_eq!(std::fs::read(directory.path().join("17")).unwrap(), b"old");
}

#[test]
fn a_leftover_of_a_crash_is_removed_and_a_file_in_the_making_is_not() {
    let directory = directory();
    let (left, live) = (".nodeseal-0123.new", ".nodeseal-4567.new");
    std::fs::write(directory.path().join(left), "half").unwrap();
    let live_file = std::fs::File::create(directory.path().join(live)).unwrap();
    flock(&live_file, FlockOperation::LockExclusive).unwrap();
    std::fs::write(directory.path().join(".nodeseal-mine"), "not ours").unwrap();
    create(&directory.path().join("key"), b"").unwrap();
    assert_eq!(
        names(directory.path()),
        [".nodeseal-4567.new", ".nodeseal-mine", "key"]
    );
}

#[test]
fn a_replaced_file_is_kept_until_it_is_discarded_and_can_come_back() {
    let directory = directory();
    let path = directory.path().join("key.sealed");
    std::fs::write(&path, "one").unwrap();
    let kept = replace(&path, b"two").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::fs::read(old_path(&path)).unwrap(), b"one");
    // Only one can be kept: replacing again would lose it.
    let error = replace(&path, b"three").err().unwrap();
    assert!(matches!(error, FileError::Exists { path: found } if found == old_path(&path)));
    kept.restore().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"one");
    replace(&path, b"two").unwrap().discard().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(names(directory.path()), ["key.sealed"]);
    assert!(KeptOld::left_of(&path).is_none());
}

#[test]
fn a_removed_plaintext_is_overwritten_under_its_open_descriptor() {
    let directory = directory();
    let path = directory.path().join("key");
    std::fs::write(&path, vec![b'k'; 10_000]).unwrap();
    // A second descriptor sees what becomes of the content once the name is gone.
    let mut witness = std::fs::File::open(&path).unwrap();
    let plaintext = Plaintext::open_to_remove(&path, 20_000).unwrap();
    assert_eq!(plaintext.read().unwrap().expose(), vec![b'k'; 10_000]);
    plaintext.remove().unwrap();
    assert_eq!(names(directory.path()), [""; 0]);
    let mut left = Vec::new();
    std::io::Read::read_to_end(&mut witness, &mut left).unwrap();
    assert_eq!(left, vec![0; 10_000]);
}

#[test]
fn a_plaintext_that_was_swapped_grown_or_linked_is_not_removed() {
    let directory = directory();
    let path = directory.path().join("key");
    std::fs::write(&path, "one").unwrap();
    let plaintext = Plaintext::open_to_remove(&path, 100).unwrap();
    std::fs::write(directory.path().join("new"), "two").unwrap();
    std::fs::rename(directory.path().join("new"), &path).unwrap();
    assert!(matches!(plaintext.remove(), Err(FileError::Changed { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    let plaintext = Plaintext::open_to_remove(&path, 100).unwrap();
    std::fs::write(&path, "longer").unwrap();
    assert!(matches!(plaintext.read(), Err(FileError::Changed { .. })));
    std::fs::hard_link(&path, directory.path().join("again")).unwrap();
    let error = Plaintext::open_to_remove(&path, 100).err().unwrap();
    assert!(matches!(error, FileError::Linked { links: 2, .. }));
    assert_eq!(path.metadata().unwrap().nlink(), 2);
}

#[test]
fn what_is_no_regular_file_or_too_large_is_no_key_file() {
    let directory = directory();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let link = directory.path().join("link");
    symlink("pipe", &link).unwrap();
    for (path, expected) in [
        (&pipe, "a named pipe"),
        (&link, "a symbolic link"),
        (&directory.path().to_owned(), "a directory"),
    ] {
        let error = Plaintext::open(path, 100).err().unwrap();
        assert!(
            matches!(error, FileError::NotRegular { found, .. } if found == expected),
            "{expected}"
        );
    }
    let large = directory.path().join("large");
    std::fs::write(&large, [0; 101]).unwrap();
    let error = Plaintext::open(&large, 100).err().unwrap();
    assert!(matches!(
        error,
        FileError::TooLarge {
            found: 101,
            limit: 100,
            ..
        }
    ));
}

fn tree(files: &[&str]) -> TempDir {
    let directory = directory();
    for file in files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "content").unwrap();
    }
    directory
}

#[test]
fn key_files_are_recognised_by_name_and_by_their_directory() {
    let directory = tree(&[
        "geth/nodekey",
        "geth/chaindata/1.ldb",
        "keystore/UTC--1",
        "config/priv_validator_key.json",
        "msp/keystore/priv_sk",
        "tls/server.key",
        "tls/ca.crt",
        "secrets/0xabc",
        "a.sealed",
        "a.sealed.old",
    ]);
    let found = find_key_files(directory.path(), false).unwrap();
    let paths: Vec<_> = found
        .files
        .iter()
        .map(|path| path.to_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "config/priv_validator_key.json",
            "geth/nodekey",
            "keystore/UTC--1",
            "msp/keystore/priv_sk",
            "secrets/0xabc",
            "tls/server.key"
        ]
    );
    assert_eq!(found.passed_over, 2);
    assert_eq!(
        find_key_files(directory.path(), true).unwrap().files.len(),
        8
    );
    let blobs = find_blobs(directory.path()).unwrap();
    assert_eq!(blobs, [directory.path().join("a.sealed")]);
}

#[test]
fn where_no_key_file_is_recognised_all_are_taken_and_a_link_among_them_is_refused() {
    let directory = tree(&["one", "sub/two"]);
    assert_eq!(
        find_key_files(directory.path(), false).unwrap().files.len(),
        2
    );
    symlink("one", directory.path().join("three")).unwrap();
    let error = find_key_files(directory.path(), false).unwrap_err();
    assert!(matches!(
        error,
        FileError::NotRegular {
            found: "a symbolic link",
            ..
        }
    ));
    // In a node's directory a link that is no key is no matter.
    std::fs::write(directory.path().join("nodekey"), "key").unwrap();
    assert_eq!(
        find_key_files(directory.path(), false).unwrap().files.len(),
        1
    );
}

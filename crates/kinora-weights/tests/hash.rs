//! Hashes are computed once, and again when the file changed.

use std::{fs, path::PathBuf};

use kinora_weights::{HashCache, hash_file};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn file_of_abc() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    fs::write(&path, "abc").unwrap();
    (folder, path)
}

#[test]
fn the_hash_is_the_standard_one() {
    let (_folder, path) = file_of_abc();
    assert_eq!(hash_file(&path).unwrap(), ABC);
    assert!(hash_file(&path.join("not")).is_err());
}

#[test]
fn a_hash_is_remembered_until_the_file_changes() {
    let (folder, path) = file_of_abc();
    let store = folder.path().join("hashes.json");
    let mut cache = HashCache::load(&store);
    assert_eq!(cache.get(&path), None);
    assert_eq!(cache.hash(&path).unwrap(), ABC);
    cache.save().unwrap();

    // Another process knows it too, and adds its own without losing this one's.
    let mut other = HashCache::load(&store);
    assert_eq!(other.get(&path), Some(ABC));
    let second = folder.path().join("second");
    fs::write(&second, "").unwrap();
    cache.hash(&second).unwrap();
    cache.save().unwrap();
    let third = folder.path().join("third");
    fs::write(&third, "abc").unwrap();
    other.hash(&third).unwrap();
    other.save().unwrap();
    let all = HashCache::load(&store);
    assert!(
        [&path, &second, &third]
            .iter()
            .all(|path| all.get(path).is_some())
    );

    // A new file under the old name, of the same size, has another inode.
    let replacement = folder.path().join("replacement");
    fs::write(&replacement, "abd").unwrap();
    fs::rename(&replacement, &path).unwrap();
    assert_eq!(all.get(&path), None);
    assert_ne!(HashCache::load(&store).hash(&path).unwrap(), ABC);
    assert!(fs::read_dir(folder.path()).unwrap().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".part")
    }));
}

#[test]
fn a_damaged_cache_is_begun_anew() {
    let (folder, path) = file_of_abc();
    let store = folder.path().join("hashes.json");
    for text in ["", "{", "[]", r#"{"version":99,"files":{}}"#] {
        fs::write(&store, text).unwrap();
        let mut cache = HashCache::load(&store);
        assert_eq!(cache.hash(&path).unwrap(), ABC);
        cache.save().unwrap();
        assert_eq!(HashCache::load(&store).get(&path), Some(ABC), "{text}");
    }
}

//! Files that are no documents: BAD_DOCUMENT at the origin, ORIGIN_FAILURE behind a proxy, never cached; and no file
//! outside the data directory is served.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::command::make_fifo;
use crate::support::{Address, Data, Node, Start, StopOnDrop, TempDir, ask, at_once, get, status_of, timed};

const SECRET: &str = "what-no-client-may-see";

struct House {
    data: Data,
    origin: Node,
    proxy: Node,
}

/// A tree with one valid document, an origin over it, and a proxy.
fn house() -> House {
    let data = Data::articles(1);
    let origin = Start::origin(data.path(), "--max-document 64KiB --changes off").run();
    let proxy = Start::proxy(origin.address, "").run();
    House { data, origin, proxy }
}

impl House {
    /// The file is refused without a byte of its content, and served after it is corrected.
    fn assert_refused_until_mended(&self, path: &str) {
        for (node, expected) in [(&self.origin, "BAD_DOCUMENT"), (&self.proxy, "ORIGIN_FAILURE")] {
            for _ in 0..2 {
                let reply = ask(node.address, &format!("GET {path}"));
                assert_eq!(status_of(&reply), expected, "{path}: {reply}");
                assert!(!reply.contains(SECRET), "{path} leaks: {reply}");
                let place = self.data.path().to_str().expect("a path in UTF-8");
                assert!(!reply.contains(place), "{path} tells of the machine: {reply}");
            }
        }
        self.mend(path);
        for node in [&self.origin, &self.proxy] {
            assert_eq!(get(node.address, path)["data"], "mended", "{path}: the failure was cached");
        }
    }

    fn mend(&self, path: &str) {
        let file = self.data.file(path);
        let removed = if fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_dir()) {
            fs::remove_dir_all(&file)
        } else {
            fs::remove_file(&file)
        };
        removed.expect("the bad file is there");
        self.data.put(path, b"\"mended\"");
    }
}

#[test]
fn invalid_json_is_a_bad_document() {
    let house = house();
    let deep = |n: usize| [b"[".repeat(n), b"]".repeat(n)].concat();
    let files: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" \r\n\t".to_vec(),
        b"{\"a\": 1".to_vec(),
        b"{\"a\": [1, 2".to_vec(),
        b"\"cut".to_vec(),
        b"hello".to_vec(),
        b"<html></html>".to_vec(),
        b"{'a': 1}".to_vec(),
        b"{\"a\": 1,}".to_vec(),
        b"[1 2]".to_vec(),
        b"// note\n{}".to_vec(),
        b"NaN".to_vec(),
        b"[Infinity]".to_vec(),
        b"[01]".to_vec(),
        b"[.5]".to_vec(),
        b"[1.]".to_vec(),
        b"{\"a\": undefined}".to_vec(),
        b"{} {}".to_vec(),
        b"{}\n{}\n".to_vec(),
        b"1 2".to_vec(),
        b"\"a\nb\"".to_vec(),
        b"\"\\x41\"".to_vec(),
        b"\"\\u12\"".to_vec(),
        b"\"\xff\"".to_vec(),
        b"\"\xc0\xaf\"".to_vec(),
        b"\"\xed\xa0\x80\"".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\0".to_vec(),
        b"{}\0".to_vec(),
        deep(129),
        deep(200_000),
        b"[".repeat(60_000),
        format!("\"{}\"", "x".repeat(64 * 1024 - 1)).into_bytes(),
        b" ".repeat(64 * 1024 + 1),
    ];
    for (i, bytes) in files.iter().enumerate() {
        let path = format!("bad/{i}");
        house.data.put(&path, bytes);
        house.assert_refused_until_mended(&path);
    }
}

#[test]
fn max_document_is_the_largest_size() {
    let house = house();
    let text = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    assert_eq!(text.len(), 64 * 1024);
    house.data.put("bad/1", text.as_bytes());
    assert_eq!(get(house.origin.address, "bad/1")["status"], "OK");
    assert_eq!(get(house.proxy.address, "bad/1")["status"], "OK");
}

#[test]
fn a_huge_file_takes_no_memory() {
    let house = house();
    let huge = File::create(house.data.file("bad/huge")).expect("a file");
    huge.set_len(8 << 30).expect("a sparse file");
    let before = house.origin.resident_mib();
    at_once(vec![(); 8], |()| {
        let reply = ask(house.origin.address, "GET bad/huge");
        assert_eq!(status_of(&reply), "BAD_DOCUMENT");
    });
    let grown = house.origin.resident_mib().saturating_sub(before);
    assert!(grown < 16, "a file of 8 GiB took {grown} MiB");
    house.assert_refused_until_mended("bad/huge");
}

#[test]
fn only_regular_files_are_documents() {
    let house = house();
    fs::create_dir(house.data.file("bad/directory")).expect("a directory");
    house.assert_refused_until_mended("bad/directory");
    let _socket = UnixListener::bind(house.data.file("bad/socket")).expect("a socket");
    house.assert_refused_until_mended("bad/socket");
    symlink(house.data.file("bad/loop"), house.data.file("bad/loop")).expect("a link to itself");
    house.assert_refused_until_mended("bad/loop");
    make_fifo(&house.data.file("bad/fifo"));
    house.assert_refused_until_mended("bad/fifo");
}

#[test]
fn a_fifo_does_not_block_other_keys() {
    let house = house();
    make_fifo(&house.data.file("bad/fifo"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        // More than the threads of any pool that a node has for files.
        for _ in 0..64 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(status_of(&ask(house.origin.address, "GET bad/fifo")), "BAD_DOCUMENT");
                }
            });
        }
        let (took, ()) = timed(|| {
            for _ in 0..20 {
                assert_eq!(get(house.origin.address, "article/1")["status"], "OK");
            }
        });
        assert!(took < Duration::from_secs(15), "20 sound documents took {took:?}");
    });
}

#[test]
fn symbolic_links_out_of_the_tree_are_refused() {
    let house = house();
    let outside = TempDir::new();
    let secret = outside.path().join("secret.json");
    fs::write(&secret, format!("\"{SECRET}\"")).expect("a secret");
    let up = format!(
        "../{}/secret.json",
        outside.path().file_name().and_then(|name| name.to_str()).expect("a name")
    );
    fs::create_dir(house.data.path().join("deep")).expect("a directory");
    symlink(&secret, house.data.file("bad/absolute")).expect("a link");
    symlink(&up, house.data.file("bad/relative")).expect("a link");
    symlink(format!("deep/../{up}"), house.data.file("bad/winding")).expect("a link");
    symlink(&secret, house.data.path().join("hop")).expect("a link");
    symlink("hop", house.data.file("bad/twice")).expect("a link to a link");
    symlink("/proc/self/environ", house.data.file("bad/environ")).expect("a link");
    for name in ["absolute", "relative", "winding", "twice", "environ"] {
        let path = format!("bad/{name}");
        if name != "environ" {
            let target = fs::read_to_string(house.data.file(&path)).expect("the link leads somewhere");
            assert!(target.contains(SECRET));
        }
        house.assert_refused_until_mended(&path);
    }
}

#[test]
fn linked_directories_out_of_the_tree_are_refused() {
    let data = Data::empty();
    let outside = TempDir::new();
    fs::write(outside.path().join("secret.json"), format!("\"{SECRET}\"")).expect("a secret");
    symlink(outside.path(), data.path().join("shelf")).expect("a link to a directory");
    symlink(outside.path(), data.path().join("nested")).expect("a link to a directory");
    let flat = Start::origin(data.path(), "").run();
    let nested = Start::origin(data.path(), "--layout nested").run();
    for (node, path) in [(&flat, "she/lf/secret"), (&flat, "shelf/secret"), (&nested, "nested/secret")] {
        let reply = ask(node.address, &format!("GET {path}"));
        assert!(!reply.contains(SECRET), "{path}: {reply}");
        assert_ne!(status_of(&reply), "OK");
    }
}

#[test]
fn a_link_within_the_tree_is_a_document() {
    let house = house();
    symlink("article1.json", house.data.file("alias/1")).expect("a link");
    assert_eq!(get(house.origin.address, "alias/1")["data"]["id"], "article/1");
}

#[test]
fn a_file_that_changes_during_a_read_is_never_torn() {
    let house = house();
    // The beginning of one with the end of the other is not JSON.
    let numbers = format!("{{\"numbers\":[1{}]}}", ",1".repeat(30_000));
    let letters = format!("{{\"letters\":\"{}\"}}", "x".repeat(50_000));
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let whole = |node: Address, path: &str, bad: &str| {
        let reply = ask(node, &format!("GET {path}"));
        answered.fetch_add(1, Ordering::Relaxed);
        let sound = [&numbers, &letters]
            .into_iter()
            .any(|text| reply.starts_with(&format!("{{\"status\":\"OK\",\"data\":{text}")));
        assert!(sound || status_of(&reply) == bad, "a torn document: {} bytes, {:.80}", reply.len(), reply);
        sound
    };
    house.data.put("torn/1", numbers.as_bytes());
    let sound = thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for text in [&letters, &numbers, &letters, &numbers] {
                    house.data.put("torn/1", text.as_bytes());
                }
                // One reply between two writes: without a pause the file would never be whole.
                let before = answered.load(Ordering::Relaxed);
                while answered.load(Ordering::Relaxed) == before && !stop.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
        });
        let sound = (0..300).filter(|_| whole(house.origin.address, "torn/1", "BAD_DOCUMENT")).count();
        // Expires at once, so that every request fetches anew.
        let proxy = Start::proxy(house.origin.address, "--ttl 1ms").run();
        let proxied = (0..100).filter(|_| whole(proxy.address, "torn/1", "ORIGIN_FAILURE")).count();
        sound + proxied
    });
    assert!(sound > 0, "none of the answers was a document");
}

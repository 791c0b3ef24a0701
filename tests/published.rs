//! Documents that are published while they are read: a data directory that is replaced or gone, files that are rewritten.
//! Nobody is told NOT_FOUND of a document that there is, or shown an old tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::{Node, Start, StopOnDrop, TempDir, ask, get, pause, status_of, timed, until};

/// A place for trees, and the path `current` that an origin is started with.
struct Site(TempDir);

impl Site {
    /// `current` is a link to `r1`, which has `article/1` with the text 1.
    fn linked() -> Self {
        let site = Self(TempDir::new());
        site.tree("r1", "1");
        symlink("r1", site.current()).expect("a link");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn current(&self) -> PathBuf {
        self.path("current")
    }

    /// A directory with `article/1`.
    fn tree(&self, name: &str, text: &str) {
        fs::create_dir(self.path(name)).expect("a directory");
        fs::write(self.path(name).join("article1.json"), text).expect("a file");
    }

    /// Re-points a link as `ln -sfn` or `mv -T` do: by rename.
    fn point(&self, link: &Path, to: &str) {
        symlink(to, self.path("new-link")).expect("a link");
        fs::rename(self.path("new-link"), link).expect("the link is replaced");
    }

    fn remove(&self, name: &str) {
        fs::remove_dir_all(self.path(name)).expect("the tree is removed");
    }

    fn origin(&self) -> Node {
        Start::origin(&self.current(), "").run()
    }
}

/// The pace of a publisher that is slow between two steps.
const STEP: Duration = Duration::from_millis(15);

/// Asks a node for `article/1` until `edit` has ended. Each reply is at least as new as what was published when it was asked
/// for: `edit` tells the number of a document once it stands there.
fn read_while(node: &Node, edit: impl Fn(&dyn Fn(u64)) + Sync) {
    let (published, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _done = StopOnDrop(&done);
            edit(&|number| published.store(number, Ordering::SeqCst));
        });
        let _done = StopOnDrop(&done);
        while !done.load(Ordering::Relaxed) {
            let at_least = published.load(Ordering::SeqCst);
            let reply = get(node.address, "article/1");
            assert_eq!(reply["status"], "OK", "{reply}, {at_least} is published");
            assert!(reply["data"].as_u64().is_some_and(|number| number >= at_least), "{reply} < {at_least}");
        }
    });
}

#[test]
fn a_data_directory_that_is_a_re_pointed_link_is_followed_at_the_next_read() {
    let site = Site::linked();
    let origin = site.origin();
    assert_eq!(get(origin.address, "article/1")["data"], 1);
    site.tree("r2", "2");
    site.point(&site.current(), "r2");
    assert_eq!(get(origin.address, "article/1")["data"], 2);
    site.remove("r1");
    assert_eq!(get(origin.address, "article/1")["data"], 2);
    assert_eq!(get(origin.address, "article/2")["status"], "NOT_FOUND");
}

#[test]
fn a_link_within_the_path_of_the_data_directory_is_followed_too() {
    let site = Site(TempDir::new());
    for (revision, text) in [("r1", "1"), ("r2", "2")] {
        fs::create_dir(site.path(revision)).expect("a directory");
        site.tree(&format!("{revision}/data"), text);
    }
    symlink("r1", site.current()).expect("a link");
    let origin = Start::origin(&site.current().join("data"), "").run();
    assert_eq!(get(origin.address, "article/1")["data"], 1);
    site.point(&site.current(), "r2");
    site.remove("r1");
    assert_eq!(get(origin.address, "article/1")["data"], 2);
}

#[test]
fn links_out_of_the_new_directory_are_refused_as_well() {
    let site = Site::linked();
    let origin = site.origin();
    site.tree("r2", "2");
    fs::write(site.path("secret.json"), "\"secret\"").expect("a secret");
    symlink("../secret.json", site.path("r2").join("article2.json")).expect("a link");
    site.point(&site.current(), "r2");
    assert_eq!(status_of(&ask(origin.address, "GET article/2")), "BAD_DOCUMENT");
}

#[test]
fn a_data_directory_that_is_gone_is_a_failure_of_the_origin_and_not_of_its_documents() {
    let site = Site(TempDir::new());
    site.tree("current", "1");
    let origin = site.origin();
    let proxy = Start::proxy(origin.address, "--push-ttl off --ttl 1ms --origin-retry 50ms").run();
    assert_eq!(get(proxy.address, "article/1")["data"], 1);
    let is_away = |held: u64| {
        for key in ["article/1", "article/2"] {
            let reply = ask(origin.address, &format!("GET {key}"));
            assert_eq!(status_of(&reply), "ORIGIN_FAILURE", "{reply}");
            assert!(!reply.contains(site.0.path().to_str().expect("text")), "{reply} tells of the machine");
        }
        let stale = get(proxy.address, "article/1");
        assert_eq!((&stale["data"], &stale["stale"]), (&held.into(), &true.into()), "{stale}");
    };
    let is_back = |text: u64| {
        until("it is served again", || get(proxy.address, "article/1")["data"] == text);
        assert_eq!(get(origin.address, "article/1")["data"], text);
        assert_eq!(get(origin.address, "article/2")["status"], "NOT_FOUND");
    };
    // Renamed away.
    fs::rename(site.current(), site.path("elsewhere")).expect("a rename");
    is_away(1);
    until("the proxy holds it against its origin", || {
        let reply = get(proxy.address, "article/2");
        assert_eq!(reply["status"], "ORIGIN_FAILURE", "{reply}");
        proxy.metrics()["origin_failing"] == true
    });
    fs::rename(site.path("elsewhere"), site.current()).expect("a rename");
    is_back(1);
    // Removed, and made anew: while it is empty nothing is known.
    site.remove("current");
    is_away(1);
    fs::create_dir(site.current()).expect("a directory");
    is_away(1);
    fs::write(site.current().join("article1.json"), "2").expect("a file");
    is_back(2);
    // A link that leads nowhere, or to a file.
    fs::rename(site.current(), site.path("r3")).expect("a rename");
    symlink("nowhere", site.current()).expect("a link");
    is_away(2);
    fs::write(site.path("nowhere"), "no directory").expect("a file");
    is_away(2);
    site.point(&site.current(), "r3");
    is_back(2);
    let log = origin.log();
    assert_eq!(log.matches("no document can be served").count(), 3, "once for each time: {log}");
}

#[test]
fn trees_that_replace_each_other_are_never_missed_and_never_old() {
    let site = Site(TempDir::new());
    site.tree("r0", "0");
    symlink("r0", site.current()).expect("a link");
    let origin = site.origin();
    read_while(&origin, |publish| {
        for number in 1..200 {
            site.tree(&format!("r{number}"), &number.to_string());
            site.point(&site.current(), &format!("r{number}"));
            publish(number);
            site.remove(&format!("r{}", number - 1));
        }
    });
}

#[test]
fn a_swap_inside_of_the_data_directory_is_never_missed_and_never_old() {
    // As Kubernetes mounts a ConfigMap: files are links to `..data/…`, which is a link to a directory with a date.
    let site = Site(TempDir::new());
    fs::create_dir(site.current()).expect("a directory");
    site.tree("current/..0", "0");
    let data = site.current().join("..data");
    symlink("..0", &data).expect("a link");
    symlink("..data/article1.json", site.current().join("article1.json")).expect("a link");
    let origin = site.origin();
    read_while(&origin, |publish| {
        for number in 1..200 {
            site.tree(&format!("current/..{number}"), &number.to_string());
            site.point(&data, &format!("..{number}"));
            publish(number);
            site.remove(&format!("current/..{}", number - 1));
        }
    });
}

#[test]
fn a_file_that_is_deleted_and_written_is_never_missed() {
    let site = Site(TempDir::new());
    site.tree("current", "0");
    let origin = site.origin();
    let file = site.current().join("article1.json");
    read_while(&origin, |publish| {
        for number in 1..40 {
            fs::remove_file(&file).expect("the file is there");
            pause(STEP);
            fs::write(&file, number.to_string()).expect("a file");
            publish(number);
            pause(STEP);
        }
    });
    fs::remove_file(&file).expect("the file is there");
    assert_eq!(get(origin.address, "article/1")["status"], "NOT_FOUND", "it is not written again");
}

#[test]
fn a_file_that_is_emptied_and_written_bit_by_bit_is_never_bad() {
    let site = Site(TempDir::new());
    site.tree("current", "0");
    let origin = site.origin();
    let file = site.current().join("article1.json");
    read_while(&origin, |publish| {
        for number in 1..30 {
            fs::write(&file, "").expect("a file");
            pause(STEP);
            fs::write(&file, "  ").expect("a file");
            pause(STEP);
            fs::write(&file, number.to_string()).expect("a file");
            publish(number);
            pause(STEP);
        }
    });
    assert!(!origin.log().contains("cannot be served"), "{}", origin.log());
}

#[test]
fn a_key_that_does_not_exist_is_waited_for_once_and_not_each_time() {
    let site = Site(TempDir::new());
    site.tree("current", "0");
    let origin = Start::origin(&site.current(), "--settle-time 400ms").run();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // The directory never rests.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::write(site.path("other"), "1").expect("a file");
                fs::rename(site.path("other"), site.current().join("article2.json")).expect("a rename");
                pause(Duration::from_millis(5));
            }
        });
        let _done = StopOnDrop(&done);
        assert_eq!(get(origin.address, "article/404")["status"], "NOT_FOUND");
        let (took, ()) = timed(|| {
            for _ in 0..30 {
                assert_eq!(get(origin.address, "article/404")["status"], "NOT_FOUND");
            }
        });
        assert!(took < Duration::from_millis(400) * 15, "30 replies took {took:?}");
    });
}

#[test]
fn a_document_that_cannot_be_served_is_logged_once_with_its_place() {
    let site = Site(TempDir::new());
    site.tree("current", "{\n  \"a\": 1,\n  b: 2\n}");
    let origin = Start::origin(&site.current(), "--settle-time 0").run();
    let file = site.current().join("article1.json");
    let named = || origin.log().lines().filter(|line| line.contains("article/1")).count();
    for _ in 0..5 {
        let reply = get(origin.address, "article/1");
        assert!(reply["data"].as_str().is_some_and(|text| text.contains("line 3, column 3")), "{reply}");
    }
    until("it is in the log", || named() > 0);
    let log = origin.log();
    let line = log.lines().find(|line| line.contains("article/1")).unwrap_or_default();
    assert!(line.contains("WARN") && line.contains("line 3, column 3"), "{line}");
    fs::write(&file, "1").expect("a file");
    assert_eq!(get(origin.address, "article/1")["data"], 1);
    fs::write(&file, "{").expect("a file");
    for _ in 0..5 {
        assert_eq!(get(origin.address, "article/1")["status"], "BAD_DOCUMENT");
    }
    until("it is in the log again", || named() > 1);
    assert_eq!(named(), 2, "once for each time that it broke: {}", origin.log());
}

#[test]
fn behind_proxies_and_a_balancer_the_client_gets_the_sentence_of_the_origin() {
    let site = Site(TempDir::new());
    site.tree("current", "{\n  \"a\": 1,\n  b: 2\n}");
    let origin = Start::origin(&site.current(), "--settle-time 0").run();
    let first = Start::proxy(origin.address, "").run();
    let second = Start::proxy(first.address, "").run();
    let balancer = Start::balancer(&[second.address], "").run();
    let sentence = get(origin.address, "article/1")["data"].take();
    assert!(sentence.as_str().is_some_and(|text| text.contains("line 3, column 3")), "{sentence}");
    for node in [&first, &second, &balancer] {
        let reply = get(node.address, "article/1");
        assert_eq!((&reply["status"], &reply["data"]), (&"ORIGIN_FAILURE".into(), &sentence), "{reply}");
    }
    site.remove("current");
    let sentence = get(origin.address, "article/1")["data"].take();
    assert_eq!(get(first.address, "article/2")["data"], sentence, "the fault of the data directory");
}

//! A proxy before a bucket: that of rclone, which checks each signature.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::command::{Background, clean, venv};
use crate::support::temp::TempDir;
use crate::support::{Node, Start, get, until};

const KEYS: (&str, &str) = ("dproxy-reader", "a/secret+of=forty");

/// `rclone serve s3` over a directory whose folders are buckets; it ends on drop.
struct Rclone {
    url: String,
    _server: Background,
}

impl Rclone {
    fn serve(buckets: &TempDir, words: &[&str]) -> Option<Self> {
        let mut command = clean(&venv("rclone")?);
        let child =
            command.args(["serve", "s3", "--addr", "127.0.0.1:0", "--dir-cache-time", "0"]).args(words);
        let mut child = child.arg(buckets.path()).stderr(Stdio::piped()).spawn().expect("rclone");
        // … NOTICE: …: Starting s3 server on [http://127.0.0.1:40123/]
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines().map_while(Result::ok);
        let url = lines
            .find_map(|line| Some(line.split_once("server on [")?.1.trim_end_matches([']', '/']).to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { url: url.expect("its address"), _server: Background(child) })
    }

    fn signed(buckets: &TempDir) -> Option<Self> {
        Self::serve(buckets, &["--auth-key", &format!("{},{}", KEYS.0, KEYS.1)])
    }

    /// A node that reads a bucket here, with these variables of AWS' tools.
    fn before(&self, words: &str, variables: &str) -> Node {
        let url = &self.url;
        let export = format!("unset HOME; export AWS_ENDPOINT_URL={url} {variables}");
        Start::role("proxy", words).shell(&export, "").run()
    }
}

/// Stores an object.
fn put(buckets: &TempDir, path: &str, text: &str) {
    let path = buckets.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("an object");
}

#[test]
fn a_bucket_is_read_with_signed_requests() {
    let buckets = TempDir::new();
    for (path, text) in [("article/1", "1"), ("caf\u{e9} noir/a+b:c", "2"), ("x/half", "3")] {
        put(&buckets, &format!("docs/v1/{path}.json"), text);
    }
    let Some(rclone) = Rclone::signed(&buckets) else { return };
    let (id, secret) = KEYS;
    let keys = format!("AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID={id} AWS_SECRET_ACCESS_KEY={secret}");
    let proxy = rclone.before("--origin s3://docs/v1/ --ttl 100ms --query lang", &keys);
    assert_eq!(get(proxy.address, "article/1")["data"], 1);
    assert_eq!(get(proxy.address, "caf%C3%A9%20noir/a+b:c")["data"], 2);
    for missing in ["article/2", "article/1?lang=de"] {
        assert_eq!(get(proxy.address, missing)["status"], "NOT_FOUND", "{missing}");
    }
    until("an object is found unchanged", || {
        get(proxy.address, "article/1");
        proxy.count("not_modified") > 0.0
    });
    put(&buckets, "docs/v1/article/1.json", "11");
    until("it is found changed", || get(proxy.address, "article/1")["data"] == 11);
    assert_eq!(proxy.metrics()["source"], "bucket");
    drop(rclone);
    until("it is served stale", || get(proxy.address, "article/1")["stale"] == true);
    assert!(!proxy.log().contains(secret) && !proxy.metrics().to_string().contains(secret));
}

#[test]
fn keys_of_a_bucket_are_read_anew_and_wrong_ones_are_no_missing_object() {
    let buckets = TempDir::new();
    put(&buckets, "docs/article/1.json", "1");
    let Some(rclone) = Rclone::signed(&buckets) else { return };
    let elsewhere = TempDir::new();
    let file = elsewhere.path().join("credentials");
    let write = |secret: &str| {
        let text = format!("[reader]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", KEYS.0);
        std::fs::write(&file, text).expect("a file");
    };
    write("another");
    let variables = format!("AWS_PROFILE=reader AWS_SHARED_CREDENTIALS_FILE={}", file.display());
    let proxy = rclone.before("--origin s3://docs --origin-retry 10ms", &variables);
    let refused = get(proxy.address, "article/1");
    assert_eq!(refused["status"], "ORIGIN_FAILURE", "{refused}");
    assert!(
        refused["data"].as_str().is_some_and(|why| why.contains("403: the credentials are wrong")),
        "{refused}"
    );
    write(KEYS.1);
    until("the new keys are used", || get(proxy.address, "article/1")["data"] == 1);
}

#[test]
fn a_bucket_of_everybody_is_read_without_keys() {
    let buckets = TempDir::new();
    put(&buckets, "docs/article/1.json", "1");
    let Some(rclone) = Rclone::serve(&buckets, &[]) else { return };
    let proxy = rclone.before("--origin s3://docs/{resource}/{key}.json", "");
    assert_eq!(get(proxy.address, "article/1")["data"], 1);
    assert_eq!(get(proxy.address, "article/2")["status"], "NOT_FOUND");
}

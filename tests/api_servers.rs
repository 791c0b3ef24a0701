//! A proxy before real servers: that of Python, nginx, and servers of TLS with good and bad certificates.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::api::before;
use crate::support::api::{Act, Api, ok};
use crate::support::authority::Authority;
use crate::support::command::{Background, clean, has_command};
use crate::support::front::Front;
use crate::support::moody::explain;
use crate::support::{Data, Node, Start, eventually, get, until};

/// `python3 -m http.server` over a directory; it ends on drop.
struct Python {
    url: String,
    _server: Background,
}

impl Python {
    fn serve(directory: &Path) -> Option<Self> {
        if !has_command("python3", "python3") {
            return None;
        }
        let mut command = clean("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(directory);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("python3");
        // Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ...
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let url = line.split(['(', ')']).nth(1).unwrap_or_else(|| panic!("no URL in {line:?}"));
        Some(Self { url: url.trim_end_matches('/').to_owned(), _server: Background(child) })
    }
}

#[test]
fn a_cluster_stands_before_the_server_of_python() {
    let data = Data::articles(5);
    let Some(python) = Python::serve(data.path()) else { return };
    let url = format!("{}/{{resource}}{{key}}.json", python.url);
    let words = format!("--data {url} --proxy-port 0 --http-port 0 --ttl 100ms --strategy hash");
    let mut cluster = Start::role("cluster", &words).spawn();
    // Three proxies, and the balancer behind them.
    let proxies: Vec<_> = (0..3).map(|_| cluster.listens().1).collect();
    let (role, balancer) = cluster.listens();
    assert!(role.contains("balancer"), "{role}");
    for i in 1..=5 {
        assert_eq!(get(balancer, &format!("article/{i}"))["data"]["id"], format!("article/{i}"));
    }
    assert_eq!(get(balancer, "article/6")["status"], "NOT_FOUND");
    let count = |name: &str| -> f64 {
        let of = |address| {
            crate::support::ask::parse(&crate::support::ask(address, "METRICS"))["data"][name].as_f64()
        };
        proxies.iter().filter_map(|&proxy| of(proxy)).sum()
    };
    until("a document is found unchanged", || {
        get(balancer, "article/1");
        count("not_modified") > 0.0
    });
    data.put("article/6", b"6");
    assert_eq!(get(balancer, "article/6")["data"], 6);
    drop(python);
    until("it is served stale", || get(balancer, "article/1")["stale"] == true);
}

#[test]
fn nginx_tells_tags_and_times_and_packs() {
    let data = Data::articles(1);
    data.put("long/1", format!("\"{}\"", "x".repeat(20_000)).as_bytes());
    let server = format!(
        "root {}; default_type application/json; gzip on; gzip_types application/json; gzip_min_length 100; expires 60s;",
        data.path().display()
    );
    let Some(nginx) = Front::nginx(&[crate::support::Address::loopback(9)], &server) else { return };
    let proxy = before(&format!("http://{}/{{resource}}{{key}}.json", nginx.address), "--ttl-jitter 0");
    for key in ["article/1", "long/1"] {
        assert_eq!(get(proxy.address, key)["status"], "OK");
        let told = explain(&proxy, key);
        assert_eq!(told["validator"], true, "{told}");
        assert!(told["ttl_left_seconds"].as_f64().is_some_and(|left| left > 40.0 && left <= 60.0), "{told}");
    }
    assert_eq!(get(proxy.address, "none/1")["status"], "NOT_FOUND");
    crate::support::ask(proxy.address, "PURGE soft long/*");
    until("nginx says that it has not changed", || {
        get(proxy.address, "long/1");
        proxy.count("not_modified") == 1.0
    });
    assert_eq!(get(proxy.address, "long/1")["data"].as_str().map(str::len), Some(20_000));
}

/// An API whose certificate is for `name`, until the end of `year`.
fn api(authority: &Authority, name: &str, year: i32) -> Api {
    let (pem, key) = authority.signed(name, (2020, year));
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate with its key");
    let config = Arc::new(config);
    Api::start_as(
        move |mut stream| {
            let mut connection = ServerConnection::new(config.clone()).ok()?;
            let shaken: io::Result<_> = connection.complete_io(&mut stream);
            shaken.ok().map(|_| Box::new(StreamOwned::new(connection, stream)) as Box<_>)
        },
        |got| match got.target.as_str() {
            "/a/closed" => Act::Last(Vec::new()),
            _ => ok("cache-control: max-age=60", "{\"is\":\"secure\"}"),
        },
    )
}

fn proxy(authority: &Authority, api: &Api, host: &str) -> Node {
    let url = format!("https://{host}:{}", api.address.port());
    before(&url, &format!("--origin-ca {}", authority.file("ca.pem").display()))
}

#[test]
fn documents_come_over_https_from_a_host_that_is_vouched_for() {
    let authority = Authority::new();
    for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1")] {
        let api = api(&authority, name, 2099);
        let proxy = proxy(&authority, &api, host);
        assert_eq!(get(proxy.address, "a/1")["data"]["is"], "secure", "{}", proxy.log());
        assert_eq!(get(proxy.address, "a/2")["data"]["is"], "secure");
        assert_eq!(api.connections(), 1, "it is used again");
        let told = get(proxy.address, "a/closed");
        assert_eq!(told["status"], "ORIGIN_FAILURE", "{told}");
    }
}

#[test]
fn a_bad_certificate_is_a_failure_of_the_source() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (api, word) in [
        (api(&authority, "other.example", 2099), "not valid for name"),
        (api(&authority, "localhost", 2021), "expired"),
        (api(&stranger, "localhost", 2099), "certificate"),
    ] {
        let proxy = proxy(&authority, &api, "localhost");
        let told = get(proxy.address, "a/1");
        assert_eq!(told["status"], "ORIGIN_FAILURE", "{told}");
        assert!(told["data"].as_str().is_some_and(|why| why.contains("TLS") && why.contains(word)), "{told}");
        assert!(api.requests().is_empty());
    }
    // A server that speaks no TLS, and one that wants it.
    let plain = Api::start(|_| ok("", "1"));
    let proxy = proxy(&authority, &plain, "localhost");
    assert_eq!(get(proxy.address, "a/1")["status"], "ORIGIN_FAILURE");
    let secure = api(&authority, "localhost", 2099);
    let proxy = before(&format!("http://localhost:{}", secure.address.port()), "--fetch-deadline 1s");
    assert_eq!(get(proxy.address, "a/1")["status"], "ORIGIN_FAILURE");
    eventually("it lives", || (proxy.count("origin_failures") > 0.0).then_some(()));
}

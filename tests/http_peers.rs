//! Servers and clients of others over HTTP: documents, 304, errors, bodies, and a restart of the node behind.

use std::process::Command;

use crate::http::house;
use crate::support::command::{has_command, run_to_end, text, venv};
use crate::support::front::Front;
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::node::own_host;
use crate::support::temp::article;
use crate::support::{Address, Data, Node, Start, until};

/// A proxy over an origin, on ports that it has again when it is restarted.
struct Behind {
    data: Data,
    origin: Node,
    words: String,
    /// `None` while it is down.
    proxy: Option<Node>,
    http: Address,
}

impl Behind {
    fn new(words: &str) -> Self {
        let data = Data::articles(5);
        let origin = Start::origin(data.path(), "--changes off").run();
        let host = own_host();
        let words = format!("--host {host} --port 8001 --http-port 8081 {words}");
        let http = Address((host, 8081).into());
        let mut behind = Self { data, origin, words, proxy: None, http };
        behind.start();
        behind
    }

    fn start(&mut self) {
        let mut proxy = Start::proxy(self.origin.address, &self.words).run();
        assert_eq!(proxy.serves_http(), self.http);
        self.proxy = Some(proxy);
    }

    /// GETs that the node itself has answered.
    fn asked(&self) -> f64 {
        self.proxy.as_ref().expect("a proxy that is up").count("total_requests")
    }
}

/// What works at a node works through a server in front of it, before and after a restart of the node.
fn works_through(front: Address, behind: &mut Behind) {
    let first = fetch(front, "/article/1");
    assert_eq!((first.code, first.text()), (200, article(1).as_str()));
    let known = format!("if-none-match: {}", first.header("etag"));
    assert_eq!(fetch_with(front, "/article/1", &[&known]).code, 304);
    let missing = fetch(front, "/article/none");
    assert_eq!((missing.code, missing.header("content-type")), (404, "application/problem+json"));
    for _ in 0..3 {
        let posted = Http::connect(front).ask("POST", "/article/1", &[], &"x".repeat(200_000));
        assert_eq!(posted.code, 405, "{}", posted.text());
        assert_eq!(fetch(front, "/article/2").code, 200);
    }
    behind.proxy = None;
    assert!(fetch(front, "/article/4").code >= 502, "an error, at once");
    behind.start();
    until("the node is asked again", || fetch(front, "/article/5").text() == article(5));
}

/// A cache that keeps what was fetched for it answers by itself.
fn keeps(front: Address, behind: &Behind) {
    assert_eq!(fetch(front, "/article/3").code, 200);
    let before = behind.asked();
    for _ in 0..5 {
        assert_eq!(fetch(front, "/article/3").text(), article(3));
    }
    assert_eq!(behind.asked(), before, "all of them from its own cache");
}

#[test]
fn haproxy_keeps_what_was_fetched_for_it() {
    let mut behind = Behind::new("--ttl 60s");
    let Some(haproxy) = Front::haproxy(behind.http) else { return };
    works_through(haproxy.address, &mut behind);
    keeps(haproxy.address, &behind);
}

#[test]
fn varnish_keeps_what_was_fetched_for_it() {
    let mut behind = Behind::new("--ttl 60s");
    let Some(varnish) = Front::varnish(behind.http) else { return };
    works_through(varnish.address, &mut behind);
    keeps(varnish.address, &behind);
}

#[test]
fn the_cache_of_nginx_keeps_codings_and_pages_apart() {
    let mut behind = Behind::new("--ttl 60s --cors-origin https://a.example,https://b.example");
    behind.data.put("article/long", format!("[\"{}\"]", "alpha bravo ".repeat(500)).as_bytes());
    let cached = "location / { proxy_pass http://nodes; proxy_cache documents; }";
    let Some(nginx) = Front::nginx(&[behind.http], cached) else { return };
    works_through(nginx.address, &mut behind);
    let asking = |headers: &[&str]| {
        let response = fetch_with(nginx.address, "/article/long", headers);
        let allowed = response.header("access-control-allow-origin").to_owned();
        (response.header("content-encoding").to_owned(), allowed)
    };
    assert_eq!(
        asking(&["accept-encoding: gzip", "origin: https://a.example"]),
        ("gzip".into(), "https://a.example".into())
    );
    assert_eq!(asking(&["origin: https://a.example"]), (String::new(), "https://a.example".into()));
    assert_eq!(asking(&["origin: https://b.example"]), (String::new(), "https://b.example".into()));
    let before = behind.asked();
    until("it answers by itself", || {
        asking(&["origin: https://b.example"]);
        behind.asked() == before
    });
}

/// Python's CacheControl: by max-age first, then by ETag, which a 304 answers.
const CACHED: &str = "
import sys, requests, cachecontrol
session = cachecontrol.CacheControl(requests.Session())
def ask(headers={}):
    response = session.get(sys.argv[1] + '/article/1', headers=headers)
    return '%d%s' % (response.status_code, 'c' if response.from_cache else '')
print(ask(), ask(), ask({'Cache-Control': 'no-cache'}), ask({'Cache-Control': 'max-age=0'}), session.get(sys.argv[1] + '/article/none').status_code)
";

#[test]
fn the_cache_of_a_client_keeps_what_it_fetched() {
    let Some(python) = venv("python") else { return };
    let behind = Behind::new("--ttl 60s");
    let mut command = Command::new(python);
    command.args(["-c", CACHED, &format!("http://{}", behind.http)]);
    let output = run_to_end(command, b"");
    assert_eq!(text(&output.stdout), "200 200c 200c 200c 404\n", "{}", text(&output.stderr));
    assert_eq!(behind.asked(), 4.0);
}

#[test]
fn clients_of_other_languages_read_documents_and_errors() {
    let house = house("");
    let url = format!("http://{}", house.http);
    let python = "
import sys, urllib.request, urllib.error
url = sys.argv[1]
first = urllib.request.urlopen(url + '/article/1')
codes = [first.status]
for target, headers, data in [('/article/1', {'If-None-Match': first.headers['ETag']}, None), ('/article/none', {}, None), ('/article/1', {}, b'x' * 300000)]:
    try:
        codes.append(urllib.request.urlopen(urllib.request.Request(url + target, data, headers)).status)
    except urllib.error.HTTPError as error:
        codes.append(error.code)
print(*codes)
";
    let node = "
const url = process.argv[1];
(async () => {
  const first = await fetch(url + '/article/1');
  const codes = [first.status];
  await first.text();
  const asked = [
    ['/article/1', {headers: {'If-None-Match': first.headers.get('etag')}}], ['/article/none', {}],
    ['/article/1', {method: 'POST', body: 'x'.repeat(300000)}],
  ];
  for (const [target, options] of asked) {
    const response = await fetch(url + target, options);
    codes.push(response.status);
    await response.text();
  }
  console.log(codes.join(' '));
})().catch(error => { console.log(String(error)); process.exit(1); });
";
    for (program, package, flag, script) in
        [("python3", "python3", "-c", python), ("node", "nodejs", "-e", node)]
    {
        if !has_command(program, package) {
            continue;
        }
        let mut command = Command::new(program);
        command.args([flag, script, &url]);
        let output = run_to_end(command, b"");
        assert_eq!(text(&output.stdout), "200 304 404 405\n", "{program}: {}", text(&output.stderr));
    }
}

//! Servers and clients of others over HTTP: documents, 304, errors, bodies, and a restart of the node behind.

use std::process::Command;

use crate::http::{House, house};
use crate::support::command::{has_command, run_to_end, text};
use crate::support::front::Front;
use crate::support::http::{Http, fetch, fetch_with};
use crate::support::temp::article;
use crate::support::{Address, until};

/// What works at a node works through a server in front of it.
fn works_through(front: Address) {
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
}

/// GETs that the node itself has answered.
fn asked(house: &House) -> f64 {
    house.proxy.count("total_requests")
}

#[test]
fn haproxy_keeps_what_was_fetched_for_it() {
    let house = house("--ttl 60s");
    let Some(haproxy) = Front::haproxy(house.http) else { return };
    works_through(haproxy.address);
    assert_eq!(fetch(haproxy.address, "/article/3").code, 200);
    let before = asked(&house);
    for _ in 0..5 {
        assert_eq!(fetch(haproxy.address, "/article/3").text(), article(3));
    }
    assert_eq!(asked(&house), before, "all of them from its own cache");
}

#[test]
fn the_cache_of_nginx_keeps_codings_and_pages_apart() {
    let house = house("--ttl 60s --cors-origin https://a.example,https://b.example");
    house.data.put("article/long", format!("[\"{}\"]", "alpha bravo ".repeat(500)).as_bytes());
    let cached = "location / { proxy_pass http://nodes; proxy_cache documents; }";
    let Some(nginx) = Front::nginx(&[house.http], cached) else { return };
    works_through(nginx.address);
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
    let before = asked(&house);
    until("it answers by itself", || {
        asking(&["origin: https://b.example"]);
        asked(&house) == before
    });
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

//! TLS between nodes and to clients, with certificates of authorities made up here, and openssl and curl as peers.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use rcgen::KeyPair;

use crate::support::ask::parse;
use crate::support::authority::{Authority, IN_TIME, wanted};
use crate::support::command::{BINARY, clean, dproxy, has_command, run_to_end, text};
use crate::support::{Address, Data, Node, Start, ask, eventually, pause, until};

/// An origin with documents, which serves with these flags.
fn origin(words: &str) -> (Data, Node) {
    let data = Data::empty();
    data.put("article/1", b"{\"id\":1}");
    data.put("long/1", format!("\"{}\"", "x".repeat(900_000)).as_bytes());
    let node = Start::origin(data.path(), words).run();
    (data, node)
}

fn client(to: Address, words: &str) -> Output {
    let port = to.port().to_string();
    let mut all = vec!["client", "--port", &port, "--timeout", "5s"];
    all.extend(words.split_whitespace());
    dproxy(&all)
}

/// The complaint of a client that got no reply.
fn complaint(to: Address, words: &str) -> String {
    let output = client(to, &format!("{words} --get article/1"));
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn documents_pass_three_hops_with_certificates_at_each() {
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let serving = format!("{} {}", authority.serving("node"), authority.wanting());
    let both = format!("{serving} {}", authority.showing("node"));
    let (_data, origin) = origin(&serving);
    let proxies = [Start::proxy(origin.address, &both).run(), Start::proxy(origin.address, &both).run()];
    let balancer = Start::balancer(&proxies.each_ref().map(|proxy| proxy.address), &both).run();
    let showing = authority.showing("node");
    let documents = eventually("documents come", || {
        let got = client(balancer.address, &format!("{showing} --get article/1 long/1 none/1 article/1"));
        let got = text(&got.stdout);
        got.contains("\"id\":1").then_some(got)
    });
    let lines: Vec<&str> = documents.lines().collect();
    assert_eq!(lines.len(), 4, "{documents:.200}");
    assert!(lines[1].len() > 900_000 && lines[2].contains("NOT_FOUND"), "{}", lines[2]);
    // A plain request, on a connection of its own.
    let one = client(balancer.address, &format!("{showing} --get long/1"));
    assert!(one.status.success() && one.stdout.len() > 900_000, "{}", text(&one.stderr));
    // A proxy that the origin does not accept says why.
    let stranger = Start::proxy(origin.address, &format!("{serving} {}", authority.trusting())).run();
    let told = text(&client(stranger.address, &format!("{showing} --get article/1")).stdout);
    assert!(told.contains("no TLS with the origin: it serves only clients with a certificate"), "{told}");
    // Nobody without a certificate, on any hop.
    for node in [&origin, &proxies[0], &balancer] {
        let told = complaint(node.address, &authority.trusting());
        assert!(told.contains("serves only clients with a certificate"), "{told}");
    }
    // A load on sessions, and on connections.
    let port = balancer.port().to_string();
    for mode in ["", "--plain"] {
        let words = format!(
            "bench --port {port} --requests 2000 --connections 8 --key-range article/1..1 {mode} {showing}"
        );
        let output = dproxy(&words.split_whitespace().collect::<Vec<_>>());
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

#[test]
fn each_bad_certificate_of_a_server_is_told_in_a_sentence() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let (wrong_name, other_ca) = ("other", "node");
    authority.sign(wrong_name, "other.example", IN_TIME);
    stranger.sign(other_ca, "127.0.0.1", IN_TIME);
    let key = KeyPair::generate().expect("a key");
    let own = wanted("127.0.0.1", IN_TIME).self_signed(&key).expect("a certificate");
    authority.write("own", &own.pem(), &key);
    for (serving, sentence) in [
        (authority.serving(wrong_name), "its certificate is for another name"),
        (stranger.serving(other_ca), "not of a CA of --peer-ca"),
        (authority.serving("own"), "or is signed by itself"),
    ] {
        let (_data, node) = origin(&serving);
        let told = complaint(node.address, &authority.trusting());
        assert!(told.contains(sentence) && told.trim_end().lines().count() == 1, "{told}");
        if serving.contains(wrong_name) {
            let named = client(
                node.address,
                &format!("{} --peer-name other.example --get article/1", authority.trusting()),
            );
            assert!(named.status.success(), "{}", text(&named.stderr));
        }
    }
}

#[test]
fn each_bad_file_ends_the_start_with_a_sentence() {
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    authority.sign("past", "127.0.0.1", (2001, 2002));
    authority.sign("future", "127.0.0.1", (2090, 2091));
    authority.sign("other", "127.0.0.1", IN_TIME);
    let whole = fs::read_to_string(authority.file("node.pem")).expect("a file");
    fs::write(authority.file("cut.pem"), &whole[..whole.len() / 2]).expect("a file");
    fs::copy(authority.file("node.key"), authority.file("cut.key")).expect("a copy");
    let mixed = authority.serving("node").replace("node.key", "other.key");
    let data = Data::empty();
    for (serving, sentence) in [
        (authority.serving("past"), "has expired"),
        (authority.serving("future"), "is not valid yet"),
        (authority.serving("cut"), "holds no whole certificate in PEM"),
        (mixed, "is not the one of the certificate"),
        (authority.serving("none"), "none.pem"),
        (authority.wanting(), "--tls-client-ca needs --tls-cert"),
        (format!("--tls-cert {}", authority.file("node.pem").display()), "go together"),
    ] {
        let words = format!("origin --port 0 --data {} {serving}", data.path().display());
        let output = dproxy(&words.split_whitespace().collect::<Vec<_>>());
        let told = text(&output.stderr);
        assert!(!output.status.success() && told.contains(sentence), "{serving}: {told}");
        // The same from a file, before the start.
        let checked = check(&authority.file("dproxy.toml"), &serving);
        let told = text(&checked.stderr);
        assert!(!checked.status.success() && told.contains(sentence), "{serving}: {told}");
    }
    // The client's files are read as strictly.
    let told = complaint(Address::loopback(1), &authority.showing("past"));
    assert!(told.contains("has expired"), "{told}");
}

/// `dproxy check` of an origin with these flags as settings.
fn check(file: &Path, words: &str) -> Output {
    let words: Vec<&str> = words.split_whitespace().collect();
    let rows = words.chunks(2).map(|pair| format!("{} = {:?}\n", pair[0].trim_start_matches("--"), pair[1]));
    fs::write(file, format!("[origin]\n{}", rows.collect::<String>())).expect("a file");
    let mut command = clean(BINARY);
    command.args(["check", "--config"]).arg(file);
    run_to_end(command, b"")
}

#[test]
fn a_key_that_everybody_may_read_is_warned_of() {
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let (_data, node) = origin(&authority.serving("node"));
    // Logged behind it, at the start as well.
    until("it has started", || node.log().contains("--max-unread"));
    let is_warned = |node: &Node| node.log().contains("may read the key");
    assert!(!is_warned(&node), "{}", node.log());
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(authority.file("node.key"), readable).expect("its mode");
    let (_data, node) = origin(&authority.serving("node"));
    until("it is warned of", || is_warned(&node));
}

#[test]
fn a_certificate_of_another_authority_opens_no_door() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.sign("node", "127.0.0.1", IN_TIME);
    stranger.sign("node", "127.0.0.1", IN_TIME);
    let (_data, node) = origin(&format!("{} {}", authority.serving("node"), authority.wanting()));
    let showing = stranger.showing("node").replace(&stranger.trusting(), &authority.trusting());
    let told = complaint(node.address, &showing);
    assert!(told.contains("does not accept the certificate"), "{told}");
    until("it is logged", || node.log().contains("no TLS with a client"));
}

#[test]
fn clients_of_the_wrong_kind_are_told_so() {
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let (_data, secure) = origin(&authority.serving("node"));
    let told = parse(&ask(secure.address, "GET article/1"));
    assert_eq!(told["status"], "BAD_REQUEST");
    assert!(told["data"].as_str().is_some_and(|why| why.contains("speaks TLS")), "{told}");
    until("it is logged", || secure.log().contains("a client without TLS"));
    let (_data, plain) = origin("");
    let told = complaint(plain.address, &authority.trusting());
    assert!(told.contains("does not speak TLS at this port"), "{told}");
    until("it is logged", || plain.log().contains("a client speaks TLS to the port of lines"));
}

#[test]
fn openssl_speaks_lines_over_tls_1_3_alone() {
    if !has_command("openssl", "openssl") {
        return;
    }
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let (_data, node) = origin(&authority.serving("node"));
    let shake = |version: &str| {
        let mut command = clean("openssl");
        command.args(["s_client", "-quiet", "-verify_return_error", version, "-connect"]);
        command.arg(node.address.to_string()).arg("-CAfile").arg(authority.file("ca.pem"));
        run_to_end(command, b"GET article/1\n")
    };
    let output = shake("-tls1_3");
    assert!(text(&output.stdout).contains("\"id\":1"), "{}", text(&output.stderr));
    let output = shake("-tls1_2");
    assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[test]
fn curl_speaks_http_1_and_2_over_tls() {
    if !has_command("curl", "curl") {
        return;
    }
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let data = Data::empty();
    data.put("article/1", b"{\"id\":1}");
    let serving = format!("--http-port 0 {}", authority.serving("node"));
    let mut node = Start::origin(data.path(), &serving).run();
    let http = node.serves_http();
    let fetch = |words: &[&str], scheme: &str| {
        let mut command = clean("curl");
        command.args(["-sS", "--max-time", "20", "-w", " %{http_version}"]).args(words);
        command.arg("--cacert").arg(authority.file("ca.pem")).arg(format!("{scheme}://{http}/article/1"));
        let output = run_to_end(command, b"");
        text(&output.stdout) + &text(&output.stderr)
    };
    for (words, version) in
        [(&["--http1.1"][..], " 1.1"), (&["--http2"], " 2"), (&["--http1.1", "--tls-max", "1.2"], " 1.1")]
    {
        let got = fetch(words, "https");
        assert!(got.contains("\"id\":1") && got.ends_with(version), "{words:?}: {got}");
    }
    assert!(fetch(&[], "http").contains("this port speaks TLS"));
}

#[test]
fn a_slow_handshake_keeps_nobody_waiting_and_ends_by_its_deadline() {
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let words = format!("{} --line-deadline 1s --threads 1", authority.serving("node"));
    let (_data, node) = origin(&words);
    let mut silent: Vec<_> = (0..20).map(|_| node.address.connect().expect("a connection")).collect();
    let got = client(node.address, &format!("{} --get article/1", authority.trusting()));
    assert!(got.status.success(), "{}", text(&got.stderr));
    for stream in &mut silent {
        assert!(crate::support::ask::read_to_end(stream).is_empty());
    }
}

#[test]
fn certificates_are_read_anew_and_bad_ones_leave_those_before_in_force() {
    let (old, new) = (Authority::new(), Authority::new());
    old.sign("node", "127.0.0.1", IN_TIME);
    new.sign("node", "127.0.0.1", (2020, 2098));
    let both = format!("{} {}", old.serving("node"), old.showing("node"));
    let (_data, origin) = origin(&old.serving("node"));
    let proxy = Start::proxy(origin.address, &both).run();
    let is_served = |authority: &Authority| {
        client(proxy.address, &format!("{} --get article/1", authority.trusting())).status.success()
    };
    assert!(is_served(&old) && !is_served(&new));
    let until_when = |authority: &Authority| {
        let told = client(proxy.address, &format!("{} --metrics", authority.trusting()));
        let certificates = parse(&text(&told.stdout))["data"]["certificates"].clone();
        ["listener", "peer"]
            .map(|of| certificates[of]["not_after"].as_str().unwrap_or_default()[..4].to_owned())
    };
    assert_eq!(until_when(&old), ["2099"; 2]);
    // Half of a pair is none.
    fs::copy(new.file("node.pem"), old.file("node.pem")).expect("a copy");
    until("it is told", || {
        proxy.log().contains("stay as they were") && proxy.log().contains("is not the one of")
    });
    assert!(is_served(&old));
    // The authority first, then what it signed: a rename each, as what renews certificates does.
    for file in ["node.key", "ca.pem"] {
        fs::copy(new.file(file), old.file("next")).expect("a copy");
        fs::rename(old.file("next"), old.file(file)).expect("a rename");
    }
    until("the new ones are in force", || is_served(&new));
    until("METRICS tells of them", || until_when(&new) == ["2098"; 2]);
    // A proxy that starts now asks the origin, which shows the new certificate.
    let later = Start::proxy(origin.address, &both).run();
    let line = eventually("a document comes through it", || {
        let output = client(later.address, &format!("{} --get long/1", new.trusting()));
        output.status.success().then_some(output.stdout)
    });
    assert!(line.len() > 900_000);
    fs::write(old.file("node.pem"), "nothing").expect("a file");
    until("it is told once more", || proxy.log().contains("no whole certificate"));
    assert!(is_served(&new));
}

#[test]
fn replies_wait_as_records_for_a_client_that_reads_late() {
    const MANY: usize = 40;
    if !has_command("openssl", "openssl") {
        return;
    }
    let authority = Authority::new();
    authority.sign("node", "127.0.0.1", IN_TIME);
    let (_data, node) = origin(&authority.serving("node"));
    let mut command = clean("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect"]).arg(node.address.to_string());
    command.arg("-CAfile").arg(authority.file("ca.pem"));
    let mut late =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl");
    let requests: String = (1..=MANY).map(|id| format!("{id} GET long/1\n")).collect();
    let mut input = late.stdin.take().expect("its input");
    input.write_all(format!("HELLO 2\n{requests}").as_bytes()).expect("a write");
    // The socket is full, and what waits behind it has stopped growing.
    pause(Duration::from_millis(500));
    let mut output = BufReader::new(late.stdout.take().expect("its output")).lines();
    assert!(output.next().expect("a line").expect("text").contains("max_in_flight"));
    let mut ids: Vec<usize> = output
        .by_ref()
        .take(MANY)
        .map(|line| {
            let line = line.expect("text");
            assert_eq!(line.bytes().filter(|&byte| byte == b'x').count(), 900_000, "{line:.100}");
            line.split(' ').next().and_then(|id| id.parse().ok()).expect("an id")
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=MANY).collect::<Vec<_>>());
    late.kill().and_then(|()| late.wait()).expect("its end");
}

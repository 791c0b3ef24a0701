//! The live page in a real browser: it follows the cluster by itself, and no text of a user becomes markup.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::fake::Hello;
use crate::support::http::{Http, fetch};
use crate::support::node::own_host;
use crate::support::{Address, Fake, Node, Start, StopOnDrop, ask, heavy, pause, status_of, timed, until};

/// The page shows a killed node as down within this time.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

struct Cluster {
    _origin: Node,
    proxies: Vec<Node>,
    balancer: Node,
    http: Address,
}

fn cluster() -> Cluster {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let origin = Start::origin(&data, "").run();
    let proxies: Vec<Node> = (0..3).map(|_| Start::proxy(origin.address, "--ttl 5s").run()).collect();
    let (balancer, http) = balancer(&proxies, "--http-port 0");
    Cluster { _origin: origin, proxies, balancer, http }
}

fn balancer(proxies: &[Node], words: &str) -> (Node, Address) {
    let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
    balancer_of(&addresses, words)
}

fn balancer_of(addresses: &[Address], words: &str) -> (Node, Address) {
    let mut balancer = Start::balancer(addresses, &format!("--health-interval 1s {words}")).run();
    let http = balancer.serves_http();
    (balancer, http)
}

/// Runs the work while a client requests documents.
fn under_load<T>(http: Address, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stopped = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut client = Http::connect(http);
            for i in (1..=12).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                client.ask("GET", &format!("/article/{i}"), &[], "");
                pause(Duration::from_millis(4));
            }
        });
        work()
    })
}

#[test]
fn it_follows_the_cluster_live() {
    let _alone = heavy();
    let Some(browser) = Browser::start() else { return };
    let mut cluster = cluster();
    under_load(cluster.http, || {
        browser.show(1200, 1600, "light");
        browser.open(&format!("http://{}/", cluster.http));
        let healthy = "return document.querySelectorAll('#picture g.healthy').length == 5";
        browser.until("origin, three proxies and the balancer are healthy", healthy);
        browser.until("there are five plots", "return document.querySelectorAll('.plot svg').length == 5");
        browser.until(
            "requests are counted",
            "return parseFloat(document.querySelector('#rate .value').textContent) > 10",
        );
        browser.until(
            "the busiest prefix has all requests, and hits",
            "const row = [...document.querySelectorAll('#prefixes tbody tr > :not(:nth-child(2))')].map((cell) => cell.textContent);
             return row[0] == 'article' && parseFloat(row[1]) == 100 && parseFloat(row[2]) > 0",
        );
        browser.until(
            "twelve keys are asked for in turn, ten are shown",
            "return document.querySelectorAll('#keys tbody tr').length == 10",
        );
        let drawn = browser.run("return document.querySelector('#rate .plot').innerHTML");
        until("the plots move", || {
            browser.run("return document.querySelector('#rate .plot').innerHTML") != drawn
        });

        let killed = cluster.proxies.remove(1);
        let name = killed.address.to_string();
        killed.kill();
        let is_red = format!(
            "const g = document.querySelector('#picture g.down[data-node=\"{name}\"]');
             return g !== null && getComputedStyle(g.querySelector('.dot')).fill == 'rgb(192, 38, 38)'"
        );
        let (time, ()) = timed(|| browser.until("the killed node is red", &is_red));
        assert!(time < SEEN_WITHIN, "it took {time:?}");
        assert!(browser.text("#events li.down span").starts_with(&format!("{name} is down")));
        assert!(browser.text("#said").starts_with(&format!("{name} is down")), "a screen reader hears it");
        if std::env::var_os("DPROXY_SCREENSHOT").is_some() {
            pause(Duration::from_secs(40));
            let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/live-page.png");
            browser.screenshot(&picture);
        }
    });
}

#[test]
fn typed_text_is_never_markup_and_documents_are_kept() {
    let _alone = heavy();
    let Some(browser) = Browser::start() else { return };
    let cluster = cluster();
    browser.open(&format!("http://{}/", cluster.http));
    let typed = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>";
    browser.run("document.getElementById('key').focus()");
    browser.press(&format!("{typed}\u{e007}"));
    browser.until("there is an answer", "return document.querySelector('#answer .wrong') !== null");
    assert_eq!(browser.text("#answer code"), typed);
    let made = browser.run("return document.querySelectorAll('#answer script, #answer img').length");
    assert_eq!((made, browser.run("return window.owned ?? 0")), (0.into(), 0.into()));
    let policy = fetch(cluster.http, "/").header("content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    browser.run("document.getElementById('key').value = ''; document.getElementById('key').focus()");
    browser.press("article/1\u{e007}");
    browser.until(
        "the key is explained, or said not to be",
        "return document.querySelector('#answer code').textContent == 'article/1'",
    );
    let names =
        browser.run("return [...document.querySelectorAll('#answer dt')].map((name) => name.textContent)");
    let are_words = ["held", "lifetime by", "fetched from"]
        .iter()
        .all(|word| names.as_array().is_some_and(|names| names.contains(&json!(word))));
    assert!(are_words, "{names}");
    it_keeps_documents(&browser);
}

/// A request from a page, and its status.
const ASK: &str = "
const ask = (method, path, body) => {
  const request = new XMLHttpRequest();
  request.open(method, path, false);
  request.send(body);
  return request.status;
};
";

/// Its cache keeps documents and no errors; a body that nobody wants breaks nothing.
fn it_keeps_documents(browser: &Browser) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let origin = Start::origin(&data, "--changes off").run();
    let mut proxy = Start::proxy(origin.address, "--ttl 60s --http-port 0").run();
    let http = proxy.serves_http();
    browser.open(&format!("http://{http}/"));
    let script = "return [ask('GET', 'article/1'), ask('GET', 'article/1'), ask('GET', 'article/none'), \
        ask('POST', 'article/1', 'x'.repeat(300000)), ask('GET', 'article/1')]";
    assert_eq!(browser.run(&format!("{ASK}{script}")), json!([200, 200, 404, 405, 200]));
    assert_eq!(proxy.count("total_requests"), 2.0, "one document was kept, the other is none");
}

/// The keys as WebDriver names them.
const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';

/// The id or text of the focused element; empty when no element has the focus.
fn focused(browser: &Browser) -> String {
    let focused = browser.run(
        "const at = document.activeElement;
         return at === document.body ? '' : at.id || at.textContent.trim()",
    );
    focused.as_str().expect("a name").to_owned()
}

#[test]
fn a_keyboard_reaches_everything_and_shows_where_it_is() {
    let _alone = heavy();
    let Some(browser) = Browser::start() else { return };
    let cluster = cluster();
    browser.show(1200, 1000, "light");
    browser.open(&format!("http://{}/", cluster.http));
    browser.until("it is live", "return document.querySelector('#link.live') !== null");
    let controls =
        ["Skip to the content", "As a table", "events", "key", "Explain", "/metrics", "/healthz", "/readyz"];
    for control in controls {
        browser.strike(TAB);
        assert_eq!(focused(&browser), control);
        let seen = browser.run(
            "const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
             return style.outlineStyle == 'solid' && parseFloat(style.outlineWidth) >= 2
                 && box.width > 0 && box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth",
        );
        assert_eq!(seen, true, "{control} is on the screen, and it is seen that it has the focus");
    }
    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    browser.open(&format!("http://{}/", cluster.http));
    browser.until("it is live", "return document.querySelector('#link.live') !== null");
    browser.strike(TAB);
    browser.strike(ENTER);
    browser.until("the link skips", "return location.hash == '#main'");
    browser.strike(TAB);
    assert_eq!(focused(&browser), "As a table", "the next element");
    browser.strike(ENTER);
    browser.until("the table is open", "return document.querySelector('details').open");
    browser.until("it has its rows", "return document.querySelectorAll('#nodes tbody tr').length == 3");
    browser.run("document.getElementById('key').focus()");
    browser.press("article/1");
    browser.strike(TAB);
    browser.strike(ENTER);
    let answered = "return document.querySelector('#answer code')?.textContent == 'article/1'";
    browser.until("the button asks", answered);
    browser.run("document.querySelector('footer a').focus()");
    browser.strike(ENTER);
    browser.until("a link leads on", "return location.pathname == '/metrics'");
}

#[test]
fn with_few_nodes_or_fifty_it_fits_a_phone_and_it_comes_back_by_itself() {
    let _alone = heavy();
    let Some(browser) = Browser::start() else { return };
    let Cluster { _origin, proxies, balancer: first, .. } = cluster();
    drop(first);
    let host = own_host();
    let (first, http) = balancer(&proxies, &format!("--http-host {host} --http-port 0"));
    browser.show(390, 800, "dark");
    browser.open(&format!("http://{http}/"));
    let live = "return document.querySelector('#link.live') !== null";
    browser.until("it is live", live);
    assert_eq!(browser.run("return document.documentElement.scrollWidth"), 390, "nothing sticks out");
    assert_eq!(browser.run(STICKS_OUT), json!([]), "of the picture of few nodes");
    let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(15, 21, 19)", "it is dark");
    first.kill();
    browser.until("it says that it is lost", "return document.querySelector('#link.lost') !== null");
    let (_second, _) = balancer(&proxies, &format!("--http-host {host} --http-port {}", http.port()));
    browser.until("it is live again", live);
    what_matters_of_fifty_nodes_is_on_the_first_screen(&browser);
}

/// The texts that stick out of their boxes, and the boxes that stick out of the page.
const STICKS_OUT: &str = "
    const out = [], wider = (box) => box.scrollWidth > box.clientWidth;
    const within = (inner, outer) => inner.left >= outer.left - 0.5 && inner.right <= outer.right + 0.5;
    if (document.documentElement.scrollWidth > innerWidth) out.push('the page');
    for (const box of document.querySelectorAll('.card, #fleet li, #fleet b')) if (wider(box)) out.push(box.textContent);
    for (const text of document.querySelectorAll('#fleet li *, #picture text')) {
        const box = text.closest('li') ?? text.closest('g').querySelector('.box');
        if (!within(text.getBoundingClientRect(), box.getBoundingClientRect())) out.push(text.textContent);
    }
    return out";

/// 49 proxies: one sees its origin fail, one is full of entries; and behind them the address of one that is not there.
fn fifty_nodes() -> (Vec<Fake>, Vec<Address>) {
    let metrics = |number| match number {
        3 => r#","origin_failing":true"#,
        4 => r#","entries":10000,"max_entries":10000,"bytes":5000000,"max_bytes":1073741824"#,
        _ => "",
    };
    let fake = |number| {
        let counts = r#""start_time":"2024-05-01T10:00:00Z","total_requests":9,"hits":6,"misses":3,"origin_fetches":3"#;
        let reply = format!("{{\"status\":\"OK\",\"data\":{{{counts}{}}}}}", metrics(number));
        Fake::start(Hello::Granted, move |asked| asked.reply(&reply))
    };
    let fakes: Vec<Fake> = (0..49).map(fake).collect();
    let missing = Address((own_host(), 9).into());
    let addresses = fakes.iter().map(|fake| fake.address).chain([missing]).collect();
    (fakes, addresses)
}

fn what_matters_of_fifty_nodes_is_on_the_first_screen(browser: &Browser) {
    let (_fakes, addresses) = fifty_nodes();
    let (balancer, http) = balancer_of(&addresses, "--http-port 0 --max-failures 1");
    let drained = ask(balancer.address, &format!("DRAIN {}", addresses[40]));
    assert_eq!(status_of(&drained), "OK", "{drained}");
    for (width, height, theme) in [(400, 800, "light"), (1400, 900, "dark")] {
        browser.show(width, height, theme);
        browser.open(&format!("http://{http}/"));
        browser.until("all boxes are there", "return document.querySelectorAll('#fleet li').length == 52");
        browser.until(
            "it is seen which is down",
            "return document.querySelector('#fleet .down:not(.end)') !== null",
        );
        let kinds =
            "return [...document.querySelectorAll('#fleet li')].slice(2, 7).map((box) => box.className)";
        let order = ["down", "failing", "drained", "full", "healthy"];
        until("the worst is first", || browser.run(kinds) == json!(order));
        let worst = "const box = document.querySelector('#fleet .down:not(.end)').getBoundingClientRect();
            return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth";
        assert_eq!(browser.run(worst), true, "the worst node is on the first screen, {width} wide");
        assert_eq!(browser.run(STICKS_OUT), json!([]), "{width} wide");
        let plots = "return document.querySelector('.plots').getBoundingClientRect().bottom
            <= document.querySelector('#fleet').getBoundingClientRect().top";
        assert_eq!(browser.run(plots), true, "the plots are above");
    }
    let told = browser.text("#fleet .down:not(.end)");
    assert!(told.contains(&addresses[49].to_string()) && told.contains("down · "), "{told}");
}

/// The colours of a theme, by their names: the first block of the style is light, the second dark.
fn colours(style: &str, theme: usize) -> HashMap<&str, [f64; 3]> {
    let block = style.split(":root").nth(theme + 1).expect("a theme");
    let block = block.split('}').next().expect("its end");
    let channel = |code: &str, at: usize| {
        let value = u8::from_str_radix(&code[at..at + 2], 16).expect("two digits");
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let pairs = block.split(';').filter_map(|setting| setting.split_once("--")?.1.split_once(": #"));
    pairs.map(|(name, code)| (name, [0, 2, 4].map(|at| channel(code, at)))).collect()
}

/// The contrast of two colours by WCAG.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let light = |[red, green, blue]: [f64; 3]| 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
    let (a, b) = (light(a), light(b));
    a.max(b) / a.min(b)
}

#[test]
fn its_texts_have_enough_contrast() {
    let style = include_str!("../src/http/page/style.css");
    for (theme, name) in ["light", "dark"].into_iter().enumerate() {
        let colours = colours(style, theme);
        let on_all = ["ink", "quiet"].map(|word| ["ground", "card"].map(|ground| (word, ground)));
        let of_states = ["well", "warn", "bad", "off"].map(|word| [(word, "card"), (word, "")]);
        for (word, ground) in on_all.into_iter().chain(of_states).flatten() {
            let own = format!("{word}-soft");
            let ground = if ground.is_empty() { own.as_str() } else { ground };
            let contrast = contrast(colours[word], colours[ground]);
            assert!(contrast >= 4.5, "{name}: {word} on {ground} has {contrast:.2}");
        }
    }
}

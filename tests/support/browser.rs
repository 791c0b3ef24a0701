//! Chromium over WebDriver, as far as the tests of the page need it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::ask::Address;
use super::command::has_command;
use super::http::Http;
use super::temp::TempDir;
use super::{eventually, until};

/// Debian's: packages chromium and chromium-driver.
const DRIVER: &str = "chromedriver";
const CHROMIUM: &str = "/usr/bin/chromium";
/// Headless, as root, and silent on the network.
const ARGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser with one page. It ends on drop and removes its files.
pub(crate) struct Browser {
    driver: Child,
    address: Address,
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts the browser; `None` if it is not installed and this is not CI.
    pub(crate) fn start() -> Option<Self> {
        if !has_command(DRIVER, "chromium-driver") || !has_command("chromium", "chromium") {
            return None;
        }
        let profile = TempDir::new();
        let log = fs::File::create(profile.path().join("driver.log")).expect("a file for the log");
        let mut command = Command::new(DRIVER);
        let driver = command.arg("--port=0").stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        let driver = driver.expect("chromedriver starts");
        let address = Address::loopback(0);
        let mut browser = Self { driver, address, session: String::new(), profile };
        browser.address = Address::loopback(browser.port());
        let args: Vec<String> =
            ARGS.iter().map(|arg| (*arg).to_owned()).chain([browser.own_profile()]).collect();
        let options = json!({ "binary": CHROMIUM, "args": args });
        let capabilities =
            json!({ "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } });
        let made = browser.call("POST", "/session", &json!({ "capabilities": capabilities }));
        browser.session = format!("/session/{}", made["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    fn own_profile(&self) -> String {
        format!("--user-data-dir={}", self.profile.path().join("profile").display())
    }

    /// The port that the driver reports.
    fn port(&self) -> u16 {
        eventually("chromedriver says its port", || {
            let log = fs::read_to_string(self.profile.path().join("driver.log")).ok()?;
            let (_, rest) = log.split_once("started successfully on port ")?;
            rest.split_once('.').and_then(|(port, _)| port.parse().ok())
        })
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let target = format!("{}{path}", self.session);
        let response = Http::connect(self.address).ask(method, &target, &[], &body);
        let mut reply = response.json();
        assert_eq!(response.code, 200, "{method} {path}: {reply}");
        reply["value"].take()
    }

    pub(crate) fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({ "url": url }));
    }

    /// The value that a script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of the first element that matches, or empty.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({selector:?})?.textContent ?? ''"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a script returns true.
    pub(crate) fn until(&self, what: &str, script: &str) {
        until(what, || self.run(script) == true);
    }

    /// Presses keys in the focused element.
    pub(crate) fn press(&self, keys: &str) {
        let focused = self.call("GET", "/element/active", &Value::Null);
        let id = focused.as_object().and_then(|element| element.values().next()).and_then(Value::as_str);
        let path = format!("/element/{}/value", id.expect("an element with the focus"));
        self.call("POST", &path, &json!({ "text": keys }));
    }

    /// Presses one key, wherever the focus is.
    pub(crate) fn strike(&self, key: char) {
        let strokes = ["keyDown", "keyUp"].map(|stroke| json!({ "type": stroke, "value": key }));
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": strokes }]);
        self.call("POST", "/actions", &json!({ "actions": actions }));
    }

    /// Shows the page in a window of this width and in light or dark.
    pub(crate) fn show(&self, width: u32, height: u32, theme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": features }));
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", &metrics);
    }

    fn cdp(&self, command: &str, parameters: &Value) {
        self.call("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    /// Saves a screenshot.
    pub(crate) fn screenshot(&self, path: &Path) {
        let picture = self.call("GET", "/screenshot", &Value::Null);
        fs::write(path, base64(picture.as_str().expect("a picture"))).expect("a file for the picture");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // A killed driver would leave its browser running. No second panic in a test that fails already.
            let end = || Http::connect(self.address).ask("DELETE", &self.session, &[], "");
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(end));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(value).collect();
    digits
        .chunks(4)
        .flat_map(|chunk| {
            let bits =
                chunk.iter().enumerate().fold(0_u32, |bits, (i, six)| bits | u32::from(*six) << (18 - 6 * i));
            bits.to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}

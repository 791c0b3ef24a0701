//! The files under `examples/` for other programs: units, images, manifests. The tool for each format checks them, and
//! dproxy checks every command line in them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use dproxy::args::Cli;
use serde_json::Value;

use crate::support::TempDir;
use crate::support::command::{BINARY, clean, dproxy, has_command, run_to_end, text, venv};

fn examples(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder)
}

/// The files of a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(examples(folder)).expect("a folder of examples");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_wanted = |path: &PathBuf| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending));
    let mut files: Vec<PathBuf> = paths.filter(is_wanted).collect();
    files.sort();
    files
}

/// The documents of a YAML file as JSON, read with the Python of that environment.
fn yaml(python: &str, path: &Path) -> Vec<Value> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1], encoding='utf-8')))))";
    let mut command = clean(python);
    command.args(["-c", script]).arg(path);
    let output = run_to_end(command, b"");
    assert!(output.status.success(), "{path:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Parses a command line as a node would.
fn assert_reads(words: &[String], place: &str) {
    let mut line = vec!["dproxy".to_owned()];
    line.extend(words.iter().cloned());
    let read = Cli::command().try_get_matches_from(&line);
    assert!(read.is_ok(), "{place}: {line:?}: {}", read.map(|_| ()).unwrap_err());
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list of words");
    list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
}

/// A file of settings must pass `dproxy check`.
fn assert_checks(settings: &str, place: &str) {
    let directory = TempDir::new();
    let path = directory.path().join("dproxy.toml");
    fs::write(&path, settings).expect("a file");
    let output = dproxy(&["check", "--config", path.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{place}: {}", text(&output.stderr));
}

#[test]
fn units_are_clean() {
    if !has_command("systemd-analyze", "systemd") {
        return;
    }
    let units = files("systemd", &[".service", ".socket"]);
    assert_eq!(units.len(), 6);
    let directory = TempDir::new();
    let mut verify = clean("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for unit in &units {
        // systemd-analyze requires that the program exists.
        let lines = fs::read_to_string(unit).expect("a unit").replace("/usr/local/bin/dproxy", BINARY);
        let copy = directory.path().join(unit.file_name().expect("a name"));
        fs::write(&copy, lines).expect("a copy");
        verify.arg(copy);
    }
    let output = run_to_end(verify, b"");
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

#[test]
fn units_start_what_dproxy_reads() {
    for unit in files("systemd", &[".service"]) {
        let lines = fs::read_to_string(&unit).expect("a unit");
        let line = lines.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/dproxy "));
        let words: Vec<String> = line.expect("a command").split_whitespace().map(str::to_owned).collect();
        assert_reads(&words, &unit.to_string_lossy());
        for needed in
            ["Type=notify", "WatchdogSec=", "DynamicUser=yes", "ProtectSystem=strict", "SystemCallFilter="]
        {
            assert!(lines.contains(needed), "{unit:?} has no {needed}");
        }
        let set: Vec<(String, String)> = lines
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="))
            .flat_map(str::split_whitespace)
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| *name != "DPROXY_CONFIG")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut check = clean(BINARY);
        check.args(["check", &words[0]]).envs(set);
        let output = run_to_end(check, b"");
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    }
    let settings = fs::read_to_string(examples("systemd").join("dproxy.toml")).expect("settings");
    assert_checks(&settings, "examples/systemd/dproxy.toml");
}

/// The manifests: all but the list of them, which is read by kustomize alone.
fn manifests() -> Vec<PathBuf> {
    let mut manifests = files("kubernetes", &[".yaml"]);
    manifests.retain(|path| !path.ends_with("kustomization.yaml"));
    manifests
}

#[test]
fn manifests_keep_to_the_schema() {
    let Some(program) = venv("kubernetes-validate") else { return };
    let mut validate = clean(&program);
    validate.args(["--strict", "--no-warn"]).args(manifests());
    let output = run_to_end(validate, b"");
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.matches(" passed ").count(), 11, "{told}");
}

#[test]
fn a_change_of_the_settings_rolls_the_nodes() {
    let Some(python) = venv("python") else { return };
    let list = yaml(&python, &examples("kubernetes").join("kustomization.yaml")).remove(0);
    let names = words(&list["resources"]);
    assert_eq!(names.len(), manifests().len(), "{names:?}");
    assert!(names.iter().all(|name| examples("kubernetes").join(name).exists()), "{names:?}");
    // A generated ConfigMap has a name of its own for each content.
    let generated = &list["configMapGenerator"][0];
    assert_eq!((&generated["name"], &generated["files"][0]), (&"dproxy".into(), &"dproxy.toml".into()));
    for object in manifests().iter().flat_map(|path| yaml(&python, path)) {
        for volume in object["spec"]["template"]["spec"]["volumes"].as_array().into_iter().flatten() {
            assert!(volume["name"] != "config" || volume["configMap"]["name"] == "dproxy", "{volume}");
        }
    }
}

#[test]
fn manifests_start_what_dproxy_reads() {
    let Some(python) = venv("python") else { return };
    let shared = fs::read_to_string(examples("kubernetes").join("dproxy.toml")).expect("settings");
    assert_checks(&shared, "examples/kubernetes/dproxy.toml");
    let (mut nodes, mut spread, mut guarded) = (0, 0, 0);
    for path in manifests() {
        let place = path.to_string_lossy().into_owned();
        for object in yaml(&python, &path) {
            guarded += usize::from(object["kind"] == "NetworkPolicy");
            let pod = &object["spec"]["template"]["spec"];
            for container in pod["containers"].as_array().into_iter().flatten() {
                nodes += 1;
                assert_reads(&words(&container["args"]), &place);
                for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
                    let asked = &container[probe]["httpGet"];
                    assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &"http".into()), "{place}");
                }
                spread += usize::from(pod["topologySpreadConstraints"].is_array());
                assert!(container["resources"]["limits"]["memory"].is_string(), "{place}");
                let ports = container["ports"].as_array().expect("ports");
                let http = ports.iter().find(|port| port["name"] == "http").expect("a port for HTTP");
                let port = http["containerPort"].to_string();
                let annotations = &object["spec"]["template"]["metadata"]["annotations"];
                assert_eq!(annotations["prometheus.io/port"], port.as_str(), "{place}");
                let wait = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a wait");
                let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace");
                assert!(wait + 10 < grace, "{place}: the drain of 10 s does not fit");
                assert_eq!(pod["enableServiceLinks"], false, "{place}: a service's DPROXY_PORT is no port");
            }
        }
    }
    assert_eq!(shared.matches("http-port = 9080\n").count(), 3);
    assert_eq!((nodes, spread, guarded), (3, 2, 2));
}

#[test]
fn images_start_what_dproxy_reads() {
    let Some(python) = venv("python") else { return };
    let compose = examples("container").join("compose.yaml");
    let services = yaml(&python, &compose).remove(0)["services"].take();
    let services = services.as_object().expect("services");
    assert_eq!(services.keys().map(String::as_str).collect::<Vec<_>>(), ["balancer", "origin", "proxy"]);
    for (name, service) in services {
        assert_reads(&words(&service["command"]), name);
        assert!(service["environment"]["DPROXY_PORT"].is_string(), "{name}: its health check asks the port");
    }
    assert_eq!(services["proxy"]["deploy"]["replicas"], 3);
    let recipe = fs::read_to_string(examples("container").join("Dockerfile")).expect("a recipe");
    let check =
        recipe.lines().find_map(|line| line.trim().strip_prefix("CMD [\"/dproxy\"")).expect("a check");
    let check: Value = serde_json::from_str(&format!("[\"dproxy\"{check}")).expect("a list of words");
    assert_reads(&words(&check)[1..], "Dockerfile");
    assert!(recipe.contains("FROM scratch") && recipe.contains("USER 65532") && recipe.contains("Untried"));
}

#[test]
fn no_example_holds_a_document_for_ever_by_accident() {
    for (folder, endings) in
        [("systemd", &[".toml", ".service"][..]), ("kubernetes", &[".toml"]), ("container", &[".yaml"])]
    {
        let texts =
            files(folder, endings).into_iter().map(|path| fs::read_to_string(path).expect("an example"));
        let all: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let count =
            |words: [&str; 2]| all.iter().filter(|line| words.iter().any(|word| line.contains(word))).count();
        let caches = count(["cache-type = ", "--cache-type, "]);
        assert!(caches > 0, "{folder} has a proxy");
        assert_eq!(count(["ttl = ", "--ttl, "]), caches, "{folder}: each has a time to live");
    }
}

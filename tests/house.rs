//! Proves that the house keeps its plan: who may import whom, no runtime in the wire, no file too long to read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest file, in lines, its tests included.
const LONGEST: usize = 400;

/// Which modules of ours each module may import. A module that is not here may not exist.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("lib", &[]),
    // In tests alone.
    ("fuzz", &[]),
    ("main", &["config", "run", "terminal"]),
    (
        "run",
        &[
            "access_log",
            "admin",
            "args",
            "bench",
            "certificates",
            "client",
            "config",
            "cores",
            "handler",
            "http",
            "lb",
            "memory",
            "net",
            "origin",
            "pool",
            "proxy",
            "simulate",
            "source",
            "stats",
            "terminal",
            "trace",
            "watch",
            "wire",
        ],
    ),
    (
        "args",
        &[
            "access_log",
            "admin",
            "bench",
            "certificates",
            "client",
            "http",
            "lb",
            "net",
            "origin",
            "proxy",
            "simulate",
            "source",
            "terminal",
            "watch",
            "wire",
        ],
    ),
    ("cores", &["per_core"]),
    ("terminal", &[]),
    ("trace", &["lock", "handler", "wire"]),
    ("config", &["fuzz", "args", "memory", "proxy", "terminal"]),
    ("samples", &["wire"]),
    ("watch", &["net", "samples", "terminal", "wire"]),
    ("access_log", &["handler", "lock", "per_core", "stats", "wire"]),
    ("admin", &["wire"]),
    ("certificates", &["lock"]),
    ("blame", &["net", "wire"]),
    ("handler", &["wire"]),
    ("lock", &[]),
    ("memory", &[]),
    ("per_core", &[]),
    ("stats", &["per_core"]),
    ("pool", &[]),
    ("reference", &[]),
    ("wire", &["fuzz"]),
    ("net", &["fuzz", "certificates", "lock", "wire", "handler", "per_core", "stats", "trace"]),
    (
        "http",
        &[
            "fuzz",
            "access_log",
            "lock",
            "wire",
            "handler",
            "per_core",
            "stats",
            "net",
            "pool",
            "samples",
            "trace",
        ],
    ),
    ("origin", &["admin", "certificates", "lock", "wire", "handler", "stats", "pool"]),
    ("source", &["fuzz", "blame", "lock", "net", "pool", "wire"]),
    (
        "proxy",
        &[
            "blame",
            "certificates",
            "lock",
            "wire",
            "handler",
            "stats",
            "net",
            "source",
            "admin",
            "pool",
            "trace",
        ],
    ),
    (
        "lb",
        &["blame", "certificates", "lock", "wire", "handler", "per_core", "stats", "net", "admin", "pool"],
    ),
    ("keylist", &["wire"]),
    ("client", &["keylist", "wire", "net", "terminal"]),
    ("bench", &["lock", "cores", "keylist", "wire", "net", "stats", "terminal"]),
    ("simulate", &["fuzz", "lb", "proxy", "terminal", "wire"]),
];

/// One source file.
struct Source {
    /// Its path beneath `src`.
    name: String,
    /// The first part of it: the module that the table speaks of.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "the sources were found");
    files.into_iter().map(|path| source(&root, &path)).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn source(root: &Path, path: &Path) -> Source {
    let name = path.strip_prefix(root).expect("beneath src").to_str().expect("UTF-8").to_owned();
    let module = name.split(['/', '.']).next().expect("a first part").to_owned();
    Source { name, module, text: fs::read_to_string(path).expect("a source") }
}

/// The modules that a text names behind the root (`crate::`; in `main` the library's name), groups taken apart.
fn imports(text: &str, root: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(root) {
        let before = code[..at].chars().next_back();
        let named_otherwise = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
        if !named_otherwise {
            found.extend(first_names(&code[at + root.len()..]));
        }
    }
    found
}

/// `wire::Key` is `wire`; `{net::Link, wire}` is both.
fn first_names(path: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut depth = 0;
    let mut names = vec![name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The modules that one may import, itself among them; `None` when it has no row.
fn allowed(module: &str) -> Option<Vec<&str>> {
    let (name, others) = MAY_IMPORT.iter().find(|(name, _)| *name == module)?;
    Some([&[*name], *others].concat())
}

#[test]
fn imports_follow_the_table() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(may) = allowed(&source.module) else {
            wrong.push(format!("{} is of a module that is not in the table", source.name));
            continue;
        };
        let root = if source.module == "main" { "dproxy::" } else { "crate::" };
        let imports =
            imports(&source.text, root).into_iter().filter(|import| !may.contains(&import.as_str()));
        wrong.extend(imports.map(|import| format!("{} imports {import}", source.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn roles_do_not_serve_themselves() {
    for source in sources() {
        let role = ["proxy", "lb", "origin", "client"].contains(&source.module.as_str());
        assert!(!(role && source.text.contains("net::server")), "{} knows net::server", source.name);
    }
}

/// The files of a folder that a file in it imports: those that it names behind `super::`.
fn siblings(source: &Source) -> Vec<String> {
    let code = source.text.split("#[cfg(test)]").next().unwrap_or_default();
    imports(code, "super::")
}

#[test]
fn arrows_within_the_balancer_go_one_way() {
    let parts: Vec<Source> = sources().into_iter().filter(|source| source.module == "lb").collect();
    let name = |part: &Source| {
        part.name.strip_prefix("lb/").and_then(|file| file.strip_suffix(".rs")).map(str::to_owned)
    };
    let mut left: Vec<(String, Vec<String>)> =
        parts.iter().filter_map(|part| Some((name(part)?, siblings(part)))).collect();
    // The whole is no import of its parts, and what is deeper than this folder imports within its own.
    left.retain(|(name, _)| name != "mod" && !name.contains('/'));
    assert!(left.len() > 10, "the parts were found");
    loop {
        let names: Vec<String> = left.iter().map(|(name, _)| name.clone()).collect();
        let before = left.len();
        left.retain(|(_, imports)| imports.iter().any(|import| names.contains(import)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these import each other in a circle, or those that do: {left:#?}");
    for part in &parts {
        assert!(!siblings(part).iter().any(|import| import == "Lb"), "{} knows the whole", part.name);
    }
}

#[test]
fn no_two_types_of_one_name_in_one_folder() {
    // Stand-ins for a build without the feature, or for the simulation, have the names of what they stand in for.
    let is_stand_in = |name: &str| {
        name.ends_with("_sim.rs")
            || ["/no_spans.rs", "/no_tls.rs", "/no_signing.rs"].iter().any(|end| name.ends_with(end))
    };
    let mut seen: HashMap<(String, String), String> = HashMap::new();
    for source in sources().into_iter().filter(|source| !is_stand_in(&source.name)) {
        let folder = source.name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        for line in source.text.split("#[cfg(test)]").next().unwrap_or_default().lines() {
            let Some(name) = type_name(line) else { continue };
            let before = seen.insert((folder.clone(), name.clone()), source.name.clone());
            let elsewhere = before.filter(|before| *before != source.name);
            assert!(elsewhere.is_none(), "{name} is in {} and in {elsewhere:?}", source.name);
        }
    }
}

/// The type that a line at the left margin begins to declare.
fn type_name(line: &str) -> Option<String> {
    let declared = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => line,
    };
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let name = kinds.iter().find_map(|kind| declared.strip_prefix(kind))?;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn the_wire_is_pure() {
    for source in sources().into_iter().filter(|source| source.module == "wire") {
        for word in ["tokio", "std::net", "std::time::Instant", "SystemTime", "std::fs", "std::io"] {
            assert!(!source.text.contains(word), "{} names {word}", source.name);
        }
    }
}

#[test]
fn one_folder_names_sockets() {
    for source in sources() {
        let names = source.text.contains("tokio::net") || source.text.contains("TcpStream");
        assert!(!names || source.module == "net", "{} names a socket", source.name);
    }
}

#[test]
fn health_is_checked_by_an_interval() {
    let names = |source: &Source| {
        let words = ["interval(", "MissedTickBehavior::Delay", "select!", ".tick()", ".notified()"];
        source.module == "lb" && words.iter().all(|word| source.text.contains(word))
    };
    assert!(sources().iter().any(names), "the balancer polls its nodes at the ticks of an interval");
}

#[test]
fn no_file_is_too_long_and_each_says_what_it_is() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", source.name);
        assert!(source.text.starts_with("//!"), "{} opens without a word on what it is", source.name);
    }
}

/// Who finds the end of a line without `LinesCodec`: replies on sessions, which are shared without a copy, and the look
/// whether a whole request is held back.
const OWN_FRAMING: [&str; 4] =
    ["bench/session.rs", "net/inbox.rs", "net/link/reading.rs", "net/link/session_io.rs"];

#[test]
fn lines_codec_frames_request_lines_and_plain_lines() {
    // Without tests: theirs may read as they like. A trace on the disk is no line of the wire.
    let code: Vec<(String, String)> = sources()
        .into_iter()
        .filter(|source| source.module != "simulate" && !source.name.ends_with("_tests.rs"))
        .map(|source| (source.name, source.text.split("#[cfg(test)]").next().unwrap_or("").to_owned()))
        .collect();
    let with = |words: &[&str]| -> Vec<&str> {
        let mut names: Vec<&str> = code
            .iter()
            .filter(|(_, text)| words.iter().any(|word| text.contains(word)))
            .map(|(name, _)| &**name)
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(with(&["LinesCodec::"]), ["net/lines.rs"]);
    assert_eq!(with(&["LinesCodec::new_with_max_length"]), ["net/lines.rs"], "with a maximum");
    assert_eq!(with(&["Lines::new("]), ["net/inbox.rs", "net/link/plain.rs"]);
    assert_eq!(with(&["chr(b'\\n'", "read_until(", ".split(b'\\n'"]), OWN_FRAMING);
}

#[test]
fn caches_are_dashmap_backed_but_for_the_exact_lru() {
    let sources = sources();
    let text = |file: &str| {
        let name = format!("proxy/cache/{file}.rs");
        let found = sources.iter().find(|source| source.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).text.as_str()
    };
    assert!(text("ordered").contains("map: DashMap<") && text("lru").contains("entries: LruCache<"));
    for built in ["CacheType::Ttl => Box::new(Ordered::new(", "CacheType::S3fifo => Box::new(Ordered::new("] {
        assert!(text("layout").contains(built), "{built}");
    }
    assert!(text("layout").contains("CacheType::Lru => Box::new(ShardedLru::new("));
}

#[test]
fn the_reader_of_imports_reads() {
    let text = "use crate::{net::{self, Link}, wire};\nfn a() { crate::lb::x(); $crate::stats::y!() } // crate::run\n";
    assert_eq!(imports(text, "crate::"), ["net", "wire", "lb"]);
}

//! Tells the program what it was built from. Nothing here can fail a build: without git there is just no hash.

use std::process::Command;

fn main() {
    let profile = std::env::var("PROFILE").unwrap_or_default();
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    let mut build = vec![profile.clone(), target];
    // Only what is handed out names its commit: a debug build need not be made anew for each.
    if profile == "release" {
        for file in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", file]) {
                println!("cargo:rerun-if-changed={path}");
            }
        }
        build.extend(git(&["describe", "--always", "--dirty", "--exclude=*"]));
    }
    build.retain(|part| !part.is_empty());
    println!("cargo:rustc-env=BUILT_FROM={}", build.join(", "));
}

/// What a git command prints on one line, if there is git and a repository.
fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

//! Where documents come from, as people write it: a directory, a node, or the URL of an API.

use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "https")]
use super::bucket;
use super::proxy::FETCHING;
use crate::net::link::Peer;
use crate::source::http::{Bucket, OriginHeader, Template};

/// A place that documents come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A directory of files.
    Dir(PathBuf),
    /// An origin or a proxy, `dproxy://host:port`.
    Node(Peer),
    /// An API, `http://` or `https://`, or a bucket.
    Api(Api),
}

/// An API, or a bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Api {
    /// The URLs of documents.
    pub template: Template,
    /// What it takes to read a bucket.
    pub bucket: Option<Bucket>,
}

/// How requests to an API look.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = FETCHING)]
pub struct ApiArgs {
    /// A header of each request to an API, 'Name: value'; @FILE at its end stands for what the file holds, which is read
    /// anew when it changes; may be given several times [default: none].
    #[arg(long, env = "DPROXY_ORIGIN_HEADER", value_parser = str::parse::<OriginHeader>, value_name = "HEADER", num_args = 1)]
    pub origin_header: Vec<OriginHeader>,
    /// A file of the root certificates to trust at an API, in PEM [default: those of the system].
    #[arg(long, env = "DPROXY_ORIGIN_CA", value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub origin_ca: Option<PathBuf>,
}

/// A value of `--data`: a directory, or a URL.
pub(super) fn data(text: &str) -> Result<Place, String> {
    match place(text)? {
        Place::Node(_) => {
            Err("an origin is no source of its own: write a directory, or a URL of http or https".to_owned())
        }
        place => Ok(place),
    }
}

/// A value of `--origin`: a URL.
pub(super) fn origin(text: &str) -> Result<Place, String> {
    if !text.contains("://") {
        return Err(
            "write a URL such as https://api.example.com/v1/{path} or dproxy://127.0.0.1:8000".to_owned()
        );
    }
    match place(text)? {
        Place::Dir(_) => {
            Err("a proxy reads no directory: run dproxy origin --data DIR, and give its address".to_owned())
        }
        place => Ok(place),
    }
}

fn place(text: &str) -> Result<Place, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return match text {
            "" => Err("write a directory".to_owned()),
            text => Ok(Place::Dir(text.into())),
        };
    };
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "s3" | "gs" if cfg!(not(feature = "https")) => {
            Err("this build has no https: build it with the feature https".to_owned())
        }
        "http" | "https" => text
            .parse()
            .map(|template| Place::Api(Api { template, bucket: None }))
            .map_err(|error: crate::source::http::TemplateError| error.to_string()),
        "dproxy" => rest
            .trim_end_matches('/')
            .parse()
            .map(Place::Node)
            .map_err(|_| "write it as dproxy://host:port, such as dproxy://127.0.0.1:8000".to_owned()),
        "file" if rest.starts_with('/') => Ok(Place::Dir(rest.into())),
        "file" => Err("write a whole path, such as file:///srv/data".to_owned()),
        #[cfg(feature = "https")]
        "s3" => bucket::s3(rest, |name| std::env::var(name).ok()).map(Place::Api),
        #[cfg(feature = "https")]
        "gs" => bucket::gs(rest).map(Place::Api),
        "az" => Err("write https://ACCOUNT.blob.core.windows.net/CONTAINER/{path}.json?SAS, with the token of a shared access signature".to_owned()),
        _ => Err(format!("{scheme}:// is no source; write a directory, http://, https://, s3://, gs:// or dproxy://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        assert_eq!(data("data"), Ok(Place::Dir("data".into())));
        assert_eq!(data("file:///srv/data"), Ok(Place::Dir("/srv/data".into())));
        assert!(matches!(data("http://a/{path}"), Ok(Place::Api(_))));
        assert!(matches!(origin("HTTP://a"), Ok(Place::Api(_))));
        assert_eq!(origin("dproxy://a:80/"), Ok(Place::Node("a:80".parse().unwrap())));
        for (text, word) in [
            ("", "directory"),
            ("s3://B", "no bucket"),
            ("az://account/container", "blob.core.windows.net"),
            ("ftp://a", "ftp:// is no source"),
            ("file://data", "whole path"),
            ("dproxy://a:80", "no source of its own"),
            ("http://a/{id}", "{path}"),
            ("http://me:secret@a/", "--origin-header"),
        ] {
            assert!(data(text).is_err_and(|why| why.contains(word)), "{text}");
        }
        for (text, word) in [("a:80", "URL"), ("file:///srv", "dproxy origin"), ("dproxy://a", "host:port")] {
            assert!(origin(text).is_err_and(|why| why.contains(word)), "{text}");
        }
    }
}

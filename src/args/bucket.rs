//! The URL of a bucket, and the credentials for it: from the variables and files of AWS' own tools.

use std::path::PathBuf;

use super::place::Api;
use crate::source::http::{Bucket, Credentials, Keys, Template};

/// Where Google's buckets are.
const GOOGLE: &str = "https://storage.googleapis.com";

/// `s3://bucket/prefix`, behind its scheme; `variable` reads the environment.
pub(super) fn s3(rest: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Api, String> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let (bucket, path) = parts(rest)?;
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| "us-east-1".to_owned());
    if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("AWS_REGION is {region:?}: a region is written as eu-west-1 is"));
    }
    let base = match variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")) {
        Some(endpoint) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
        // A certificate for *.s3… is not one for names with more dots.
        None if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    };
    let bucket = Bucket { region, credentials: credentials(variable)? };
    Ok(Api { template: template(&base, path)?, bucket: Some(bucket) })
}

/// `gs://bucket/prefix`, behind its scheme. Its token comes as a header.
pub(super) fn gs(rest: &str) -> Result<Api, String> {
    let (bucket, path) = parts(rest)?;
    let asked = Bucket { region: String::new(), credentials: None };
    Ok(Api { template: template(&format!("{GOOGLE}/{bucket}"), path)?, bucket: Some(asked) })
}

/// The bucket and the path in it.
fn parts(rest: &str) -> Result<(&str, &str), String> {
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    if bucket.len() < 3 || bucket.len() > 63 || !bucket.bytes().all(is_plain) {
        return Err(format!("{bucket:?} is no bucket: its name has 3 to 63 of a-z 0-9 . - _"));
    }
    match path.contains('?') {
        true => Err("a bucket has no query: write s3://bucket/prefix".to_owned()),
        false => Ok((bucket, path)),
    }
}

/// Without braces the objects are `<prefix>/<resource>/<key>.json`.
fn template(base: &str, path: &str) -> Result<Template, String> {
    let path = match path.trim_end_matches('/') {
        path if path.contains(['{', '}']) => path.to_owned(),
        "" => "{path}.json".to_owned(),
        prefix => format!("{prefix}/{{path}}.json"),
    };
    format!("{base}/{path}").parse().map_err(|error: crate::source::http::TemplateError| error.to_string())
}

/// Variables, else a file; `None` asks as anybody.
fn credentials(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Credentials>, String> {
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = variable("AWS_SESSION_TOKEN");
            return Ok(Some(Credentials::Keys(Keys { id, secret, token })));
        }
        (None, None) => {}
        _ => return Err("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together".to_owned()),
    }
    let profile = variable("AWS_PROFILE");
    let named = variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let usual = variable("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let file = named.or_else(|| usual.filter(|usual| profile.is_some() || usual.exists()));
    if let Some(path) = file {
        let profile = profile.unwrap_or_else(|| "default".to_owned());
        return Ok(Some(Credentials::File { path, profile }));
    }
    let roles = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    ];
    match roles.into_iter().find(|name| variable(name).is_some()) {
        Some(role) => Err(format!(
            "{role} names a role, which dproxy cannot take on: let AWS_SHARED_CREDENTIALS_FILE name a file that is kept up to date"
        )),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str, variables: &[(&str, &str)]) -> Result<Api, String> {
        s3(url, |name| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_bucket_is_a_host_or_a_path() {
        for (url, variables, template) in [
            ("docs", &[][..], "https://docs.s3.us-east-1.amazonaws.com/{path}.json"),
            ("docs/", &[("AWS_REGION", "eu-west-1")], "https://docs.s3.eu-west-1.amazonaws.com/{path}.json"),
            (
                "a.docs/v1/",
                &[("AWS_DEFAULT_REGION", "x-1")],
                "https://s3.x-1.amazonaws.com/a.docs/v1/{path}.json",
            ),
            ("docs/v1", &[("AWS_ENDPOINT_URL", "http://h:9000/")], "http://h:9000/docs/v1/{path}.json"),
            (
                "docs/{resource}-{key}",
                &[("AWS_REGION", "")],
                "https://docs.s3.us-east-1.amazonaws.com/{resource}-{key}",
            ),
        ] {
            assert_eq!(of(url, variables).unwrap().template.to_string(), template, "{url}");
        }
        assert_eq!(
            gs("docs/v1").unwrap().template.to_string(),
            "https://storage.googleapis.com/docs/v1/{path}.json"
        );
    }

    #[test]
    fn keys_are_of_variables_or_of_a_file() {
        let of = |variables: &[(&str, &str)]| {
            of("docs", variables).map(|api| format!("{:?}", api.bucket.unwrap().credentials))
        };
        let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "b"), ("HOME", "/h")];
        assert_eq!(of(&keys).unwrap(), "Some(A: …)");
        assert_eq!(
            of(&[("AWS_PROFILE", "eu"), ("HOME", "/h")]).unwrap(),
            "Some([eu] of \"/h/.aws/credentials\")"
        );
        assert_eq!(of(&[("AWS_SHARED_CREDENTIALS_FILE", "/c")]).unwrap(), "Some([default] of \"/c\")");
        assert_eq!(of(&[("HOME", "/no/such/home")]).unwrap(), "None");
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for (url, variables, word) in [
            ("", &[][..], "no bucket"),
            ("Docs", &[], "no bucket"),
            ("docs/a?b", &[], "no query"),
            ("docs/{id}", &[], "{path}"),
            ("docs", &[("AWS_ACCESS_KEY_ID", "A")], "go together"),
            ("docs", &[("AWS_REGION", "a.evil/")], "a region"),
            ("docs", &[("AWS_ENDPOINT_URL", "h:9000")], "http"),
            ("docs", &[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")], "a role"),
        ] {
            assert!(of(url, variables).is_err_and(|why| why.contains(word)), "{url} {variables:?}");
        }
    }
}

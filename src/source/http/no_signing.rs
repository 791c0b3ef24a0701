//! Buckets in a build without TLS: there are none.

use std::convert::Infallible;
use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::header::HeaderValue;

/// A bucket, where it takes more than its URL to read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket(Infallible);

pub(super) struct Signer(Infallible);

impl Signer {
    #[expect(clippy::needless_pass_by_value, reason = "as what it stands in for takes it")]
    pub(super) fn open(bucket: Bucket) -> Result<Self, String> {
        match bucket.0 {}
    }

    pub(super) async fn sign(&self, _: &HeaderValue, _: &str, _: SystemTime, _: &mut HeaderMap) {
        match self.0 {}
    }
}
